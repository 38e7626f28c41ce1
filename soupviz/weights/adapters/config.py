"""An adapter's own description, `adapter_config.json`: what it is, and by how much its products are scaled."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, ValidationError

from soupviz.errors import CheckpointError, CompatibilityError, shortened
from soupviz.weights.inert import read_json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model"
"""How peft calls an adapter's files; the suffix of the second is .safetensors or .bin."""

LORA = "LORA"
MERGE = "merge it (peft: merge_and_unload), and save the whole model"
REFUSED = {
    "use_dora": "DoRA, which divides by the length of each row: its change is no product of two factors",
    "use_qalora": "QA-LoRA, whose change is made for quantised weights",
    "use_bdlora": "BD-LoRA, whose factors are blocks",
    "alora_invocation_tokens": "an activated LoRA, which changes the model from a token on",
    "arrow_config": "a router of several adapters",
    "layer_replication": "of layers that are repeated, which makes another architecture",
    "target_parameters": "of parameters of their own (target_parameters), which no module has as its weight",
    "trainable_token_indices": "of trainable tokens",
    "monteclora_config": "drawn at random (MonteCLoRA)",
    "kasa_config": "KaSA, which cuts singular values off the base's own weights",
}
"""Keys that make an adapter something else than scaled products over unchanged weights, and what."""

ABOUT_TRAINING = frozenset({
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config", "megatron_config",
    "runtime_config",
})  # fmt: skip
"""Keys of how factors started, or were trained, which say nothing of what they are now; init_lora_weights does."""

CHANGES_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Initialisations that take from the base what they put into the factors: the files are no change of that base."""


def _compiles(pattern: str) -> str:
    try:
        re.compile(_ending(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"no pattern: {error}") from None
    return pattern


def _ending(pattern: str) -> str:
    return rf"(.*\.)?({pattern})$"


Pattern = Annotated[str, AfterValidator(_compiles)]


class Description(BaseModel):
    """The keys of an adapter's description that say what it is."""

    model_config = ConfigDict(frozen=True)
    base_model_name_or_path: str | None = None
    revision: str | None = None
    lora_alpha: FiniteFloat = 8.0
    alpha_pattern: dict[Pattern, FiniteFloat] | None = None
    use_rslora: bool | None = None
    fan_in_fan_out: bool | None = None
    init_lora_weights: bool | str | None = None
    bias: str | None = None
    modules_to_save: list[str] | None = None


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """values: as the file has them. told: those of them that say what the adapter is."""

    file: Path
    values: Mapping[str, Any]
    told: Description

    @property
    def base_name(self) -> str:
        """The model that was adapted: a folder, or a name on the hub; empty where it is not said."""
        return self.told.base_model_name_or_path or ""

    @property
    def fan_in_fan_out(self) -> bool:
        return bool(self.told.fan_in_fan_out)

    def scale(self, module: str, rank: int) -> float:
        """What a module's product is multiplied with: alpha / rank, with rslora alpha / sqrt(rank).

        Source:
            Hu et al. 2021, section 4.1; Kalajdzievski 2023 (rslora). Patterns match the end of a module's name, the
            first that does counts, as in peft.
        Raises:
            CompatibilityError: a rank below 1.
        """
        if rank < 1:
            raise CompatibilityError(f"has factors of rank {rank} for {module}; expected a rank of at least 1")
        patterns = self.told.alpha_pattern or {}
        found = next((key for key in patterns if re.match(_ending(key), module)), None)
        alpha = self.told.lora_alpha if found is None else patterns[found]
        return alpha / (math.sqrt(rank) if self.told.use_rslora else rank)


def config_of(path: Path) -> Path | None:
    """The description beside a file of peft's, or in a folder of it; None where the path is none of peft's."""
    folder = path if path.is_dir() else path.parent
    is_named = path.is_dir() or path.name.startswith(WEIGHTS)
    return folder / CONFIG if is_named and (folder / CONFIG).is_file() else None


def read_config(file: Path) -> AdapterConfig:
    """Read what an adapter says of itself.

    Raises:
        CheckpointError: it is no JSON object.
        CompatibilityError: an adapter of another kind than LoRA, or one that changes more than by scaled products.
    """
    values = read_json(file)
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: holds {type(values).__name__}; expected the object that peft writes.")
    kind = values.get("peft_type")
    if kind != LORA:
        raise CompatibilityError(
            f"is an adapter of peft_type {shortened(repr(kind))}; expected {LORA}, whose change is known: {MERGE}"
        )
    if reason := next((told for key, told in REFUSED.items() if values.get(key)), ""):
        raise CompatibilityError(f"is an adapter {reason}: {MERGE}")
    if unknown := [key for key in values if _may_change_it(key) and values[key]]:
        raise CompatibilityError(f"is an adapter with {shortened(unknown[0])}, which is not known here: {MERGE}")
    try:
        told = Description.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = shortened(".".join(map(str, problem["loc"][:2])))
        raise CompatibilityError(
            f"says {key}: {shortened(repr(problem['input']))} in {CONFIG}, which is none of peft's ({problem['msg']})"
        ) from None
    start = str(told.init_lora_weights).lower()
    if start.startswith(CHANGES_BASE):
        raise CompatibilityError(
            f"is an adapter whose start (init_lora_weights: {shortened(start)}) changed the base's own weights; save "
            "it as one of the base that you have (peft: save_pretrained with path_initial_model_for_weight_conversion)"
            f", or {MERGE}"
        )
    return AdapterConfig(file, values, told)


def _may_change_it(key: str) -> bool:
    """Whether a key that is set may make the adapter something else."""
    is_variant = key.startswith("use_") and key != "use_rslora"
    return is_variant or (key.endswith("_config") and key not in ABOUT_TRAINING)
