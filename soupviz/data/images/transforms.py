"""From an image file to the uint8 tensor that is kept, and from there to what the model is fed."""

import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from soupviz.errors import DataError
from soupviz.extras import needed
from soupviz.models.usercode import guarded
from soupviz.spec import TransformSpec

if TYPE_CHECKING:
    from PIL import Image

SEVERITIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "gaussian_noise": ("standard deviation, as a share of the range", (0.04, 0.06, 0.08, 0.09, 0.10)),
    "gaussian_blur": ("radius in pixels for each 32 of the short side", (0.4, 0.6, 0.7, 0.8, 1.0)),
    "contrast": ("factor about the mean", (0.75, 0.5, 0.4, 0.3, 0.15)),
    "brightness": ("what is added, as a share of the range", (0.05, 0.1, 0.15, 0.2, 0.3)),
    "pixelate": ("what it is shrunk to before it is enlarged again", (0.95, 0.9, 0.85, 0.75, 0.65)),
    "rotate": ("degrees, to the left or right", (5.0, 10.0, 15.0, 20.0, 30.0)),
    "jpeg": ("quality", (80.0, 65.0, 58.0, 50.0, 40.0)),
}
"""Of each corruption, what its number means, and the number at severity 1 to 5."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """to_uint8 makes the kept array (channels, height, width); mean and std are applied at evaluation.

    description: all that the result depends on, as plain data.
    """

    description: tuple[object, ...]
    to_uint8: Callable[["Image.Image", int], np.ndarray]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def pipeline(spec: TransformSpec | None, model: nn.Module, *, is_whole: bool = False) -> Pipeline:
    """The steps of a transform, in the order that DESIGN gives.

    Args:
        is_whole: nothing is cut off that `crop` does not name.
    Raises:
        DataError: a preset that does not exist, or that is none for classification.
    """
    spec = spec or TransformSpec()  # type: ignore[call-arg]
    steps = _steps(spec, model, is_whole=is_whole)

    def to_uint8(image: "Image.Image", index: int) -> np.ndarray:
        from torchvision.transforms import functional as F

        pixels = steps.cut(_opaque(image).convert(steps.mode))
        if spec.corrupt:
            whole = F.to_pil_image(pixels) if isinstance(pixels, Tensor) else pixels
            pixels = corrupt(whole, spec.corrupt, spec.severity, index)
        array: np.ndarray = (pixels if isinstance(pixels, Tensor) else F.pil_to_tensor(pixels)).numpy()
        return array

    described = (steps.mode, *steps.described, spec.corrupt, spec.corrupt and spec.severity, steps.mean, steps.std)
    return Pipeline(described, to_uint8, steps.mean, steps.std)


def _opaque(image: "Image.Image") -> "Image.Image":
    """The picture without the transparency of each colour of a palette, of which Pillow warns and takes no notice."""
    if not isinstance(image.info.get("transparency"), bytes):
        return image
    image = image.copy()
    del image.info["transparency"]
    return image


@dataclass(frozen=True, slots=True)
class Steps:
    """What comes before a corruption, and the values after it.

    mode: Pillow's name of the colours. described: whose resizing and cropping it is, and all its numbers. cut: makes a
    picture of a picture, or a tensor. size: what is resized and cropped to, where it is nothing else that is done.
    """

    mode: str
    described: tuple[object, ...]
    cut: Callable[["Image.Image"], Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int | tuple[int, int] | None, int | None] | None = None


def _steps(spec: TransformSpec, model: nn.Module, *, is_whole: bool) -> Steps:
    """A preset means what its library does, on PIL images; a resize of the kitchen's own is done on tensors.

    PIL images are rounded after the rows and again after the columns, tensors to uint8 once.
    """
    if spec.preset == "timm":
        return _timm(spec.args, model)
    if spec.preset:
        return _torchvision(spec.preset)
    crop = spec.crop or (spec.resize if isinstance(spec.resize, int) and not is_whole else None)

    def cut(image: "Image.Image") -> Any:
        from torchvision.transforms import functional as F

        return _resized(F.pil_to_tensor(image), spec.resize, crop, spec.interpolation)

    mean, std = spec.mean or (0.0,) * spec.channels, spec.std or (1.0,) * spec.channels
    described = ("tensors", spec.resize, crop, spec.interpolation)
    return Steps("L" if spec.channels == 1 else "RGB", described, cut, mean, std, (spec.resize, crop))


def _resized(pixels: Any, resize: int | tuple[int, int] | None, crop: int | None, interpolation: str) -> Any:
    from torchvision.transforms import functional as F
    from torchvision.transforms.functional import InterpolationMode

    if resize:
        size = [resize] if isinstance(resize, int) else list(resize)
        pixels = F.resize(pixels, size, interpolation=InterpolationMode(interpolation), antialias=True)
    return F.center_crop(pixels, [crop]) if crop else pixels


def _torchvision(name: str) -> Steps:
    with needed(f"transform.preset {name}", DataError):
        import torchvision
    try:
        preset = torchvision.models.get_weight(name).transforms()
        crop = preset.crop_size[0] if hasattr(preset, "crop_size") else None  # those of segmentation have none
        size = (preset.resize_size[0], crop, preset.interpolation.value)
    except (ValueError, AttributeError, KeyError):
        raise DataError(
            f"transform.preset is {name!r}; expected timm or a torchvision name of a classifier such as "
            "ResNet50_Weights.IMAGENET1K_V2, or of a segmentation."
        ) from None
    mean, std = tuple(preset.mean), tuple(preset.std)
    return Steps("RGB", ("PIL", *size), lambda image: _resized(image, *size), mean, std, size[:2])


def _timm(arguments: Mapping[str, Any], model: nn.Module) -> Steps:
    """What timm itself does with the model's configuration and the arguments, but for the division and what follows."""
    if not getattr(model, "pretrained_cfg", None):
        raise DataError("transform.preset is 'timm', but the model is not timm's; name a torchvision preset.")
    timm_data: Any = importlib.import_module("timm.data")
    with guarded(lambda told: DataError(f"transform.args {dict(arguments)} are not taken by timm: {told}")):
        config = timm_data.resolve_data_config(dict(arguments), model=model)
        cut = timm_data.create_transform(**config, normalize=False)
    mode = "L" if config["input_size"][0] == 1 else "RGB"
    return Steps(mode, ("timm", *sorted(config.items())), cut, tuple(config["mean"]), tuple(config["std"]))


def mask_cut(where: str, spec: TransformSpec | None) -> Callable[[np.ndarray], np.ndarray]:
    """What a transform does to the mask of an image: each pixel is that of the nearest one, as Pillow has it.

    What it gives raises ValueError, in words that follow a file's name, where a mask is too small to be cropped.

    Raises:
        DataError: the transform does to images what is not done to masks.
    """
    spec = spec or TransformSpec()  # type: ignore[call-arg]
    size = None if spec.preset == "timm" else _steps(spec, nn.Identity(), is_whole=False).size
    if size is None or spec.corrupt == "rotate":
        odd = "preset timm" if size is None else "corrupt rotate"
        raise DataError(
            f"{where}.transform: {odd} moves the pixels of an image, and nothing here moves those of its mask; give "
            "`resize`, `mean` and `std`, and another corruption."
        )
    resize, crop = size

    def cut(mask: np.ndarray) -> np.ndarray:
        pixels: Tensor = _resized(torch.from_numpy(mask)[None], resize, None, "nearest-exact")
        if crop and min(pixels.shape[1:]) < crop:
            raise ValueError(
                f"has {pixels.shape[2]} x {pixels.shape[1]} pixels, fewer than the crop of {crop}: what lies beyond an "
                "image has no class. Give the transform a smaller crop, or `resize: [height, width]`."
            )
        return np.asarray(_resized(pixels, None, crop, "nearest-exact")[0].numpy())

    return cut


def corrupt(image: "Image.Image", name: str, severity: int, index: int) -> "Image.Image":
    """Damage an image, by severity 1 to 5; noise is drawn from a generator seeded by the example's index.

    Source:
        Hendrycks and Dietterich 2019, CIFAR-10-C's severities. Differs: rotate is ours; blur scales with the image.
    """
    from PIL import Image, ImageFilter

    amount = SEVERITIES[name][1][severity - 1]
    generator = np.random.default_rng(index)
    if name == "gaussian_blur":
        return image.filter(ImageFilter.GaussianBlur(amount * min(image.size) / 32))
    if name == "rotate":
        return image.rotate(amount * generator.choice([-1, 1]), resample=Image.Resampling.BILINEAR)
    if name == "pixelate":
        small = [max(1, round(side * amount)) for side in image.size]
        return image.resize((small[0], small[1]), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
    if name == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(amount))
        return Image.open(buffer).convert(image.mode)
    pixels = np.asarray(image, dtype=np.float64) / 255
    if name == "gaussian_noise":
        pixels = pixels + generator.normal(scale=amount, size=pixels.shape)
    elif name == "contrast":
        mean = pixels.mean(axis=(0, 1), keepdims=True)
        pixels = (pixels - mean) * amount + mean
    else:
        pixels = pixels + amount
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8), image.mode)


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 images (batch, channels, height, width) as the model's float32 input: /255, less mean, over std."""
    shape = (1, -1, 1, 1)
    floats = images.to(torch.float32).div_(255)
    floats.sub_(torch.tensor(mean, device=images.device).view(shape))
    return floats.div_(torch.tensor(std, device=images.device).view(shape))
