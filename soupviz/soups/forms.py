"""The forms in which a soup is written: whole weights in a file; one adapter in a folder, as peft has it; or whole
weights in a folder, with all that transformers or timm opens it by; or no weights, but what mergekit makes them by."""

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from soupviz.errors import ExportError
from soupviz.weights.adapters.config import CONFIG, WEIGHTS
from soupviz.weights.checkpoints import is_soup
from soupviz.weights.containers import without_suffix

Form = Literal["dense", "adapter", "folder", "mergekit"]
Target = TypeVar("Target", Path, str)
"""Where a soup is to be written: a file or a folder here, or an address."""

FILE = f"{WEIGHTS}.safetensors"
"""What peft looks for in an adapter's folder, beside its description."""

WHOLE = "model.safetensors"
"""What transformers and timm look for in a model's folder; of weights in shards their index is called so."""

MODEL_CONFIG = "config.json"
"""The description of a model beside it."""

CLOSE = 1e-6
"""How far the norms of an update that is decomposed anew may lie apart, relative to it."""


class AdapterForm(BaseModel):
    """How a soup is written as an adapter.

    rank: the most of each module; None: exact, at the summed rank. summed: that rank, the most of any module; of
    earlier versions None. norm: of the whole update, in the Frobenius norm.
    lost: the share of it that the rank loses. lost_by_module: of each module's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    rank: int | None = None
    summed: int | None = Field(default=None, exclude_if=lambda value: value is None)
    norm: float = 0.0
    lost: float = 0.0
    lost_by_module: dict[str, float] = {}

    def repeats(self, again: "AdapterForm") -> bool:
        """Whether what was decomposed anew is the same update, up to rounding; without a rank every bit has to be."""
        is_close = math.isclose(self.norm, again.norm, rel_tol=CLOSE)
        return self.rank is not None and is_close and math.isclose(self.lost, again.lost, abs_tol=CLOSE)

    def in_words(self) -> str:
        """What a reader is told of it."""
        if self.rank is None:
            at_rank = f"rank {self.summed}, the sum of its members'" if self.summed else "the summed rank"
            return f"with the exact sum, at {at_rank}"
        worst = max(self.lost_by_module, key=lambda module: self.lost_by_module[module], default="")
        more = f", of {worst} {self.lost_by_module[worst]:.2%}" if worst else ""
        return f"of rank {self.rank}, which loses {self.lost:.2%} of the update (Frobenius norm){more}"


def check_folder(target: Path | str, form: Form, shard_size: str | int | None = None) -> None:
    """Whether an adapter, or a whole model, can be written into a folder, which need not be there.

    Raises:
        ExportError: a file, shards of an adapter, or a model there that is no soup; of an address only what its name
            says.
    """
    if form == "adapter" and shard_size is not None:
        raise ExportError("an adapter is one file; give no shard size, or write the soup dense.")
    name = PurePosixPath(target).name
    if without_suffix(name) != name or (isinstance(target, Path) and target.is_file()):
        raise ExportError(f"{target}: {NAMED[form]} is a folder; name one, without a suffix.")
    if not isinstance(target, Path):
        return
    if form == "adapter":
        held = {path.name for path in (*target.glob(f"{WEIGHTS}*"), *target.glob(CONFIG))}
        is_ours = held <= {FILE, CONFIG} and is_soup(target / FILE)
    else:
        held = {path.name for path in target.glob(MODEL_CONFIG)} | {path.name for path in target.glob("*.safetensors")}
        is_ours = any(is_soup(target / file) for file in (WHOLE, f"{WHOLE}.index.json"))
    if held and not is_ours:
        raise no_soup_in(target, form)


NAMED: Mapping[str, str] = {"adapter": "an adapter", "folder": "a whole model with what it is opened by"}
"""What is written into a folder, by form."""

FOLDERS = frozenset(NAMED)
"""Forms whose target is a folder."""


def no_soup_in(target: Path | str, form: Form = "adapter") -> ExportError:
    """Why nothing is written into a folder that holds somebody's own adapter, or model."""
    held = "an adapter" if form == "adapter" else "a model"
    return ExportError(f"{target}: holds {held} that is no soup; choose another folder.")


def file_of(target: Target, form: Form) -> Target:
    """The file that holds the weights: the target itself, or the one in a folder."""
    if form not in FOLDERS:
        return target
    name = FILE if form == "adapter" else WHOLE
    return target / name if isinstance(target, Path) else f"{target}/{name}"
