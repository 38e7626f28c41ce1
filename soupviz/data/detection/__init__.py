"""Boxes of objects, as COCO and YOLO have them, beside their images."""
