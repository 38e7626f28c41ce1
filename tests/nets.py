"""Small networks whose units can be followed, one for each way in which units are passed on."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
ROWS = torch.randn(16, 6, generator=torch.Generator().manual_seed(2))
TOKENS = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(3))
VOLUMES = torch.randn(3, 2, 6, 6, 6, generator=torch.Generator().manual_seed(4))
WORDS = torch.randint(0, 20, (4, 7), generator=torch.Generator().manual_seed(5))


class Block(nn.Module):
    """A residual block as in a ResNet, with a convolution on the shortcut where the width changes."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu_(out)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.Sequential(Block(6, 6), Block(6, 10), Block(10, 10))
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.max_pool2d(self.blocks(F.silu(self.stem(x))), 2).mean(dim=(2, 3)))


class Normalised(nn.Module):
    """LayerNorm before each layer, a residual connection, and tokens that are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.norm1, self.norm2, self.head = nn.LayerNorm(8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.place = nn.Parameter(torch.randn(1, 5, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) + self.place
        x = x + self.third(F.gelu(self.second(self.norm1(x))))
        return self.head(self.norm2(x).mean(1))


class Depthwise(nn.Module):
    """A depthwise convolution, a gate on each channel (squeeze and excitation), and one scale for each."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = nn.Conv2d(3, 9, 1), nn.Conv2d(9, 9, 3, padding=1, groups=9)
        self.norm, self.one = nn.BatchNorm2d(9), nn.GroupNorm(1, 9)
        self.squeeze, self.excite = nn.Conv2d(9, 4, 1), nn.Conv2d(4, 9, 1)
        self.scale = nn.Parameter(torch.randn(9, 1, 1))
        self.last = nn.LayerNorm(9)
        self.head = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.depthwise(self.expand(x))))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        x = x + self.scale * self.one(x)
        x = self.last(x.permute(0, 2, 3, 1)).transpose(1, 3)
        return self.head(F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(20, 6), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.hidden(self.embedding(ids).mean(1)).tanh())}


class Pair(nn.Module):
    """Two named inputs, whose layers' units are added."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.head(F.relu(self.left(one) + self.right(other)))


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 5, 3), nn.GELU(), nn.Flatten(), nn.Linear(20, 7), nn.BatchNorm1d(7), nn.SiLU(), nn.Linear(7, 3),
    )  # fmt: skip


def volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 6, 3), nn.BatchNorm3d(6), nn.Hardswish(), nn.AvgPool3d(2), nn.Flatten(2),
        nn.Conv1d(6, 7, 3), nn.Sigmoid(), nn.AdaptiveMaxPool1d(2), nn.Flatten(), nn.Linear(14, 3),
    )  # fmt: skip


NETS: Mapping[str, tuple[Callable[[], nn.Module], Mapping[str, Tensor]]] = {
    "plain": (plain, {"": ROWS}),
    "convolutional": (convolutional, {"": IMAGES}),
    "volumes": (volumes, {"": VOLUMES}),
    "residual": (Residual, {"": IMAGES}),
    "normalised": (Normalised, {"": TOKENS}),
    "depthwise": (Depthwise, {"": IMAGES}),
    "words": (Words, {"ids": WORDS}),
    "pair": (Pair, {"one": ROWS, "other": ROWS.flip(0)}),
}
"""Each with a batch for it."""


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode, with a number of its own in every place, and variances that are positive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / fan_in**0.5)
    return model.eval().requires_grad_(False)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's numbers, in tensors of their own."""
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def shuffles(sizes: Mapping[str, int], seed: int = 0) -> dict[str, Tensor]:
    """A random permutation for each group."""
    generator = torch.Generator().manual_seed(seed)
    return {group: torch.randperm(size, generator=generator) for group, size in sizes.items()}


def library_net(name: str, **options: object) -> nn.Module:
    """A net of torchvision's with ten classes, every number in it random."""
    import torchvision

    build = getattr(torchvision.models, name)
    with torch.random.fork_rng(devices=[]):
        return randomised(build(num_classes=10, **options))
