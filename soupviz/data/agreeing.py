"""How examples are made the model's inputs is one thing for all splits: what differs is told."""

from pathlib import Path
from typing import Any

from soupviz.data.audio.extracting import SETTINGS
from soupviz.data.sources import content
from soupviz.data.split import Split
from soupviz.data.text import tokens
from soupviz.errors import DataError
from soupviz.spec import HELD_OUT, SHIFTS, SplitSpec, TransformSpec

AS_TOLD = ("max_length", "stride", "sample_rate", "seconds")
"""Keys of tables that say how their cells become inputs."""

LEFT = ("max_length", "sample_rate")
"""Those of them that the model or the files say where the kitchen does not: nothing is known of them here."""

NEUTRAL = {"mean": 0.0, "std": 1.0}
"""What changes no pixel."""

OF_PIXELS = ("preset", "args", "channels", "mean", "std")
OF_SHAPES = ("resize", "crop", "interpolation")
"""Keys of transforms that do. A shift may well have images of another size, and is corrupted on purpose."""


def differences(split: Split, spec: SplitSpec, held_out: SplitSpec, folder: Path, known: Split | None) -> list[str]:
    """What there is to tell of a split whose inputs are made otherwise than held_out's are.

    Args:
        folder: the kitchen's. known: held_out itself, where it was read: what a preset or the files say is known then.
    """
    if spec.format.partition(":")[0] != held_out.format.partition(":")[0]:
        return []
    keys = [*AS_TOLD, *(_keys_of_images(split, spec, held_out, known) if spec.takes_transform else ())]
    own, other = ({key: _value(one, key, folder) for key in keys} for one in (spec, held_out))
    if known is not None and split.rate and known.rate:
        own["sample_rate"], other["sample_rate"] = split.rate, known.rate
    unknown = {key for key in LEFT if own[key] is None or other[key] is None}
    told = [f"{key} is {own[key]}, there {other[key]}" for key in own if own[key] != other[key] and key not in unknown]
    told += [f"{key} holds another one" for key in ("tokenizer", "processor") if _is_other(spec, held_out, key, folder)]
    if not told:
        return []
    return [
        f"data.{split.name}: its inputs are made otherwise than those of {HELD_OUT}: {'; '.join(told)}. Give both the "
        "same, unless the models are meant for both."
    ]


def _keys_of_images(split: Split, spec: SplitSpec, held_out: SplitSpec, known: Split | None) -> list[str]:
    """Those of the transform that are looked at. A preset, and what it says spelled out, are no difference."""
    is_same = known is not None and split.normalization == known.normalization
    has_preset = any(one.transform is not None and one.transform.preset for one in (spec, held_out))
    of_shapes = () if split.name.startswith(SHIFTS) or has_preset else OF_SHAPES
    return [f"transform.{key}" for key in [*(() if is_same else OF_PIXELS), *of_shapes]]


def _value(spec: SplitSpec, key: str, folder: Path) -> Any:
    """What a key comes to, whether it is said or left at what it is then."""
    if key == "max_length":
        return spec.max_length or _longest(spec, folder)
    at, _, of_transform = key.partition(".")
    if not of_transform:
        return getattr(spec, at)
    transform = spec.transform or TransformSpec.model_validate({})
    if of_transform == "crop":
        return transform.crop or (transform.resize if isinstance(transform.resize, int) else None)
    value = getattr(transform, of_transform)
    changes_nothing = of_transform in NEUTRAL and value and set(value) == {NEUTRAL[of_transform]}
    return None if changes_nothing else value


def _longest(spec: SplitSpec, folder: Path) -> int | None:
    """Where the split's tokenizer cuts; None where it does not, or cannot be read, which is told elsewhere."""
    try:
        return tokens.longest("", folder / spec.tokenizer) if spec.tokenizer else None
    except DataError:
        return None


def _is_other(spec: SplitSpec, held_out: SplitSpec, key: str, folder: Path) -> bool:
    """Whether a folder that both name has another content. One that is not there is told where its split is read."""
    own, other = getattr(spec, key), getattr(held_out, key)
    if own is None or other is None:
        return own is not other
    if own == other or not (folder / other).is_dir():
        return False
    if key == "tokenizer":
        return tokens.identity(folder / own) != tokens.identity(folder / other)
    files = [folder / one / SETTINGS for one in (own, other)]
    return files[1].is_file() and content(files[0]) != content(files[1])
