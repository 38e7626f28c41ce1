"""The keys of a kitchen beside its data."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ConfigDict, Field, model_validator

from soupviz.spec.base import Place, Spec, added_key
from soupviz.spec.data import DataSpec, SplitSpec

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
ExecutorName = Literal["inline", "processes", "ray"]
RayWeights = Literal["files", "object_store"]
ClassName = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]
"""YAML reads 0, 1, 10 as numbers, which are names of folders here."""

HELD_OUT, TEST, TRAIN = "held_out", "test", "train"
"""The splits: the one that selects, the one that reports, the one that is learned from."""

SHIFTS = "shifts."
"""Before the name of a shift, where it stands among the splits."""


ONCE_CALLED = {"soupviz.yolo:classifier": "soupviz.models.yolo:classifier"}
"""Factories of soupviz's own as kitchens of earlier versions name them, and where they are now."""


class ModelSpec(Spec):
    """The architecture.

    It is called as `model(x)`, or as `model(**x)` where an example is a dictionary. Its output is the logits, or has
    them as `.logits`, `["logits"]` or `["out"]`, or first of several, of shape (batch, classes). One output, of shape
    (batch, 1) or (batch,), is that of a binary head: it stands for the logits 0 and x of the classes 0 and 1.
    """

    factory: Annotated[str, AfterValidator(lambda name: ONCE_CALLED.get(name, name))] = Field(
        description="what builds the model"
    )
    args: dict[str, Any] = Field(default={}, description="its keyword arguments")


class TaskSpec(Spec):
    """A task with parameters of its own, which are those beside the name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(description="a task's name (docs/reference/tasks.md lists them), or file.py:Task")

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class SweepSpec(Spec):
    """The table of a sweep, whose rows are joined to the ingredients by one of its columns."""

    file: Place = Field(description="a .csv, .tsv, .jsonl or .parquet table, relative to kitchen.yaml")
    column: str | None = Field(
        None, description="which says a row's run or checkpoint, by name or by path; default: those that are called so"
    )


class KitchenSpec(Spec):
    """One architecture, its checkpoints, and the data that judges them.

    Paths are relative to the file; those of checkpoints and data may be addresses (`s3://`, `hf://`, `https://`).
    """

    name: str = Field("", description="the title; default: the folder's name")
    task: Annotated[TaskSpec, BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)] = (
        Field(TaskSpec(name="classification"), description="what the outputs mean: a name, or a name with parameters")
    )
    metric: str | None = Field(None, description="the objective, a metric of the task; default: its first")
    model: ModelSpec = Field(description="the architecture")
    ingredients: tuple[Place, ...] | dict[str, Place] = Field(
        description="a list of files, folders and globs, or a mapping of name to file; each may be an address, such as "
        "`s3://bucket/run/*.safetensors`"
    )
    weights: Literal["raw", "ema"] = Field(
        "raw", description="which to read where files hold both: `ema` is an average over training"
    )
    base: str | None = Field(None, description="the checkpoint that all were fine-tuned from; it may be an address")
    sweep: Annotated[
        SweepSpec | None, BeforeValidator(lambda value: {"file": value} if isinstance(value, str) else value)
    ] = added_key(
        None,
        "a table with a row for each run, as W&B and MLflow export it: hyperparameters and logged metrics of the "
        "ingredients that its rows name; a file, or a mapping of `file` and `column`",
    )
    classes: tuple[ClassName, ...] | None = Field(
        None, description="the order of the labels; default: held_out's sorted folder names"
    )
    data: DataSpec = Field(description="the splits")
    other_models: dict[str, str] = Field(
        {},
        validation_alias=AliasChoices("other_models", "guests"),
        description="a mapping of name to other kitchens, whose models may join ensembles; once called `guests`",
    )
    card: dict[str, Any] = added_key(
        {},
        "what the model card of a soup says beside, by the Hugging Face Hub's own keys, such as `license`, `datasets`, "
        "`base_model` and `language`; they beat what is found beside the checkpoints",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="`auto`, `cpu`, `cuda`, `cuda:1` (any number) or `mps`; `auto` takes CUDA, else MPS, else the CPU",
    )
    precision: Precision = Field(
        "float32",
        description="of the evaluation; mixing is always in float32. `float32` is exact: TF32 is off, whatever "
        "PyTorch's defaults are. `tf32` is faster on NVIDIA GPUs from Ampere on, and float32 elsewhere. Scores and "
        "runs are kept apart by precision and by type of device",
    )
    executor: ExecutorName = Field(
        "inline",
        description="who evaluates: `inline`, this process; `processes`, workers of this machine; `ray`, workers of a "
        "Ray cluster. Decisions and scores are the same",
    )
    workers: int | None = Field(
        None, gt=0, description="how many evaluate; default: one for each GPU, or two CPU cores each"
    )
    ray_address: str | None = Field(
        None,
        description="of a running Ray cluster, such as ray://host:10001; default: $RAY_ADDRESS, else one is started on "
        "this machine, and ended with the process",
    )
    ray_weights: RayWeights = Field(
        "files",
        description="from where workers of a Ray cluster have the checkpoints: `files`, each reads them under the same "
        "paths; `object_store`, they are put into Ray's object store once, and read there",
    )
    batch_size: int = Field(256, gt=0, description="examples in a forward pass; halved when memory runs out")

    @model_validator(mode="before")
    @classmethod
    def _is_named_once(cls, values: Any) -> Any:
        if isinstance(values, dict) and {"guests", "other_models"} <= values.keys():
            raise ValueError("has both `guests` and `other_models`, which is what guests are called now; keep one")
        return values

    def split_specs(self) -> dict[str, SplitSpec]:
        """Every split that the kitchen has, by its name (`shifts.NAME` for a shift)."""
        named = {name: getattr(self.data, name) for name in (HELD_OUT, TEST, TRAIN)}
        named |= {f"{SHIFTS}{name}": spec for name, spec in self.data.shifts.items()}
        return {name: spec for name, spec in named.items() if spec is not None}
