"""Scikit-learn's handwritten digits, laid over each other: fine-tunes of a small U-Net, for the task segmentation."""

from examples import need

need("sklearn")
