"""The keys of the data: splits, their formats, and what divides them."""

from typing import Any

from pydantic import Field, model_validator

from soupviz.spec.base import Place, Spec, added_key
from soupviz.spec.images import TransformSpec

FORMATS = {
    "imagefolder": "a folder with a sub-folder of images for each class",
    "arrays": "one .npz or .safetensors file with `inputs` and `labels`, already preprocessed",
    "python": "`file.py:function`, which returns a `torch.utils.data.Dataset` of (input, label), or of dictionaries",
    "coco": "the folder of images; `annotations` is the JSON file of their boxes",
    "yolo": "a folder with `data.yaml`, images and labels, or a folder of images of one",
    "text": "a table of sentences: .csv, .tsv, .jsonl, .parquet (install pyarrow for it), or .txt, one in each line; "
    "for token_classification also a word and its tag in each line (.conll, .conllu, .bio, .iob, .txt)",
    "choices": "a table of questions, of the same kinds, each with a context, options and an answer",
    "masks": "a folder of images, and `masks`, a folder with a mask for each: an image of the same name and size, "
    "grey or with a palette, whose pixel values are the numbers of classes",
    "audio": "a table that names recordings (.csv, .tsv, .jsonl, .parquet), or a folder with a sub-folder of them for "
    "each class; .wav, .flac, .ogg, .mp3",
    "torchvision:NAME": "where the torchvision dataset of that name lies, such as `torchvision:CIFAR10`",
}
"""What `format` may be, and what its `path` is."""

KEYS_OF: dict[str, frozenset[str]] = {
    "text": frozenset(("text", "pair", "label", "tokenizer", "max_length", "stride")),
    "choices": frozenset(("context", "options", "answer", "tokenizer", "max_length")),
    "audio": frozenset(("file", "label", "transcript", "sample_rate", "seconds", "processor")),
    "coco": frozenset(("annotations",)),
    "masks": frozenset(("masks",)),
}
"""Keys of a split that go with some formats only."""

OF_IMAGES = ("imagefolder", "coco", "yolo", "masks", "torchvision")
"""Formats that take a transform; inputs of the others are already preprocessed."""


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
    skip_corrupt: bool = Field(False, description="leave out images and recordings that cannot be decoded")
    restrict_classes: bool = Field(False, description="predict only classes that have examples in this split")
    text: str = Field("text", description="text only: the column of sentences")
    pair: str | None = Field(None, description="text only: the column of second sentences")
    label: Place | tuple[Place, ...] = Field(
        "label",
        description="text and audio: the column of class names, or of their positions in `classes` from 0; of other "
        "tasks the column of numbers, or a list of columns; language models take none",
    )
    tokenizer: str | None = Field(
        None,
        description="text and choices only, required there: a folder that holds a tokenizer, such as a checkpoint of "
        "Trainer",
    )
    max_length: int | None = Field(
        None,
        gt=0,
        description="text and choices only: tokens at most, of a language model those of a window; default: what the "
        "tokenizer truncates to, else the model's positions",
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
    processor: Place | None = added_key(
        None,
        "audio only: a folder with the preprocessor_config.json of a transformers checkpoint, whose feature extractor "
        "makes of each recording what the model takes; default: the samples as they are",
    )
    annotations: Place | None = added_key(None, "coco only, required there: the JSON file of boxes and categories")
    masks: Place | None = added_key(
        None, "masks only, required there: the folder of masks, an image each, named as the images are"
    )
    group: Place | GroupSpec | None = Field(
        None,
        description="what belongs together, such as a speaker, a document or a patient: intervals and tests resample "
        "its examples together, and parts keep them together. The name of a column of the table (text, audio), of an "
        "array beside `inputs` (arrays), of a key of the dictionaries (python), or of a column of the CSV of `slices` "
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
        if self.format in ("text", "choices") and self.tokenizer is None:
            raise ValueError(f"format {self.format} needs a tokenizer: the folder of a checkpoint that holds one")
        if self.format == "masks" and self.masks is None:
            raise ValueError("format masks needs masks: the folder that holds a mask for each image")
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
