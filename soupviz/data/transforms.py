"""From an image file to the uint8 tensor that is kept, and from there to what the model is fed."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from soupviz.config import TransformSpec
from soupviz.errors import DataError

NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)
BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)
ROTATE = (5.0, 10.0, 15.0, 20.0, 30.0)
JPEG = (80, 65, 58, 50, 40)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """to_uint8 makes the kept array (channels, height, width); mean and std are applied at evaluation.

    description: all that the result depends on, as plain data.
    """

    description: tuple[object, ...]
    to_uint8: Callable[[Image.Image, int], np.ndarray]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def pipeline(spec: TransformSpec | None, model: nn.Module) -> Pipeline:
    """The steps of a transform, in the order that DESIGN gives.

    Raises:
        DataError: a preset that does not exist.
    """
    spec = spec or TransformSpec()  # type: ignore[call-arg]
    size: Size = (spec.resize, spec.crop or spec.resize, spec.interpolation)
    values = (spec.mean or (0.0,) * spec.channels, spec.std or (1.0,) * spec.channels)
    if spec.preset:
        size, values = _preset(spec.preset, model)
    (resize, crop, interpolation), (mean, std) = size, values
    mode = "L" if spec.channels == 1 else "RGB"

    def to_uint8(image: Image.Image, index: int) -> np.ndarray:
        from torchvision.transforms import functional as F
        from torchvision.transforms.functional import InterpolationMode

        # A preset means what its library does, on PIL images, which are rounded after the rows and again after the
        # columns; a resize of the kitchen's own is done on tensors, in float32, and rounded to uint8 once.
        picture = image.convert(mode)
        pixels = picture if spec.preset else F.pil_to_tensor(picture)
        if resize:
            pixels = F.resize(pixels, [resize], interpolation=InterpolationMode(interpolation), antialias=True)
        if crop:
            pixels = F.center_crop(pixels, [crop])
        if spec.corrupt:
            whole = pixels if spec.preset else F.to_pil_image(pixels)
            pixels = corrupt(whole, spec.corrupt, spec.severity, index)
        array: np.ndarray = (pixels if isinstance(pixels, Tensor) else F.pil_to_tensor(pixels)).numpy()
        return array

    description = (mode, resize, crop, interpolation, spec.corrupt, spec.corrupt and spec.severity, mean, std)
    return Pipeline(description, to_uint8, tuple(mean), tuple(std))


Size = tuple[int | None, int | None, str]
Values = tuple[tuple[float, ...], tuple[float, ...]]


def _preset(name: str, model: nn.Module) -> tuple[Size, Values]:
    """((resize, crop, interpolation), (mean, std)) of a torchvision preset, or of a timm model's own."""
    if name == "timm":
        config = getattr(model, "pretrained_cfg", None)
        if not config:
            raise DataError("transform.preset is 'timm', but the model is not timm's; name a torchvision preset.")
        crop = config["input_size"][-1]
        size = (int(crop / config["crop_pct"]), crop, config["interpolation"])
        return size, (tuple(config["mean"]), tuple(config["std"]))
    import torchvision

    try:
        preset = torchvision.models.get_weight(name).transforms()
    except (ValueError, AttributeError, KeyError):
        raise DataError(
            f"transform.preset is {name!r}; expected timm or a torchvision name such as ResNet50_Weights.IMAGENET1K_V2."
        ) from None
    size = (preset.resize_size[0], preset.crop_size[0], preset.interpolation.value)
    return size, (tuple(preset.mean), tuple(preset.std))


def corrupt(image: Image.Image, name: str, severity: int, index: int) -> Image.Image:
    """Damage an image, by severity 1 to 5; noise is drawn from a generator seeded by the example's index.

    gaussian_noise: standard deviation 0.04, 0.06, 0.08, 0.09, 0.10 of the range. gaussian_blur: radius 0.4, 0.6,
    0.7, 0.8, 1.0 pixels for each 32 of the short side. contrast: factor 0.75, 0.5, 0.4, 0.3, 0.15 about the mean.
    brightness: adds 0.05, 0.1, 0.15, 0.2, 0.3 of the range. pixelate: shrinks to 0.95, 0.9, 0.85, 0.75, 0.65 and
    back. rotate: 5, 10, 15, 20, 30 degrees, to the left or right. jpeg: quality 80, 65, 58, 50, 40.

    Source:
        Hendrycks and Dietterich 2019, CIFAR-10-C's severities. Differs: rotate is ours; blur scales with the image.
    """
    level = severity - 1
    generator = np.random.default_rng(index)
    if name == "gaussian_blur":
        return image.filter(ImageFilter.GaussianBlur(BLUR[level] * min(image.size) / 32))
    if name == "rotate":
        return image.rotate(ROTATE[level] * generator.choice([-1, 1]), resample=Image.Resampling.BILINEAR)
    if name == "pixelate":
        small = [max(1, round(side * PIXELATE[level])) for side in image.size]
        return image.resize((small[0], small[1]), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
    if name == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG[level])
        return Image.open(buffer).convert(image.mode)
    pixels = np.asarray(image, dtype=np.float64) / 255
    if name == "gaussian_noise":
        pixels = pixels + generator.normal(scale=NOISE[level], size=pixels.shape)
    elif name == "contrast":
        mean = pixels.mean(axis=(0, 1), keepdims=True)
        pixels = (pixels - mean) * CONTRAST[level] + mean
    else:
        pixels = pixels + BRIGHTNESS[level]
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8), image.mode)


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 images (batch, channels, height, width) as the model's float32 input: /255, less mean, over std."""
    shape = (1, -1, 1, 1)
    floats = images.to(torch.float32).div_(255)
    floats.sub_(torch.tensor(mean, device=images.device).view(shape))
    return floats.div_(torch.tensor(std, device=images.device).view(shape))
