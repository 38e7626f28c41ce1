"""timm's EfficientNet-Lite0 with a logit for each kind of cell, on tiles as they lie in the file of arrays."""

import timm
from torch import Tensor, nn

NUM_CLASSES = 3


class Tiles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=NUM_CLASSES)

    def forward(self, tiles: Tensor) -> Tensor:
        """Logits, shape (batch, 3), of tiles with values from 0 to 255, shape (batch, 3, 96, 96)."""
        return self.upper(self.lower(tiles))

    def lower(self, tiles: Tensor) -> Tensor:
        """What the first layers make of tiles, which no fine-tune changes."""
        found = self.net.bn1(self.net.conv_stem(tiles.float() / 127.5 - 1))
        return self.net.blocks[:3](found)  # type: ignore[no-any-return]

    def upper(self, found: Tensor) -> Tensor:
        last = self.net.bn2(self.net.conv_head(self.net.blocks[3:](found)))
        return self.net.forward_head(last)  # type: ignore[no-any-return]


def build() -> nn.Module:
    return Tiles()
