"""Detection, judged as COCO does."""
