"""kitchen.yaml: its keys, checked by pydantic; an unknown key is refused and the nearest known one named.

Each key's description is what docs/reference/kitchen.md says of it; words after "; default: " are of a default that is
no constant.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "contrast", "brightness", "pixelate", "rotate", "jpeg")

FORMATS = {
    "imagefolder": "a folder with a sub-folder of images for each class",
    "arrays": "one .npz or .safetensors file with `inputs` and `labels`, already preprocessed",
    "python": "`file.py:function`, which returns a `torch.utils.data.Dataset` of (input, label), or of dictionaries",
    "text": "a table of sentences: .csv, .tsv, .jsonl, or .parquet (install pyarrow for it)",
    "torchvision:NAME": "where the torchvision dataset of that name lies, such as `torchvision:CIFAR10`",
}
"""What `format` may be, and what its `path` is."""

KEYS_OF: dict[str, frozenset[str]] = {
    "text": frozenset(("text", "pair", "label", "tokenizer", "max_length", "stride")),
    "choices": frozenset(("context", "options", "answer", "tokenizer", "max_length")),
    "audio": frozenset(("file", "label", "transcript", "sample_rate", "seconds")),
    "coco": frozenset(("annotations",)),
    "masks": frozenset(("masks",)),
}
"""Keys of a split that go with some formats only."""

OF_IMAGES = ("imagefolder", "torchvision")
"""Formats that take a transform; inputs of the others are already preprocessed."""

Pixels = Annotated[int, Field(gt=0)]
Place = Annotated[str, Field(min_length=1)]
ClassName = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]
"""YAML reads 0, 1, 10 as numbers, which are names of folders here."""

HELD_OUT, TEST, TRAIN = "held_out", "test", "train"
"""The splits: the one that selects, the one that reports, the one that is learned from."""

SHIFTS = "shifts."
"""Before the name of a shift, where it stands among the splits."""


ONCE_CALLED = {"soupviz.yolo:classifier": "soupviz.models.yolo:classifier"}
"""Factories of soupviz's own as kitchens of earlier versions name them, and where they are now."""


def added_key(default: Any, description: str, **keys: Any) -> Any:
    """A key that is left out of plain data at its default: what was kept before there was such a key is found."""
    return Field(default, description=description, exclude_if=lambda value: value == default, **keys)


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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


class PartSpec(Spec):
    """A part of one set of data, each class shared out evenly: `{index: 0}` for held_out, `{index: 1}` for test."""

    index: int = Field(ge=0, description="which part, from 0")
    of: int = Field(2, ge=2, description="how many parts")
    seed: int = Field(0, description="of the shuffle")

    @model_validator(mode="after")
    def _inside(self) -> "PartSpec":
        if self.index >= self.of:
            raise ValueError(f"index {self.index} of {self.of} parts; it counts from 0")
        return self


class SliceSpec(Spec):
    """Parts by which performance is looked at: soups are compared slice by slice, and recipes can raise the mean or
    the worst of them.

    The CSV's rows are matched by its column `file`, `filename`, `path` or `name` for image folders, else by order.
    """

    file: str = Field(description="a CSV with a row for each example, relative to kitchen.yaml")
    column: str = Field(description="whose values divide the examples")


class GroupSpec(Spec):
    """A column of a CSV that says what belongs together, where the data itself has no such column.

    Rows are matched as those of `slices` are.
    """

    file: str = Field(description="a CSV with a row for each example, relative to kitchen.yaml")
    column: str = Field(description="whose values say what belongs together")


class SplitSpec(Spec):
    """A set of examples with their labels.

    Splits have the classes of `held_out`; `test` and shifts may have fewer of them.
    """

    format: str = Field(description="how the data lies on disk")
    path: str | None = Field(
        None,
        description="folder, file or `file.py:function`, relative to kitchen.yaml; default: `data` for torchvision, "
        "else required",
    )
    transform: TransformSpec | None = Field(None, description="for image formats; default: RGB, divided by 255")
    args: dict[str, Any] = Field(default={}, description="keyword arguments of a torchvision or python dataset")
    download: bool = Field(False, description="let a torchvision dataset download itself")
    version: str | None = Field(
        None,
        description="python only: keep what the function yields, under this name; change it when the data changes; "
        "default: read anew each time",
    )
    skip_corrupt: bool = Field(False, description="leave out images that cannot be decoded")
    restrict_classes: bool = Field(False, description="predict only classes that have examples in this split")
    text: str = Field("text", description="text only: the column of sentences")
    pair: str | None = Field(None, description="text only: the column of second sentences")
    label: Place | tuple[Place, ...] = Field(
        "label",
        description="text only: the column of class names, or of their positions in `classes` from 0; of other tasks "
        "the column of numbers, or a list of columns",
    )
    tokenizer: str | None = Field(
        None, description="text only, required there: a folder that holds a tokenizer, such as a checkpoint of Trainer"
    )
    max_length: int | None = Field(
        None,
        gt=0,
        description="text only: tokens at most; default: what the tokenizer truncates to, else the model's positions",
    )
    stride: int | None = added_key(
        None,
        "text only, for language models: by how many tokens a window begins after the one before it, when a document "
        "is longer than `max_length`; default: `max_length`, so that windows do not overlap",
        gt=0,
    )
    context: Place = added_key("context", "choices only: the column of what comes before the options")
    options: Place | tuple[Place, ...] = added_key(
        "options", "choices only: the column that lists the options, or one column for each"
    )
    answer: Place = added_key("answer", "choices only: the column of the right option: its position from 0, or itself")
    file: Place = added_key("file", "audio only: the column of files, relative to the table")
    transcript: Place = added_key("transcript", "audio only: the column of what is said, for transcription")
    sample_rate: int | None = added_key(
        None, "audio only: in Hz, to which recordings are resampled; default: as they are, where all agree", gt=0
    )
    seconds: float | None = added_key(
        None,
        "audio only: what is longer is cut, what is shorter filled up with silence; default: as long as they are",
        gt=0,
    )
    annotations: Place | None = added_key(None, "coco only, required there: the JSON file of boxes and categories")
    masks: Place | None = added_key(
        None, "masks only, required there: the folder of masks, an image each, named as the images are"
    )
    group: Place | GroupSpec | None = Field(
        None,
        description="what belongs together, such as a speaker, a document or a patient: intervals and tests resample "
        "its examples together, and parts keep them together. The name of a column of the table (text), of an array "
        "beside `inputs` (arrays), of a key of the dictionaries (python), or of a column of the CSV of `slices` "
        "(folders of images); or a mapping `{file, column}` for any format; default: each example is resampled alone",
    )
    part: PartSpec | None = Field(None, description="take only a part of the data; default: all of it")
    slices: SliceSpec | None = Field(None, description="parts by which performance is looked at; default: by class")

    @property
    def takes_transform(self) -> bool:
        """Whether it is a format of images; the inputs of the others are already preprocessed."""
        return self.format.partition(":")[0] in OF_IMAGES

    @model_validator(mode="after")
    def _agree(self) -> "SplitSpec":
        kind = self.format.partition(":")[0]
        if self.format not in FORMATS and kind != "torchvision":
            raise ValueError(f"format is {self.format!r}; known are {', '.join(FORMATS)}")
        if self.path is None and kind != "torchvision":
            raise ValueError(f"format {self.format} needs a path")
        if self.transform and not self.takes_transform:
            raise ValueError(f"format {self.format} takes no transform: its inputs are already preprocessed")
        if self.format == "text" and self.tokenizer is None:
            raise ValueError("format text needs a tokenizer: the folder of a checkpoint that holds one")
        of_others = frozenset().union(*KEYS_OF.values()) - KEYS_OF.get(self.format, frozenset())
        if given := sorted(self.model_fields_set & of_others):
            takers = [name for name, keys in KEYS_OF.items() if given[0] in keys]
            raise ValueError(f"format {self.format} takes no {given[0]}, which goes with {' and '.join(takers)}")
        return self


class DataSpec(Spec):
    """The splits: which selects, and which report."""

    held_out: SplitSpec = Field(description="the split that selects")
    test: SplitSpec | None = Field(None, description="the split that reports")
    train: SplitSpec | None = Field(None, description="for recipes that learn; nothing is scored on it unless you ask")
    shifts: dict[str, SplitSpec] = Field(
        default={}, description="a mapping of name to further test splits, called `shifts.NAME`"
    )


class TaskSpec(Spec):
    """A task with parameters of its own, which are those beside the name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field(description="classification, multilabel, regression, or file.py:Task")

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class KitchenSpec(Spec):
    """One architecture, its checkpoints, and the data that judges them. Paths are relative to the file."""

    name: str = Field("", description="the title; default: the folder's name")
    task: Annotated[TaskSpec, BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)] = (
        Field(TaskSpec(name="classification"), description="what the outputs mean: a name, or a name with parameters")
    )
    metric: str | None = Field(None, description="the objective, a metric of the task; default: its first")
    model: ModelSpec = Field(description="the architecture")
    ingredients: tuple[Place, ...] | dict[str, Place] = Field(
        description="a list of files, folders and globs, or a mapping of name to file"
    )
    weights: Literal["raw", "ema"] = Field(
        "raw", description="which to read where files hold both: `ema` is an average over training"
    )
    base: str | None = Field(None, description="the checkpoint that all were fine-tuned from")
    classes: tuple[ClassName, ...] | None = Field(
        None, description="the order of the labels; default: held_out's sorted folder names"
    )
    data: DataSpec = Field(description="the splits")
    other_models: dict[str, str] = Field(
        {},
        validation_alias=AliasChoices("other_models", "guests"),
        description="a mapping of name to other kitchens, whose models may join ensembles; once called `guests`",
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
