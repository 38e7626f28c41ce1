"""Torchvision's Faster R-CNN, small, on a mobile backbone: timm's EfficientNet-Lite0 with a pyramid of its features."""

from collections import OrderedDict

import timm
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork

NUM_CLASSES = 4
"""Background, and three kinds of cells."""
HEIGHT, WIDTH = 240, 320


class Backbone(nn.Module):
    """Features at strides of 8, 16 and 32."""

    def __init__(self, channels: int = 64):
        super().__init__()
        self.body = timm.create_model(
            "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2, 3, 4)
        )
        self.pyramid = FeaturePyramidNetwork(self.body.feature_info.channels(), channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.pyramid(OrderedDict(zip("012", self.body(images), strict=True)))


def build() -> FasterRCNN:
    """Its weights are no pre-trained ones; scores down to 0.01 are kept, for a threshold ruins the precision."""
    anchors = AnchorGenerator(((24, 40), (48, 72), (112, 160)), ((0.75, 1.0, 1.33),) * 3)
    backbone = Backbone()
    return FasterRCNN(
        backbone, box_head=TwoMLPHead(backbone.out_channels * 7 * 7, 128),
        box_predictor=FastRCNNPredictor(128, NUM_CLASSES), min_size=HEIGHT, max_size=WIDTH,
        rpn_anchor_generator=anchors, rpn_pre_nms_top_n_train=400, rpn_post_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=300, rpn_post_nms_top_n_test=150, box_batch_size_per_image=96,
        rpn_batch_size_per_image=128, box_score_thresh=0.01, box_detections_per_img=60, image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )  # fmt: skip
