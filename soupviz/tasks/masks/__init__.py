"""Segmentation, judged by pixels."""
