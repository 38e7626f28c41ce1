import os
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import write_arrays
from PIL import Image
from torch import Tensor, nn

from soupviz.data import datasets, splits
from soupviz.data.classes import stratified_part
from soupviz.data.images import imagefolder
from soupviz.data.slices import divided
from soupviz.data.split import Split
from soupviz.errors import DataError
from soupviz.spec import SplitSpec

CPU = torch.device("cpu")


class Taking(nn.Module):
    """Takes tokens by name, or x."""

    def forward(self, x=None, input_ids=None, attention_mask=None):
        return x if input_ids is None else input_ids


def load(
    folder: Path, name: str = "held_out", *, model=None, classes=None, skip_corrupt=False, progress=None, **keys
) -> Split:
    options = {"progress": progress} if progress else {}
    spec, model = SplitSpec(**keys), model or Taking()
    return splits.load(name, spec, folder, model, classes=classes, skip_corrupt=skip_corrupt, **options)


def image_folder(root: Path, per_class: int = 3, classes=("bee", "ant", "cow"), side: int = 8) -> Path:
    """PNGs whose every pixel tells class and number: 50 * class + number, classes in alphabetical order."""
    for label, name in enumerate(sorted(classes)):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            Image.new("RGB", (side, side), (50 * label + number,) * 3).save(root / name / f"{number}.png")
    return root


def no_decoding(*_args, **_kwargs):
    raise AssertionError("an image was decoded again")


# The four formats


def test_an_image_folder_is_labelled_by_sorted_folder_names(tmp_path):
    image_folder(tmp_path / "val")
    split = load(tmp_path, format="imagefolder", path="val")
    assert split.classes == ("ant", "bee", "cow")
    assert split.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert split.labels.dtype == torch.int64
    assert split.inputs[""].dtype == torch.uint8
    assert split.inputs[""].shape == (9, 3, 8, 8)
    assert split.inputs[""][:, 0, 0, 0].tolist() == [0, 1, 2, 50, 51, 52, 100, 101, 102]
    assert split.files[:4] == ("ant/0.png", "ant/1.png", "ant/2.png", "bee/0.png")


def test_the_kitchens_classes_give_the_label_order(tmp_path):
    image_folder(tmp_path / "val")
    split = load(tmp_path, format="imagefolder", path="val", classes=("cow", "ant", "bee"))
    assert split.classes == ("cow", "ant", "bee")
    assert split.inputs[""][:, 0, 0, 0].tolist() == [100, 101, 102, 0, 1, 2, 50, 51, 52]
    assert split.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_images_in_sub_folders_count_and_other_files_do_not(tmp_path):
    root = image_folder(tmp_path / "val", per_class=1)
    (root / "ant" / "deep").mkdir()
    Image.new("RGB", (8, 8)).save(root / "ant" / "deep" / "x.JPG", "JPEG")
    (root / "ant" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    split = load(tmp_path, format="imagefolder", path="val")
    assert split.files == ("ant/0.png", "ant/deep/x.JPG", "bee/0.png", "cow/0.png")


def test_images_reach_the_model_normalized(tmp_path):
    image_folder(tmp_path / "val")
    transform = {"resize": 4, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 1.0]}
    split = load(tmp_path, format="imagefolder", path="val", transform=transform)
    batch = split.take(torch.arange(8, 9), CPU)[""]
    assert batch.dtype == torch.float32
    expected = [(102 / 255 - mean) / std for mean, std in zip(transform["mean"], transform["std"], strict=True)]
    assert batch.shape == (1, 3, 4, 4)
    torch.testing.assert_close(batch[0, :, 0, 0], torch.tensor(expected))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("dtype", "fed"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float32),
        (torch.float16, torch.float32),
        (torch.uint8, torch.float32),
        (torch.int64, torch.int64),
    ],
)
def test_arrays_of_any_dtype_and_shape_are_taken_as_they_are(tmp_path, suffix, dtype, fed):
    """Integers that may be token ids stay integers; numbers reach the model as float32."""
    inputs, labels = torch.arange(24).reshape(4, 3, 2).to(dtype), torch.tensor([0, 2, 1, 0])
    write_arrays(tmp_path / f"x{suffix}", inputs, labels)
    split = load(tmp_path, format="arrays", path=f"x{suffix}")
    assert torch.equal(split.inputs[""], inputs)
    assert torch.equal(split.labels, labels)
    batch = split.take(torch.arange(1, 3), CPU)[""]
    assert batch.dtype == fed
    assert torch.equal(batch, inputs[1:3].to(fed))


def test_bfloat16_arrays_are_widened_without_loss(tmp_path):
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    write_arrays(tmp_path / "x.safetensors", inputs, torch.tensor([0, 1, 0, 1]))
    assert torch.equal(load(tmp_path, format="arrays", path="x.safetensors").inputs[""], inputs.float())


@pytest.mark.parametrize(
    "labels", [np.array([1.0, 0.0, 1.0]), np.array([True, False, True]), np.array([[1], [0], [1]], dtype=np.float32)]
)
def test_labels_may_be_whole_numbers_however_they_are_written(tmp_path, labels):
    np.savez(tmp_path / "x.npz", inputs=np.zeros((3, 2)), labels=labels)
    found = load(tmp_path, format="arrays", path="x.npz").labels
    assert (found.tolist(), found.dtype) == ([1, 0, 1], torch.int64)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 0.5, 1.0]), r"the label of example 1 is 0\.5; expected the number of a class"),
        (np.array([0.0, 1.0, np.nan]), "the label of example 2 is nan"),
        (np.array(["a", "b", "c"]), "labels have shape .3,. and type <U1; expected the number of a class"),
        (np.eye(3), "labels have shape .3, 3."),
    ],
)
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path, labels, message):
    np.savez(tmp_path / "x.npz", inputs=np.zeros((3, 2)), labels=labels)
    with pytest.raises(DataError, match=message):
        load(tmp_path, format="arrays", path="x.npz")


def test_labels_of_any_integer_type_become_int64(tmp_path):
    np.savez(tmp_path / "x.npz", inputs=np.zeros((3, 2)), labels=np.array([0, 255, 1], dtype=np.uint8))
    labels = load(tmp_path, format="arrays", path="x.npz").labels
    assert (labels.tolist(), labels.dtype) == ([0, 255, 1], torch.int64)


def write_mnist(root: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """MNIST's own files, with images of our making."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = struct.pack(">4I", 0x803, *images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, len(labels)) + labels.tobytes())


def test_a_torchvision_dataset_is_read_by_name(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5], dtype=np.uint8)
    write_mnist(tmp_path / "sets", images, labels)
    split = load(tmp_path, format="torchvision:MNIST", path="sets", args={"train": False}, transform={"channels": 1})
    assert split.labels.tolist() == [3, 1, 4, 1, 5]
    assert np.array_equal(split.inputs[""].numpy(), images[:, None])
    assert len(split.classes) == 10


def test_a_torchvision_dataset_that_reads_no_files_needs_no_folder(tmp_path):
    arguments = {"size": 12, "image_size": [3, 8, 8], "num_classes": 3}
    split = load(tmp_path, format="torchvision:FakeData", args=arguments)
    assert len(split) == 12
    assert set(split.labels.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("dataset", ["LSUN", "LSUNClass"])
def test_a_torchvision_dataset_that_unpickles_a_file_of_its_folder_is_refused(tmp_path, dataset):
    with pytest.raises(DataError, match=rf"{dataset} unpickles .* format: python"):
        load(tmp_path, format=f"torchvision:{dataset}")


@pytest.mark.parametrize("name", ["CIFAR11", "vision", "wrap_dataset_for_transforms_v2", "os"])
def test_what_is_no_dataset_of_torchvision_is_refused_by_name(tmp_path, name):
    with pytest.raises(DataError, match=f"no dataset '{name}'"):
        load(tmp_path, format=f"torchvision:{name}")


def test_a_torchvision_dataset_that_is_not_there_names_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"torchvision's CIFAR10 in .* failed: .*download: true lets it download"):
        load(tmp_path, format="torchvision:CIFAR10", args={"train": False})
    with pytest.raises(DataError, match="torchvision has no dataset 'CIFRA10'"):
        load(tmp_path, format="torchvision:CIFRA10")


DATASET = '''
from pathlib import Path
import torch

def tensors(size=4, log=None):
    if log:
        with open(log, "a") as file:
            file.write("called ")
    return [(torch.full((2, 3), float(i)), i % 2) for i in range(size)]

def dicts():
    """Token ids and a mask, as language models take them."""
    mask = torch.tensor([1.0, 0.0])
    return [({"input_ids": torch.tensor([i, i + 1]), "attention_mask": mask}, i % 2) for i in range(4)]

def halves():
    return [(torch.full((2,), float(i)).bfloat16(), torch.tensor(i)) for i in range(3)]

class Faces:
    """As Hugging Face has them: a dict for each example."""

    def __init__(self, label="label", **columns):
        self.label, self.columns = label, columns

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {self.label: index % 2} | {name: make(index) for name, make in self.columns.items()}

def one_column(label):
    return Faces(label, anything=lambda i: [float(i), 1.0])

def named():
    return Faces(x=lambda i: [float(i)], idx=lambda i: i, sentence=lambda i: f"number {i}")

def sentences():
    return Faces("labels", input_ids=lambda i: [7] * (i + 1), attention_mask=lambda i: [1] * (i + 1))

def doubles():
    import numpy as np
    return Faces(x=lambda i: np.ones(2))

def strange():
    return Faces(pixels=lambda i: [1.0], other=lambda i: [2.0])

def unlabelled():
    return Faces("target", x=lambda i: [1.0])

def half_labels():
    return [(torch.zeros(1), 0.5), (torch.zeros(1), 1.0)]

def triples():
    return [(torch.zeros(1), 0, 5)] * 3

def objects():
    return [(object(), 0)] * 3

def endless():
    return iter([])

class Raising:
    def __len__(self):
        return 3
    def __getitem__(self, index):
        raise OSError("gone")

class Leaving(Raising):
    def __getitem__(self, index):
        raise SystemExit(3)

def leaving():
    return Leaving()

def texts():
    return [(torch.zeros(1), "cat")] * 3

def shorter():
    return [({"x": torch.ones(1), "attention_mask": torch.zeros(1)}, 0)] * 2 + [({"x": torch.ones(1)}, 0)]

def pictures():
    from PIL import Image
    return [{"image": Image.new("RGB", (2, 2)), "label": 0}] * 3

def bare():
    return [{"label": 0}] * 3

def crowded():
    return [{"x": torch.ones(1), "label": i % 2 == 1, "meta": None, "box": {"a": 1}, "name": "n" if i else None,
             "spans": [0] * i} for i in range(3)]

def crowded_evenly():
    return [{"x": torch.ones(1), "label": i % 2, "meta": None, "box": {"a": 1}} for i in range(3)]

def wholes():
    import numpy as np
    return [(torch.zeros(1), label) for label in (1.0, True, np.array([0]), torch.tensor([2]), torch.tensor(1.0))]

def raising():
    return Raising()

def ragged():
    return [(torch.zeros(i + 1), 0) for i in range(3)]

def changing():
    return [({"a": torch.zeros(1)}, 0), ({"b": torch.zeros(1)}, 0)]

def empty():
    return []
'''


@pytest.fixture
def dataset_file(tmp_path: Path) -> Path:
    (tmp_path / "sets.py").write_text(DATASET)
    return tmp_path


def test_a_python_function_gives_tensors(dataset_file):
    split = load(dataset_file, format="python", path="sets.py:tensors", args={"size": 5})
    assert split.inputs[""].shape == (5, 2, 3)
    assert split.inputs[""][:, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert split.labels.tolist() == [0, 1, 0, 1, 0]


def test_a_python_function_gives_dicts_which_reach_the_model_as_dicts(dataset_file):
    split = load(dataset_file, format="python", path="sets.py:dicts")
    batch = split.take(torch.arange(1, 3), CPU)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].tolist() == [[1, 2], [2, 3]]
    assert batch["input_ids"].dtype == torch.int64
    assert batch["attention_mask"].tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_a_python_function_may_give_bfloat16_and_tensor_labels(dataset_file):
    split = load(dataset_file, format="python", path="sets.py:halves")
    assert split.inputs[""].dtype == torch.float32
    assert split.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("ragged", r"example 1 has an input of shape \(2,\), unlike those before it; pad the examples"),
        ("changing", r"example 1 has b of shape \(1,\), unlike those before it"),
        ("empty", "the dataset is empty; expected at least 2 examples"),
        ("missing", "has no function 'missing'; check the spelling"),
        ("strange", "its examples have pixels, other, but the model's forward takes x, input_ids, attention_mask"),
        ("unlabelled", r"example 0 is a dict of target, x; expected .* `labels` or `label`"),
        ("half_labels", r"example 0 is tuple; expected .*the label is 0\.5"),
        ("triples", "example 0 is tuple; expected an input and the number of a class"),
        ("objects", "example 0 has an input of type object, which is no tensor"),
        (
            "endless",
            "sets.py:endless gave list_iterator; expected a map-style data set, .*of a DataLoader give its .dataset",
        ),
        ("texts", "label is the text 'cat': give its place among the names of the classes, from 0"),
        ("shorter", "example 2 has no attention_mask, which those before it have; give each the same keys"),
        ("pictures", "no inputs that are tensors. .*no tensor can hold the Image of image: left out"),
        ("bare", "no inputs that are tensors. .*nothing beside the label"),
        ("leaving", "reading example 0 of 3 failed with SystemExit: 3"),
        ("raising", "reading example 0 of 3 failed with OSError: gone"),
    ],
)
def test_a_python_dataset_that_makes_no_table_is_refused(dataset_file, function, message):
    with pytest.raises(ValueError, match=message):
        load(dataset_file, format="python", path=f"sets.py:{function}")


@pytest.mark.parametrize("label", ["label", "labels", "label_ids"])
def test_a_dict_with_its_label_and_one_input_reaches_the_model_under_the_models_name(dataset_file, label):
    split = load(dataset_file, format="python", path="sets.py:one_column", args={"label": label})
    assert split.labels.tolist() == [0, 1, 0, 1]
    assert split.take(torch.arange(2), CPU)[""].tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_what_the_model_does_not_take_is_left_out_and_told_and_texts_are_shown(dataset_file):
    split = load(dataset_file, format="python", path="sets.py:named")
    assert list(split.inputs) == ["x"]
    assert split.texts == ("number 0", "number 1", "number 2", "number 3")
    assert any("forward does not take idx: left out" in note for note in split.notes)
    assert any("sentence of its examples: texts" in note for note in split.notes)


class TakingAll(nn.Module):
    def forward(self, x, **others):
        return x


@pytest.mark.parametrize("model", [Taking(), TakingAll()])
def test_columns_that_no_tensor_can_hold_are_left_out_before_any_is_made_and_it_is_told(dataset_file, model):
    path = "sets.py:crowded" if isinstance(model, Taking) else "sets.py:crowded_evenly"
    split = load(dataset_file, model=model, format="python", path=path)
    assert [*split.inputs] == ["x"]
    assert split.labels.tolist() == [0, 1, 0]
    assert split.texts == ()  # not all have one
    told = " ".join(split.notes)
    assert ("does not take meta, box" if isinstance(model, Taking) else "no tensor can hold the dict of box") in told


def test_labels_of_a_data_set_may_be_whole_numbers_of_any_kind(dataset_file):
    assert load(dataset_file, format="python", path="sets.py:wholes").labels.tolist() == [1, 1, 0, 2, 1]


def test_sentences_of_a_data_set_are_padded_by_batch_where_a_mask_says_so(dataset_file):
    split = load(dataset_file, format="python", path="sets.py:sentences")
    batch = split.take(torch.tensor([1, 0]), CPU)
    assert batch["input_ids"].tolist() == [[7, 7], [7, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    model = Taking()
    model.config = SimpleNamespace(pad_token_id=5)
    padded = load(dataset_file, model=model, format="python", path="sets.py:sentences").take(torch.arange(4), CPU)
    assert padded["input_ids"][0].tolist() == [7, 5, 5, 5]


def test_numbers_of_64_bits_reach_the_model_as_its_own_under_a_name_too(dataset_file):
    batch = load(dataset_file, format="python", path="sets.py:doubles").take(torch.arange(2), CPU)
    assert batch["x"].dtype == torch.float32


@pytest.mark.parametrize(
    ("dataset", "args", "message"),
    [
        ("SVHN", {"split": "tset"}, "tset"),
        ("MNIST", {"nonsense": 1}, "nonsense"),
        ("STL10", {"split": "x"}, "x"),
    ],
)
def test_whatever_a_torchvision_dataset_raises_is_one_clear_error(tmp_path, dataset, args, message):
    with pytest.raises(DataError, match=rf"data\.held_out: torchvision's {dataset} in .* failed: .*{message}"):
        load(tmp_path, format=f"torchvision:{dataset}", args=args)


def test_images_of_another_size_than_the_models_are_told_where_it_takes_them_all_the_same(tmp_path):
    image_folder(tmp_path / "val")
    model = Taking()
    model.image_size = 8
    assert load(tmp_path, model=model, format="imagefolder", path="val").notes == ()
    [note] = load(tmp_path, model=model, format="imagefolder", path="val", transform={"resize": 4}).notes
    assert note.startswith(
        "data.held_out: The transform makes images of 4 pixels, the model says it is built for 8: give it"
    )


# Nothing is decoded twice


def test_decoded_images_are_kept_and_not_decoded_again(tmp_path, empty_cache, monkeypatch):
    image_folder(tmp_path / "val")
    first = load(tmp_path, format="imagefolder", path="val", transform={"resize": 4})
    monkeypatch.setattr(Image, "open", no_decoding)
    monkeypatch.setattr(imagefolder, "decode", no_decoding)
    again = load(tmp_path, format="imagefolder", path="val", transform={"resize": 4})
    assert torch.equal(again.inputs[""], first.inputs[""])
    assert torch.equal(again.labels, first.labels)
    assert (again.fingerprint, again.files, again.classes) == (first.fingerprint, first.files, first.classes)
    with pytest.raises(AssertionError, match="decoded again"):
        load(tmp_path, format="imagefolder", path="val", transform={"resize": 5})


def test_a_torchvision_dataset_is_not_decoded_again(tmp_path, empty_cache, monkeypatch):
    write_mnist(tmp_path, np.zeros((4, 28, 28), dtype=np.uint8), np.arange(4, dtype=np.uint8))
    spec = {"format": "torchvision:MNIST", "path": ".", "args": {"train": True}}
    first = load(tmp_path, **spec)
    monkeypatch.setattr(datasets, "decode", no_decoding)
    assert load(tmp_path, **spec).fingerprint == first.fingerprint


def test_a_changed_image_is_decoded_anew_and_changes_the_fingerprint(tmp_path):
    root = image_folder(tmp_path / "val")
    first = load(tmp_path, format="imagefolder", path="val")
    Image.new("RGB", (8, 8), (255, 255, 255)).save(root / "ant" / "0.png")
    os.utime(root / "ant" / "0.png", ns=(0, 12345))
    changed = load(tmp_path, format="imagefolder", path="val")
    assert changed.inputs[""][0].unique().tolist() == [255]
    assert changed.fingerprint != first.fingerprint


def test_the_same_content_elsewhere_has_the_same_fingerprint(tmp_path):
    image_folder(tmp_path / "here")
    image_folder(tmp_path / "there")
    found = [load(tmp_path, format="imagefolder", path=path).fingerprint for path in ("here", "there")]
    assert found[0] == found[1]


def test_fingerprints_tell_labels_normalization_and_class_order_apart(tmp_path):
    image_folder(tmp_path / "val")
    spec = {"format": "imagefolder", "path": "val"}
    means = {"mean": [0.5, 0.5, 0.5]}
    found = {
        load(tmp_path, **spec).fingerprint,
        load(tmp_path, **spec, transform=means).fingerprint,
        load(tmp_path, **spec, classes=("cow", "bee", "ant")).fingerprint,
        load(tmp_path, **spec, part={"index": 0}).fingerprint,
        load(tmp_path, **spec, part={"index": 1}).fingerprint,
    }
    assert len(found) == 5


def test_images_are_mapped_from_the_cache_and_the_cache_cannot_be_changed_through_them(tmp_path, empty_cache):
    image_folder(tmp_path / "val")
    split = load(tmp_path, format="imagefolder", path="val")
    split.inputs[""].fill_(7)
    assert load(tmp_path, format="imagefolder", path="val").inputs[""][0].unique().tolist() == [0]


def test_decoding_tells_its_progress_up_to_the_end(tmp_path, empty_cache):
    image_folder(tmp_path / "val")
    told: list[tuple[int, int, str]] = []
    load(tmp_path, format="imagefolder", path="val", progress=lambda *values: told.append(values))
    assert told[0] == (0, 9, "decoding held_out")
    assert told[-1] == (9, 9, "decoding held_out")


def test_a_python_dataset_is_read_again_unless_it_has_a_version(dataset_file, empty_cache):
    log = dataset_file / "log"
    spec = {"format": "python", "path": "sets.py:tensors", "args": {"log": str(log)}}
    first, second = load(dataset_file, **spec), load(dataset_file, **spec)
    assert log.read_text() == "called called "
    assert first.fingerprint == second.fingerprint
    log.write_text("")
    for _ in range(2):
        load(dataset_file, **spec, version="1")
    assert log.read_text() == "called "
    load(dataset_file, **spec, version="2")
    assert log.read_text() == "called called "


# Corrupt images


@pytest.fixture
def with_a_corrupt_image(tmp_path: Path) -> Path:
    root = image_folder(tmp_path / "val")
    whole = (root / "bee" / "1.png").read_bytes()
    (root / "bee" / "1.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_a_corrupt_image_is_named_with_the_choice_to_skip_it(with_a_corrupt_image):
    with pytest.raises(
        DataError, match=r"data\.held_out: 1 of 9 images cannot be decoded: .*bee/1\.png \(.*skip_corrupt: true"
    ):
        load(with_a_corrupt_image, format="imagefolder", path="val")


@pytest.mark.parametrize("how", ["kitchen.yaml", "caller"])
def test_corrupt_images_are_left_out_when_asked_and_listed(with_a_corrupt_image, how):
    asked = {"kitchen.yaml": {"skip_corrupt": True}, "caller": {}}[how]
    spec = SplitSpec(format="imagefolder", path="val", **asked)
    split = splits.load("held_out", spec, with_a_corrupt_image, nn.Identity(), skip_corrupt=how == "caller")
    assert len(split) == 8
    assert split.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert split.inputs[""][:, 0, 0, 0].tolist() == [0, 1, 2, 50, 52, 100, 101, 102]
    assert [Path(name).name for name in split.skipped] == ["1.png"]
    assert split.files[3:5] == ("bee/0.png", "bee/2.png")


def test_a_split_that_was_refused_is_still_refused_from_the_cache(with_a_corrupt_image):
    for _ in range(2):
        with pytest.raises(DataError, match="cannot be decoded"):
            load(with_a_corrupt_image, format="imagefolder", path="val")


# Parts


@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.integers(2, 4), st.integers(0, 3))
def test_stratified_parts_are_disjoint_cover_everything_and_share_each_class_evenly(values, of, seed):
    labels = torch.tensor(values)
    parts = [stratified_part(labels, index, of, seed) for index in range(of)]
    assert sorted(torch.cat(parts).tolist()) == list(range(len(values)))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for label in set(values):
        counts = [int((labels[part] == label).sum()) for part in parts]
        assert max(counts) - min(counts) <= 1


def test_parts_depend_on_the_seed_and_on_nothing_else():
    labels = torch.arange(60) % 3
    first = stratified_part(labels, 0, 2, seed=0)
    torch.manual_seed(99)
    assert torch.equal(stratified_part(labels, 0, 2, seed=0), first)
    assert not torch.equal(stratified_part(labels, 0, 2, seed=1), first)


def test_a_part_of_a_split_keeps_inputs_labels_and_files_together(tmp_path):
    image_folder(tmp_path / "val", per_class=4)
    parts = [load(tmp_path, format="imagefolder", path="val", part={"index": index}) for index in (0, 1)]
    assert [len(part) for part in parts] == [6, 6]
    for part in parts:
        assert part.labels.tolist() == [0, 0, 1, 1, 2, 2]
        pixels = part.inputs[""][:, 0, 0, 0].tolist()
        numbers = [int(Path(name).stem) for name in part.files]
        assert pixels == [50 * label + number for label, number in zip(part.labels.tolist(), numbers, strict=True)]
    assert set(parts[0].files).isdisjoint(parts[1].files)


def test_parts_are_views_of_one_array(tmp_path):
    image_folder(tmp_path / "val", per_class=4)
    split = load(tmp_path, format="imagefolder", path="val")
    half = split.part(torch.tensor([1, 5, 6]), "half")
    quarter = half.part(torch.tensor([2, 0]), "quarter")
    for part, rows in ((half, [1, 5, 6]), (quarter, [6, 1])):
        assert part.arrays[""].data_ptr() == split.arrays[""].data_ptr()
        assert torch.equal(part.inputs[""], split.inputs[""][rows])
        assert torch.equal(part.take(torch.arange(len(rows)), CPU)[""], split.take(torch.tensor(rows), CPU)[""])
        assert torch.equal(part.example(0)[""], split.inputs[""][rows[0]])
        assert part.labels.tolist() == split.labels[rows].tolist()
        assert part.files == tuple(split.files[row] for row in rows)
    read = load(tmp_path, format="imagefolder", path="val", part={"index": 1})
    assert (len(read), len(read.arrays[""])) == (6, 12)


def test_a_part_keeps_texts_groups_and_lengths_together():
    inputs = {"ids": torch.arange(12).reshape(4, 3), "attention_mask": torch.ones(4, 3)}
    texts = ("a", "b", "c", "d")
    groups = divided("speaker", ["ann", "ben", "cid", "ben"])
    split = Split("test", inputs, torch.tensor([0, 1, 0, 1]), None, None, "f", texts=texts, group=groups)
    part = replace(split, padding="right", lengths=torch.tensor([1, 2, 3, 1])).part(torch.tensor([3, 1]), "g")
    assert part.texts == ("d", "b")
    assert (part.group.names, part.group_of.tolist(), part.grouped.number) == (("ben",), [0, 0], 1)
    assert part.take(torch.tensor([0]), CPU)["ids"].tolist() == [[9]]
    assert part.take(torch.arange(2), CPU)["ids"].tolist() == [[9, 10], [3, 4]]
    assert part.take(torch.tensor([0]), CPU, is_cut=False)["ids"].tolist() == [[9, 10, 11]]


def test_python_data_in_a_copied_kitchen_is_its_own(tmp_path, empty_cache):
    source = """
import torch
from pathlib import Path

def build():
    number = float(Path(__file__).with_name("number").read_text())
    return [(torch.full((1,), number), i % 2) for i in range(2)]
"""
    found = []
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sets.py").write_text(source)
        (tmp_path / name / "number").write_text(str(number))
        split = load(tmp_path / name, format="python", path="sets.py:build", version="1")
        found.append(split.inputs[""].unique().tolist())
    assert found == [[0.0], [1.0]]


# Slices


def with_slices(folder: Path, per_class: int = 3) -> dict[str, object]:
    """An image folder and a CSV that divides it by number, in another order than the files'."""
    image_folder(folder / "val", per_class)
    names = [f"{label}/{number}.png" for number in range(per_class) for label in ("cow", "ant", "bee")]
    rows = [f"{name},cam{Path(name).stem}" for name in names]
    (folder / "meta.csv").write_text("\n".join(["file,camera", *rows]) + "\n")
    slices = {"file": "meta.csv", "column": "camera"}
    return {"format": "imagefolder", "path": "val", "slices": slices}


def cameras(split: Split) -> list[str]:
    return [split.slices.names[place] for place in split.slices.index.tolist()]


def expected_cameras(split: Split) -> list[str]:
    return [f"cam{Path(name).stem}" for name in split.files]


def test_slices_are_aligned_with_the_examples(tmp_path):
    split = load(tmp_path, **with_slices(tmp_path))
    assert split.slices.column == "camera"
    assert split.slices.names == ("cam0", "cam1", "cam2")
    assert cameras(split) == expected_cameras(split) == ["cam0", "cam1", "cam2"] * 3
    assert split.slices.index.dtype == np.int64


def test_a_split_has_no_slices_unless_the_kitchen_names_them(tmp_path):
    image_folder(tmp_path / "val")
    assert load(tmp_path, format="imagefolder", path="val").slices is None


def test_slices_are_no_part_of_a_splits_fingerprint(tmp_path):
    spec = with_slices(tmp_path)
    sliced = load(tmp_path, **spec)
    plain = load(tmp_path, **{key: value for key, value in spec.items() if key != "slices"})
    assert sliced.fingerprint == plain.fingerprint


@pytest.mark.parametrize("index", [0, 1])
def test_a_part_of_a_split_keeps_its_slices(tmp_path, index):
    split = load(tmp_path, **with_slices(tmp_path, per_class=5), part={"index": index, "seed": 3})
    assert len(split) < 15
    assert cameras(split) == expected_cameras(split)
    assert set(split.slices.names) == set(expected_cameras(split))


def test_what_is_left_out_as_corrupt_is_left_out_of_the_slices(with_a_corrupt_image):
    (with_a_corrupt_image / "meta.csv").write_text("path,camera\n" + "".join(
        f"val/{label}/{number}.png,{label}{number}\n" for label in ("ant", "bee", "cow") for number in range(3)
    ))  # fmt: skip
    spec = {"format": "imagefolder", "path": "val", "slices": {"file": "meta.csv", "column": "camera"}}
    split = load(with_a_corrupt_image, **spec, skip_corrupt=True)
    assert cameras(split) == ["ant0", "ant1", "ant2", "bee0", "bee2", "cow0", "cow1", "cow2"]
    split = load(with_a_corrupt_image, **spec, skip_corrupt=True, part={"index": 1})
    assert cameras(split) == [name.replace("/", "").removesuffix(".png") for name in split.files]


@pytest.mark.parametrize("part", [None, {"index": 1, "of": 2}])
def test_arrays_and_datasets_are_divided_in_their_order(tmp_path, dataset_file, part):
    (tmp_path / "meta.csv").write_text("camera\nx\ny\nz\ny\n")
    slices = {"file": "meta.csv", "column": "camera"}
    write_arrays(tmp_path / "x.npz", torch.arange(4.0)[:, None], torch.tensor([0, 1, 0, 1]))
    write_mnist(
        tmp_path,
        np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8),
        np.arange(4, dtype=np.uint8) % 2,
    )
    for spec in (
        {"format": "arrays", "path": "x.npz"},
        {"format": "python", "path": "sets.py:tensors"},
        {"format": "torchvision:MNIST", "path": "."},
    ):
        split = load(tmp_path, **spec, slices=slices, part=part)
        numbers = split.inputs[""].flatten(1)[:, 0].int().tolist()
        assert cameras(split) == ["xyzy"[number] for number in numbers]
        assert len(split) == (2 if part else 4)


def test_slices_that_do_not_fit_stop_the_split_from_being_read(tmp_path):
    write_arrays(tmp_path / "x.npz", torch.zeros(4, 1), torch.tensor([0, 1, 0, 1]))
    (tmp_path / "meta.csv").write_text("camera\nx\n")
    with pytest.raises(DataError, match=r"data\.held_out\.slices: .* has 1 rows, the split has 4 examples"):
        load(tmp_path, format="arrays", path="x.npz", slices={"file": "meta.csv", "column": "camera"})


# Batches


def test_rows_are_taken_in_the_order_asked_for():
    inputs: Tensor = torch.arange(10.0)
    split = Split("test", {"": inputs}, torch.zeros(10, dtype=torch.int64), None, None, "f")
    assert len(split) == 10
    rows = torch.tensor([7, 0, 3])
    assert torch.equal(split.take(rows, CPU)[""], inputs[rows])
