"""The keys of an image's transform."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from soupviz.spec.base import Spec

CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "contrast", "brightness", "pixelate", "rotate", "jpeg")

Pixels = Annotated[int, Field(gt=0)]


class TransformSpec(Spec):
    """How an image becomes the model's input.

    The steps are done in this order: colour, `resize`, `crop`, `corrupt`, division by 255, `mean`, `std`. What comes
    before the division is done once and kept. Without a transform images are RGB, divided by 255.
    """

    preset: str | None = Field(
        None,
        description="a torchvision name such as `ResNet50_Weights.IMAGENET1K_V2`, or `timm` for the model's own, its "
        "crop mode too; goes only with `corrupt`, `severity` and `args`",
    )
    args: dict[str, Any] = Field(
        {}, description="with `timm`: what its `resolve_data_config` takes, such as `{input_size: [3, 32, 32]}`"
    )
    channels: Literal[1, 3] = Field(3, description="3 for RGB, 1 for greyscale")
    resize: Pixels | tuple[Pixels, Pixels] | None = Field(
        None,
        description="pixels of the short side; `[height, width]` squashes the image to exactly that, as many of "
        "transformers' preprocessors do; default: as it is",
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] = Field("bilinear", description="of the resize")
    crop: int | None = Field(
        None, gt=0, description="pixels of the square cut from the centre; default: `resize`, where that is one number"
    )
    corrupt: Literal[CORRUPTIONS] | None = Field(None, description="how the image is damaged")  # type: ignore[valid-type]
    severity: int = Field(3, ge=1, le=5, description="of the corruption")
    mean: tuple[float, ...] | None = Field(None, description="subtracted, for each channel, in [0, 1]; default: 0")
    std: tuple[float, ...] | None = Field(None, description="divided by, for each channel, in [0, 1]; default: 1")

    @model_validator(mode="after")
    def _agree(self) -> "TransformSpec":
        if self.preset and self.model_fields_set - {"preset", "args", "corrupt", "severity"}:
            raise ValueError("a preset takes no other key than corrupt and severity, and timm args")
        if self.args and self.preset != "timm":
            raise ValueError("args go with the preset timm only")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.channels:
                raise ValueError(f"{name} has {len(values)} values for {self.channels} channels")
        if self.std and not all(value > 0 for value in self.std):
            raise ValueError("std has a value that is not above 0")
        return self
