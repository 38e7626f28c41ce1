"""A small U-Net: half and a quarter of the size on the way down, and up again beside what was there."""

import torch
from torch import Tensor, nn

NUM_CLASSES = 11
"""Ground, and ten digits."""


def convolutions(before: int, after: int) -> nn.Module:
    one, other = (nn.Conv2d(channels, after, 3, padding=1) for channels in (before, after))
    return nn.Sequential(one, nn.BatchNorm2d(after), nn.ReLU(), other, nn.BatchNorm2d(after), nn.ReLU())


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.large, self.middle, self.small = convolutions(1, 16), convolutions(16, 32), convolutions(32, 64)
        self.middle_again, self.large_again = convolutions(64 + 32, 32), convolutions(32 + 16, 16)
        self.head = nn.Conv2d(16, NUM_CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of each pixel, shape (batch, 11, height, width), of images, shape (batch, 1, height, width)."""
        large = self.large(images)
        middle = self.middle(nn.functional.max_pool2d(large, 2))
        small = self.small(nn.functional.max_pool2d(middle, 2))
        middle = self.middle_again(torch.cat([middle, twice(small)], 1))
        return self.head(self.large_again(torch.cat([large, twice(middle)], 1)))  # type: ignore[no-any-return]


def twice(images: Tensor) -> Tensor:
    return nn.functional.interpolate(images, scale_factor=2.0)


def build() -> nn.Module:
    return UNet()
