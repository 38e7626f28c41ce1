"""Bad input of every kind is one clear message: a SoupError in Python, one line and exit code 2 on the command line."""

import errno
import json
import os
import re
import resource
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from kitchens import MLP, build_model, change_yaml, json_of, run_command, save, small_kitchen, write_arrays
from PIL import Image
from safetensors.torch import load_file

import soupviz as sv
from soupviz.errors import (
    CheckpointError,
    CompatibilityError,
    CurveError,
    DataError,
    ExportError,
    KitchenError,
    ModelError,
    RecipeError,
    SoupError,
)

BUFFERED = """
import torch
from torch import nn

class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.arange(6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(x[:, self.order])

def build():
    return Buffered()
"""

PICTURES = """
from torch import nn

def build(classes=2):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))
"""


def image_kitchen(folder: Path, splits=("held_out", "test"), classes=("ant", "bee"), num_outputs=2) -> Path:
    """A kitchen on JPEG files: data/SPLIT/CLASS/0.jpg ... 2.jpg."""
    for split in splits:
        for label, name in enumerate(classes):
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(3):
                picture = Image.effect_noise((32, 32), 60 + 10 * label + number).convert("RGB")
                picture.save(folder / "data" / split / name / f"{number}.jpg")
    data = {split: {"format": "imagefolder", "path": f"data/{split}"} for split in splits}
    return small_kitchen(folder, source=PICTURES, args={"classes": num_outputs}, shape=(3, 8, 8), data=data)


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save(tensors, path)


# Each breakage takes an empty folder and returns the command line that meets what it broke.


def missing_checkpoint(folder):
    file = small_kitchen(folder)
    (folder / "m_2.safetensors").unlink()
    return ["score", file]


def empty_checkpoint(folder):
    file = small_kitchen(folder)
    (folder / "m_2.safetensors").write_bytes(b"")
    return ["score", file]


def truncated(suffix: str, keep: int):
    def breakage(folder):
        file = small_kitchen(folder, suffix=suffix)
        path = folder / f"m_2{suffix}"
        path.write_bytes(path.read_bytes()[:keep])
        return ["score", file]

    return breakage


def garbage_checkpoint(folder):
    file = small_kitchen(folder, suffix=".pt")
    (folder / "m_2.pt").write_bytes(b"<html>404 Not Found</html>" * 20)
    return ["score", file]


class RunsCode:
    """Unpickling one makes the folder RAN: what a hostile checkpoint does, harmlessly."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place / "RAN"),)


def pickle_that_runs_code(folder, legacy=False):
    file = small_kitchen(folder, suffix=".pt")
    tensors = torch.load(folder / "m_2.pt", weights_only=True)
    torch.save(
        {"state_dict": tensors, "extra": RunsCode(folder)},
        folder / "m_2.pt",
        _use_new_zipfile_serialization=not legacy,
    )
    return ["score", file]


def old_pickle_that_runs_code(folder):
    return pickle_that_runs_code(folder, legacy=True)


def wrong_architecture(folder):
    file = small_kitchen(folder)
    save({"conv1.weight": torch.zeros(4, 3, 3, 3)}, folder / "m_2.safetensors")
    return ["score", file]


def without_a_key(folder):
    file = small_kitchen(folder)
    edit(folder / "m_2.safetensors", lambda tensors: tensors.pop("2.bias"))
    return ["score", file]


def with_one_more_key(folder):
    file = small_kitchen(folder)
    edit(folder / "m_2.safetensors", lambda tensors: tensors.update(temperature=torch.ones(1)))
    return ["score", file]


def another_head(folder):
    file = small_kitchen(folder)
    state = build_model(MLP, classes=5).state_dict()
    save(state, folder / "m_2.safetensors")
    return ["score", file]


def mixed_dtypes(folder):
    file = small_kitchen(folder)
    edit(folder / "m_2.safetensors", lambda tensors: tensors.update({k: t.half() for k, t in tensors.items()}))
    return ["score", file]


def one_weight_is(value: float):
    def breakage(folder):
        file = small_kitchen(folder)
        edit(folder / "m_2.safetensors", lambda tensors: tensors["0.weight"][3, 2:4].fill_(value))
        return ["score", file]

    return breakage


def integer_buffer_disagrees(folder):
    file = small_kitchen(folder, source=BUFFERED)
    edit(folder / "m_2.safetensors", lambda tensors: tensors.update(order=torch.tensor([0, 1, 2, 3, 5, 4])))
    return ["score", file]


def base_of_another_architecture(folder):
    file = small_kitchen(folder)
    save({"other": torch.ones(1)}, folder / "base.safetensors")
    return ["score", file]


def examples(inputs: torch.Tensor, labels: torch.Tensor, split: str = "held_out", command=("score",)):
    def breakage(folder):
        file = small_kitchen(folder)
        write_arrays(folder / f"{split}.safetensors", inputs, labels)
        return [command[0], file, *command[1:]]

    return breakage


def missing_arrays(folder):
    file = small_kitchen(folder)
    (folder / "held_out.safetensors").unlink()
    return ["score", file]


def truncated_arrays(folder):
    file = small_kitchen(folder)
    path = folder / "held_out.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    return ["score", file]


def no_images(folder):
    file = image_kitchen(folder)
    for picture in (folder / "data" / "held_out").rglob("*.jpg"):
        picture.unlink()
    return ["score", file]


def one_image(folder):
    file = image_kitchen(folder)
    for picture in sorted((folder / "data" / "held_out").rglob("*.jpg"))[1:]:
        picture.unlink()
    return ["score", file]


def more_class_folders_than_the_head(folder):
    return ["score", image_kitchen(folder, classes=("ant", "bee", "cow"))]


def class_folders_differ_between_splits(folder):
    file = image_kitchen(folder)
    (folder / "data" / "test" / "bee").rename(folder / "data" / "test" / "wasp")
    return ["score", file, "--split", "test"]


def class_folders_differ_from_classes(folder):
    file = image_kitchen(folder)
    change_yaml(file, lambda document: document.update(classes=["ant", "wasp"]))
    return ["score", file]


def corrupt_jpegs(folder, numbers=(1,)):
    file = image_kitchen(folder)
    for number in numbers:
        path = folder / "data" / "held_out" / "bee" / f"{number}.jpg"
        path.write_bytes(path.read_bytes()[:300])
    return ["score", file]


def every_jpeg_corrupt(folder):
    file = image_kitchen(folder)
    for path in (folder / "data" / "held_out").rglob("*.jpg"):
        path.write_bytes(b"not a picture")
    return ["score", file]


def misspelt(*place: str, key: str, value: object = 1):
    def breakage(folder):
        file = small_kitchen(folder)

        def misspell(document):
            for part in place:
                document = document.setdefault(part, {})
            document[key] = value

        change_yaml(file, misspell)
        return ["score", file]

    return breakage


def kitchen_with(text: str | bytes):
    def breakage(folder):
        folder.mkdir()
        (folder / "kitchen.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["score", folder]

    return breakage


def no_kitchen(folder):
    return ["score", folder / "kitchen.yaml"]


def keys(**changes: object):
    def breakage(folder):
        file = small_kitchen(folder)
        change_yaml(file, lambda document: document.update(changes))
        return ["score", file]

    return breakage


def only_exported_soups(folder):
    file = small_kitchen(folder)
    sv.export(sv.uniform(sv.Kitchen.load(file)), folder / "soup.safetensors")
    change_yaml(file, lambda document: document.update(ingredients=["soup.*safetensors"]))
    return ["score", file]


def command(name: str, *arguments: str):
    return lambda folder: [name, small_kitchen(folder), *arguments]


def soup(*arguments: str):
    return command("soup", "--recipe", *arguments)


@dataclass(frozen=True)
class Case:
    """What is broken, and the decisive words of the message, in order."""

    breakage: Callable[[Path], list[object]]
    error: type[SoupError]
    words: tuple[str, ...]
    python: Callable[[Path], object] = field(default=lambda file: sv.Kitchen.load(file).score())


def scores(split: str):
    return lambda file: sv.Kitchen.load(file).score(split)


NINE = torch.zeros(9, 6)
CASES = {
    # checkpoints: which file, what was expected, what came, what to do
    "missing file": Case(
        missing_checkpoint,
        CompatibilityError,
        ("m_2.safetensors", "no such file", "expected a checkpoint", "take it out", "--skip-incompatible"),
    ),
    "empty file": Case(
        empty_checkpoint, CompatibilityError, ("m_2.safetensors", "is empty", "expected a checkpoint", "Copy it again")
    ),
    "truncated safetensors": Case(
        truncated(".safetensors", 400),
        CompatibilityError,
        ("m_2.safetensors", "not a whole safetensors file", "got 400 bytes", "Copy it again"),
    ),
    "safetensors cut in its header": Case(
        truncated(".safetensors", 5), CompatibilityError, ("m_2.safetensors", "not a whole", "got 5 bytes")
    ),
    "truncated pt": Case(
        truncated(".pt", 700),
        CompatibilityError,
        ("m_2.pt", "cannot be read as a PyTorch checkpoint", "damaged", "Copy it again"),
    ),
    "a web page named pt": Case(
        garbage_checkpoint, CompatibilityError, ("m_2.pt", "text; expected a checkpoint with weights")
    ),
    "a pickle that would run code": Case(
        pickle_that_runs_code,
        CompatibilityError,
        ("m_2.pt", "a pickle that needs posix.mkdir", "never runs a file's code", "soupviz convert"),
    ),
    "an old pickle that would run code": Case(
        old_pickle_that_runs_code, CompatibilityError, ("m_2.pt", "a pickle that needs posix.mkdir", "never runs")
    ),
    "wrong architecture": Case(
        wrong_architecture,
        CompatibilityError,
        ("'m_2'", "m_2.safetensors", "another architecture", "none of the model's 4 keys", "conv1.weight", "0.weight"),
    ),
    "one key missing": Case(without_a_key, CompatibilityError, ("'m_2'", "m_2.safetensors", "lacks 2.bias", "remove")),
    "one key too many": Case(
        with_one_more_key,
        CompatibilityError,
        ("'m_2'", "m_2.safetensors", "has temperature, which the model lacks", "remove it"),
    ),
    "another head size": Case(
        another_head,
        CompatibilityError,
        ("'m_2'", "m_2.safetensors", "2.weight", "(5, 16)", "expected (3, 16)", "'m_0'", "m_0.safetensors", "remove"),
    ),
    "mixed dtypes": Case(
        mixed_dtypes,
        CompatibilityError,
        ("'m_2'", "m_2.safetensors", "torch.float16", "'m_0'", "m_0.safetensors", "torch.float32", "remove it"),
    ),
    "NaN weights": Case(
        one_weight_is(float("nan")),
        CompatibilityError,
        ("'m_2'", "m_2.safetensors", "2 NaN or infinite values in 0.weight", "diverged", "remove it"),
    ),
    "infinite weights": Case(
        one_weight_is(float("-inf")), CompatibilityError, ("'m_2'", "2 NaN or infinite values in 0.weight", "remove it")
    ),
    "integer buffers disagree": Case(
        integer_buffer_disagrees,
        CompatibilityError,
        ("'m_2'", "integer buffer order", "'m_0'", "5 and 4 at position 4", "cannot be averaged", "remove it"),
    ),
    "a base that does not fit": Case(
        base_of_another_architecture, CompatibilityError, ("'base'", "base.safetensors", "of another architecture")
    ),
    # data
    "empty arrays": Case(
        examples(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)),
        DataError,
        ("data.held_out", "held_out.safetensors", "has 0 examples", "expected at least 2"),
    ),
    "arrays of one example": Case(
        examples(torch.zeros(1, 6), torch.zeros(1, dtype=torch.int64)),
        DataError,
        ("data.held_out", "held_out.safetensors", "has 1 examples", "expected at least 2"),
    ),
    "missing arrays": Case(missing_arrays, DataError, ("data.held_out", "held_out.safetensors", "no such file")),
    "truncated arrays": Case(truncated_arrays, DataError, ("data.held_out", "held_out.safetensors", "cannot be read")),
    "labels that are too many": Case(
        examples(NINE, torch.zeros(8, dtype=torch.int64)), DataError, ("data.held_out", "9 inputs but 8 labels")
    ),
    "labels that are no whole numbers": Case(
        examples(NINE, torch.full((9,), 0.5)), DataError, ("data.held_out", "example 0 is 0.5", "number of a class")
    ),
    "labels above the head's range": Case(
        examples(NINE, torch.arange(9)),
        DataError,
        ("data.held_out", "held_out.safetensors", "from 0 to 8", "head has 3 outputs (0 to 2)", "Check the model's"),
    ),
    "labels below the head's range": Case(
        examples(NINE, torch.arange(9) % 3 - 1), DataError, ("held_out.safetensors", "from -1 to 1", "(0 to 2)")
    ),
    "labels of another split": Case(
        examples(NINE, torch.arange(9), "test", ("score", "--split", "test")),
        DataError,
        ("data.test", "test.safetensors", "from 0 to 8"),
        scores("test"),
    ),
    "inputs of another shape": Case(
        examples(torch.zeros(9, 4), torch.zeros(9, dtype=torch.int64)),
        DataError,
        ("data.held_out", "does not take", "(4,)"),
    ),
    "no images": Case(no_images, DataError, ("data.held_out", "data/held_out holds no images", "CLASS/x.jpg")),
    "one image": Case(one_image, DataError, ("data.held_out", "data/held_out", "has 1 examples", "at least 2")),
    "more class folders than the head": Case(
        more_class_folders_than_the_head,
        DataError,
        ("data.held_out", "3 classes (ant, bee, cow", "data/held_out", "head has 2 outputs", "Check the model's args"),
    ),
    "class folders that differ between splits": Case(
        class_folders_differ_between_splits,
        DataError,
        ("data.test", "data/test", "has ['wasp'] besides", "Every split has the classes of held_out"),
        scores("test"),
    ),
    "class folders that differ from `classes`": Case(
        class_folders_differ_from_classes,
        DataError,
        ("data.held_out", "data/held_out", "has ['bee'] besides and lacks ['wasp']", "`classes:`"),
    ),
    "a corrupt JPEG among good ones": Case(
        corrupt_jpegs,
        DataError,
        ("data.held_out", "1 of 6 images cannot be decoded", "data/held_out/bee/1.jpg", "Replace", "--skip-corrupt"),
    ),
    "two corrupt JPEGs": Case(
        lambda folder: corrupt_jpegs(folder, (1, 2)),
        DataError,
        ("2 of 6 images", "bee/1.jpg", "and 1 more", "--skip-corrupt"),
    ),
    "nothing but corrupt JPEGs": Case(
        every_jpeg_corrupt, DataError, ("data.held_out", "none of 6 images can be decoded", "ant/0.jpg")
    ),
    # kitchen.yaml
    "no kitchen.yaml": Case(no_kitchen, KitchenError, ("kitchen.yaml", "No such file", "expected a kitchen.yaml")),
    "an empty kitchen.yaml": Case(kitchen_with(""), KitchenError, ("kitchen.yaml", "expected a mapping", "NoneType")),
    "a kitchen.yaml that is not YAML": Case(
        kitchen_with("a: [1"),
        KitchenError,
        ("kitchen.yaml: not YAML: ", " (line ", "expected a kitchen.yaml"),
    ),
    "a kitchen.yaml that is not text": Case(kitchen_with(b"\xff\xfe\x00"), KitchenError, ("kitchen.yaml", "not YAML")),
    "a key missing from kitchen.yaml": Case(
        kitchen_with("name: x"), KitchenError, ("kitchen.yaml", "'model' is missing", "'data' is missing")
    ),
    "an unknown key": Case(
        misspelt(key="ingredient"), KitchenError, ("kitchen.yaml", "unknown key 'ingredient'", "mean 'ingredients'?")
    ),
    "an unknown key of the model": Case(
        misspelt("model", key="arg"), KitchenError, ("unknown key 'model.arg'", "did you mean 'args'?")
    ),
    "an unknown split": Case(
        misspelt("data", key="heldout"), KitchenError, ("unknown key 'data.heldout'", "did you mean 'held_out'?")
    ),
    "an unknown key of a split": Case(
        misspelt("data", "test", key="fromat"), KitchenError, ("'data.test.fromat'", "did you mean 'format'?")
    ),
    "an unknown key of a shift": Case(
        misspelt("data", "shifts", "blur", key="pathh"),
        KitchenError,
        ("'data.shifts.blur.pathh'", "did you mean 'path'?"),
    ),
    "an unknown key of a transform": Case(
        misspelt("data", "test", "transform", key="rezise"),
        KitchenError,
        ("'data.test.transform.rezise'", "did you mean 'resize'?"),
    ),
    "an unknown key of a shift's transform": Case(
        misspelt("data", "shifts", "blur", "transform", key="sevrity"),
        KitchenError,
        ("'data.shifts.blur.transform.sevrity'", "did you mean 'severity'?"),
    ),
    "an unknown key of a shift that is called model": Case(
        misspelt("data", "shifts", "model", key="pathh"),
        KitchenError,
        ("'data.shifts.model.pathh'", "did you mean 'path'?"),
    ),
    "an unknown key of a part": Case(
        misspelt("data", "test", "part", key="sede"), KitchenError, ("'data.test.part.sede'", "did you mean 'seed'?")
    ),
    "an unknown key like no known one": Case(
        misspelt("model", key="zzz"), KitchenError, ("unknown key 'model.zzz'", "known are factory, args")
    ),
    "a value of the wrong type": Case(
        keys(batch_size="many"), KitchenError, ("kitchen.yaml", "batch_size", "valid integer", "got 'many'")
    ),
    "a glob that matches nothing": Case(
        keys(ingredients=["run_*.pt"]), KitchenError, ("run_*.pt", "matches no checkpoint")
    ),
    "no ingredients": Case(keys(ingredients=[]), KitchenError, ("`ingredients` names no file", "expected globs")),
    "a device that is not there": Case(
        keys(device="cuda:77"), KitchenError, ("device is 'cuda:77'", "does not have", "device: auto")
    ),
    "an unknown factory": Case(
        keys(model={"factory": "torchvision:resnet19"}), ModelError, ("'torchvision:resnet19'", "no model 'resnet19'")
    ),
    "a factory that fails": Case(
        keys(model={"factory": "model.py:build", "args": {"classes": -3}}), ModelError, ("model.py:build", "failed")
    ),
    # names and numbers
    "an unknown ingredient": Case(
        soup("uniform", "--members", "m_0,m_11"),
        KitchenError,
        ("no ingredient 'm_11'", "did you mean 'm_1'?"),
        lambda file: sv.uniform(sv.Kitchen.load(file), ["m_0", "m_11"]),
    ),
    "an unknown end": Case(
        command("interpolate", "m_0", "m3"),
        KitchenError,
        ("no ingredient 'm3'", "did you mean 'm_3'?"),
        lambda file: sv.interpolate(sv.Kitchen.load(file), "m_0", "m3"),
    ),
    "no member": Case(
        soup("greedy", "--members", ","),
        KitchenError,
        ("no ingredient is chosen",),
        lambda file: sv.greedy(sv.Kitchen.load(file), members=[]),
    ),
    "a member named twice": Case(
        soup("uniform", "--members", "m_0,m_0"),
        KitchenError,
        ("named twice", "m_0"),
        lambda file: sv.uniform(sv.Kitchen.load(file), ["m_0", "m_0"]),
    ),
    "a split that the kitchen lacks": Case(
        command("score", "--split", "tset"),
        KitchenError,
        ("kitchen.yaml", "no split 'tset'", "held_out, test"),
        scores("tset"),
    ),
    **{
        f"alpha {alpha!r}": Case(
            soup("greedy", "--alpha", alpha),
            RecipeError,
            (f"alpha is {alpha!r}", "expected mean, or a number above 0 and at most 1"),
            lambda file, alpha=alpha: sv.greedy(sv.Kitchen.load(file), alpha=alpha),
        )
        for alpha in ("high", "0", "-0.1", "1.01", "nan", "inf", "")
    },
    "an unknown order": Case(
        soup("greedy", "--order", "size"),
        RecipeError,
        ("order", "'best', 'listed' or 'random'", "size"),
        lambda file: sv.greedy(sv.Kitchen.load(file), order="size"),
    ),
    "a curve of one point": Case(
        command("interpolate", "m_0", "m_1", "--points", "1"),
        CurveError,
        ("points is 1", "at least 2"),
        lambda file: sv.interpolate(sv.Kitchen.load(file), "m_0", "m_1", points=1),
    ),
    "a curve without length": Case(
        command("interpolate", "m_0", "m_1", "--from", "0.5", "--to", "0.5"),
        CurveError,
        ("from 0.5 to 0.5", "two different finite numbers"),
        lambda file: sv.interpolate(sv.Kitchen.load(file), "m_0", "m_1", start=0.5, stop=0.5),
    ),
    "a curve to infinity": Case(
        command("interpolate", "m_0", "m_1", "--to", "inf"),
        CurveError,
        ("0.0 to inf", "finite"),
        lambda file: sv.interpolate(sv.Kitchen.load(file), "m_0", "m_1", stop=float("inf")),
    ),
    "a coefficient beyond float32": Case(
        command("interpolate", "m_0", "m_1", "--to", "1e39", "--points", "2"),
        RecipeError,
        ("coefficient of 'm_0'", "e+39", "expected a finite number"),
        lambda file: sv.interpolate(sv.Kitchen.load(file), "m_0", "m_1", points=2, stop=1e39),
    ),
    "a kitchen of nothing but soups": Case(
        only_exported_soups, KitchenError, ("soup.safetensors is an exported soup", "name the checkpoints")
    ),
}


def in_order(words: tuple[str, ...]) -> str:
    return ".*".join(re.escape(word) for word in words)


@pytest.mark.parametrize("name", CASES)
def test_python_raises_one_error_that_says_where_and_what(name, tmp_path):
    case = CASES[name]
    file = Path(str(case.breakage(tmp_path / "kitchen")[1]))
    with pytest.raises(case.error, match=in_order(case.words)) as raised:
        case.python(file)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_says_so_in_one_line_and_exits_2(name, tmp_path, capsys):
    case = CASES[name]
    arguments = case.breakage(tmp_path / "kitchen")
    status, out, err = run_command(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert_one_line(err)
    assert re.search(in_order(case.words), err)


def assert_one_line(err: str) -> None:
    assert err.startswith("soupviz: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert "Error(" not in err


@pytest.mark.parametrize("breakage", [pickle_that_runs_code, old_pickle_that_runs_code])
def test_the_code_in_a_pickle_does_not_run(breakage, tmp_path, capsys):
    """The same file runs its code when it is unpickled without care: the test's bait works."""
    arguments = breakage(tmp_path / "kitchen")
    assert run_command(capsys, *arguments)[0] == 2
    assert json_of(capsys, *arguments, "--skip-incompatible")["ingredients"].keys() == {"m_0", "m_1", "m_3"}
    assert not (tmp_path / "kitchen" / "RAN").exists()
    torch.load(tmp_path / "kitchen" / "m_2.pt", weights_only=False)
    assert (tmp_path / "kitchen" / "RAN").is_dir()


CHECKPOINT_CASES = [
    name for name, case in CASES.items() if case.error is CompatibilityError and name != "a base that does not fit"
]


@pytest.mark.parametrize("name", CHECKPOINT_CASES)
def test_skip_incompatible_goes_on_with_the_rest_and_says_what_it_left_out(name, tmp_path, capsys):
    arguments = CASES[name].breakage(tmp_path / "kitchen")
    status, out, err = run_command(capsys, *arguments, "--skip-incompatible", "--json")
    assert status == 0
    assert set(json.loads(out)["ingredients"]) == {"m_0", "m_1", "m_3"}
    assert re.fullmatch(f"left out: .*{in_order(CASES[name].words)}.*\n", err)
    kitchen = sv.Kitchen.load(str(arguments[1]), skip_incompatible=True)
    assert [refusal.name for refusal in kitchen.refused] == ["m_2"]
    assert kitchen.names == ["m_0", "m_1", "m_3"]


def test_a_refused_base_is_left_out_too(tmp_path, capsys):
    arguments = base_of_another_architecture(tmp_path / "kitchen")
    assert len(json_of(capsys, *arguments, "--skip-incompatible")["ingredients"]) == 4
    status, _, err = run_command(capsys, "interpolate", arguments[1], "m_0", "base", "--skip-incompatible")
    assert status == 2
    assert "this kitchen has no base" in err


def test_a_file_that_is_no_kitchen_is_told_by_its_own_name(tmp_path, capsys):
    (tmp_path / "README.md").write_text("# Runs\n\n| folder | written by |\n")
    status, _, err = run_command(capsys, "score", tmp_path / "README.md")
    assert status == 2
    assert_one_line(err)
    assert "README.md: not YAML" in err and "(line 3)" in err
    assert "unicode string" not in err


def test_where_no_checkpoint_fits_it_is_the_model_that_is_to_be_changed(tmp_path, capsys):
    file = small_kitchen(tmp_path, num_ingredients=2, model={"factory": "torchvision:resnet18"})
    status, _, err = run_command(capsys, "score", file)
    assert status == 2
    assert re.search(r"fits the model that torchvision:resnet18 builds.*model\.factory.*--factory", err)
    assert "skip-incompatible" not in err and "remove it" not in err


def test_nothing_is_left_to_go_on_with_when_every_file_is_refused(tmp_path, capsys):
    file = small_kitchen(tmp_path, num_ingredients=2)
    for name in ("m_0", "m_1"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    status, _, err = run_command(capsys, "score", file, "--skip-incompatible")
    assert status == 2
    assert_one_line(err)
    assert re.search(r"2 files are refused\. .*m_0\.safetensors: the file is empty", err)
    assert "skip-incompatible" not in err


def test_a_broken_index_in_the_folder_refuses_itself_and_nothing_else(tmp_path):
    file = small_kitchen(tmp_path, ingredients=["m_*"])
    (tmp_path / "m_x.safetensors.index.json").write_text("{}")
    with pytest.raises(CompatibilityError, match=r"m_x\.safetensors\.index\.json: not a sharded checkpoint's index"):
        sv.Kitchen.load(file)
    assert sv.Kitchen.load(file, skip_incompatible=True).names == ["m_0", "m_1", "m_2", "m_3"]


def test_skip_corrupt_goes_on_with_the_other_images(tmp_path, capsys):
    arguments = corrupt_jpegs(tmp_path / "kitchen")
    found = json_of(capsys, *arguments, "--skip-corrupt")
    assert {score["num_examples"] for score in found["ingredients"].values()} == {5}
    kitchen = sv.Kitchen.load(str(arguments[1]), skip_corrupt=True)
    assert [Path(file).name for file in kitchen.splits.load("held_out").skipped] == ["1.jpg"]


def test_a_file_that_is_no_checkpoint_is_refused_by_what_it_is(tmp_path):
    """A glob passes over it; named outright it is an ingredient that is none."""
    file = small_kitchen(tmp_path, ingredients={"notes": "notes.txt"})
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CompatibilityError, match=r"notes\.txt: text; expected a checkpoint"):
        sv.Kitchen.load(file)


def test_a_damaged_store_is_named_with_the_remedy(tmp_path, capsys):
    file = small_kitchen(tmp_path)
    (tmp_path / ".soupviz").mkdir()
    (tmp_path / ".soupviz" / "store.sqlite").write_bytes(b"this is no database, whatever its name says" * 50)
    status, _, err = run_command(capsys, "score", file)
    assert status == 2
    assert_one_line(err)
    assert re.search(r"\.soupviz/store\.sqlite: the store of scores cannot be used .*remove the file", err)
    (tmp_path / ".soupviz" / "store.sqlite").unlink()
    assert run_command(capsys, "score", file)[0] == 0


def test_an_end_that_is_a_damaged_file_is_refused(tmp_path, capsys):
    file = small_kitchen(tmp_path)
    (tmp_path / "other.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"other\.safetensors: not a whole safetensors file"):
        sv.interpolate(sv.Kitchen.load(file), "m_0", "other.safetensors")
    assert run_command(capsys, "interpolate", file, "m_0", "other.safetensors")[0] == 2


def test_an_end_of_another_architecture_is_refused(tmp_path):
    file = small_kitchen(tmp_path)
    save(build_model(MLP, classes=7).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(CompatibilityError, match=r"other\.safetensors has 2\.weight of shape \(7, 16\); expected \(3"):
        sv.interpolate(sv.Kitchen.load(file), "m_0", "other.safetensors")
    save({k: t.half() for k, t in build_model(MLP).state_dict().items()}, tmp_path / "half.safetensors")
    with pytest.raises(CompatibilityError, match=r"half\.safetensors has 0\.weight of type torch\.float16; 'm_0'"):
        sv.interpolate(sv.Kitchen.load(file), "m_0", "half.safetensors")


# Export

Usage = namedtuple("Usage", ["free"])
BAD_TARGETS = {
    "a folder that is not there": ("nowhere/soup.safetensors", "nowhere: no such folder; make it, or choose another."),
    "a suffix that says nothing": ("soup", "cannot write '' files; name it .safetensors or .pt."),
    "a format that is read only": ("soup.bin", "cannot write '.bin' files; name it .safetensors or .pt."),
}


@pytest.mark.parametrize("name", BAD_TARGETS)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_cooked(name, tmp_path, capsys):
    target, words = BAD_TARGETS[name]
    file = small_kitchen(tmp_path / "kitchen")
    status, out, err = run_command(capsys, "soup", file, "--recipe", "uniform", "--out", tmp_path / target)
    assert (status, out) == (2, "")
    assert_one_line(err)
    assert words in err
    kitchen = sv.Kitchen.load(file)
    assert kitchen.store.runs() == []
    with pytest.raises(ExportError, match=re.escape(words)):
        sv.export(sv.uniform(kitchen), tmp_path / target)


def test_a_read_only_folder_is_refused_at_export(tmp_path, capsys, monkeypatch):
    """Root may write where mode bits forbid it, so that the answer to the question is replaced."""
    file = small_kitchen(tmp_path / "kitchen")
    cooked = sv.uniform(sv.Kitchen.load(file))
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(sys.modules["soupviz.soups.exports"], "is_writable", lambda folder: folder != tmp_path / "out")
    with pytest.raises(ExportError, match=r"out: the folder is read-only; choose another\."):
        sv.export(cooked, tmp_path / "out" / "soup.safetensors")
    target = tmp_path / "out" / "soup.pt"
    status, _, err = run_command(capsys, "soup", file, "--recipe", "uniform", "--out", target)
    assert status == 2
    assert_one_line(err)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, capsys, monkeypatch):
    file = small_kitchen(tmp_path / "kitchen")
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "soup.safetensors"
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: Usage(free=100))
    with pytest.raises(
        ExportError, match=r"soup\.safetensors: the disk is full: needs 0\.0 MB, 0\.0 MB are free\. Free"
    ):
        sv.export(sv.uniform(sv.Kitchen.load(file)), target)
    status, _, err = run_command(capsys, "soup", file, "--recipe", "uniform", "--out", target)
    assert status == 2
    assert_one_line(err)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_room_that_is_needed_is_the_size_of_the_weights(tmp_path, monkeypatch):
    cooked = sv.uniform(sv.Kitchen.load(small_kitchen(tmp_path / "kitchen")))
    num_bytes = sum(tensor.nbytes for tensor in cooked.state_dict().values())
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: Usage(free=num_bytes - 1))
    with pytest.raises(ExportError, match="the disk is full"):
        sv.export(cooked, tmp_path / "soup.safetensors")
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: Usage(free=num_bytes))
    assert sv.export(cooked, tmp_path / "soup.safetensors")[0].is_file()


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """The operating system refuses to let a file grow further: writing fails half way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_disk_that_fills_up_while_it_is_written_leaves_nothing_half_written(suffix, tmp_path, capsys):
    file = small_kitchen(tmp_path / "kitchen", args={"features": 8000}, shape=(8000,), num_examples=10)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / f"soup{suffix}"
    cooked = sv.uniform(sv.Kitchen.load(file))
    with files_of_at_most(300_000):
        # What is worked on may lie on another disk than the file: the message says which is full.
        with pytest.raises(
            ExportError, match=r"(soup\.\w+: cannot be written|cannot be set down) \(.*Free some space, or"
        ):
            sv.export(cooked, target)
        status, _, err = run_command(capsys, "soup", file, "--recipe", "uniform", "--out", target)
    assert status == 2
    assert_one_line(err)
    assert f"soup{suffix}: cannot be written" in err or "cannot be set down" in err
    assert list((tmp_path / "out").iterdir()) == []
    assert sv.export(cooked, target)[0] == target


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_an_old_soup_survives_an_export_that_fails(suffix, tmp_path):
    file = small_kitchen(tmp_path / "kitchen", args={"features": 8000}, shape=(8000,), num_examples=10)
    kitchen = sv.Kitchen.load(file)
    [target, *_] = sv.export(sv.uniform(kitchen), tmp_path / f"soup{suffix}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with files_of_at_most(300_000), pytest.raises(ExportError):
        sv.export(sv.uniform(kitchen, ["m_0", "m_1"]), target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_no_room_left_for_the_recipe_is_an_error_too(tmp_path, monkeypatch):
    cooked = sv.uniform(sv.Kitchen.load(small_kitchen(tmp_path / "kitchen")))
    (tmp_path / "out").mkdir()

    def full(_self, *_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(
        ExportError, match=r"soup\.pt: cannot be written \(.*No space left on device\)\. Free some space"
    ):
        sv.export(cooked, tmp_path / "out" / "soup.pt")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_checkpoint_of_the_pool_is_not_overwritten(tmp_path, capsys):
    file = small_kitchen(tmp_path)
    before = (tmp_path / "m_1.safetensors").read_bytes()
    target = tmp_path / "m_1.safetensors"
    status, _, err = run_command(capsys, "soup", file, "--recipe", "uniform", "--out", target)
    assert status == 2
    assert_one_line(err)
    assert "m_1.safetensors: is the checkpoint of ingredient 'm_1'; choose another name." in err
    assert target.read_bytes() == before


# The other commands


def test_a_demo_where_no_folder_can_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    status, _, err = run_command(capsys, "demo", tmp_path / "file" / "digits")
    assert status == 2
    assert_one_line(err)
    assert "file: File exists" in err


def test_the_cache_of_a_kitchen_that_is_not_there_is_refused(tmp_path, capsys):
    status, _, err = run_command(capsys, "cache", tmp_path / "kitchn.yaml")
    assert status == 2
    assert_one_line(err)
    assert "kitchn.yaml: no such file; expected a kitchen.yaml, or the folder that holds one." in err


NO_RECIPES = {
    "missing recipe": ("recipe.yaml", None, "recipe.yaml: cannot be read as a recipe: .*No such file"),
    "recipe that is not YAML": ("recipe.yaml", "a: [", "recipe.yaml: cannot be read as a recipe"),
    "recipe that is another thing": ("recipe.yaml", "a: 1", "recipe.yaml: not a whole soupviz recipe: soupviz: "),
    "empty recipe": ("recipe.yaml", "", "recipe.yaml: not a whole soupviz recipe: "),
    "missing soup": ("soup.safetensors", None, "soup.safetensors: no such file; expected a checkpoint"),
    "damaged soup": ("soup.safetensors", "xx", "soup.safetensors: not a whole safetensors file"),
}


@pytest.mark.parametrize("name", NO_RECIPES)
def test_baking_what_is_no_recipe_is_one_line(name, tmp_path, capsys):
    file, text, words = NO_RECIPES[name]
    if text is not None:
        (tmp_path / file).write_text(text)
    status, _, err = run_command(capsys, "bake", tmp_path / file, "--out", tmp_path / "again.safetensors")
    assert status == 2
    assert_one_line(err)
    assert re.search(words, err)
    with pytest.raises(SoupError, match=words):
        sv.bake(tmp_path / file, tmp_path / "again.safetensors")


def test_baking_a_checkpoint_without_a_recipe_is_refused(tmp_path):
    small_kitchen(tmp_path)
    with pytest.raises(ExportError, match=r"m_0\.safetensors: carries no soupviz recipe; expected a soup that soupviz"):
        sv.bake(tmp_path / "m_0.safetensors", tmp_path / "again.safetensors")
    tensors = load_file(tmp_path / "m_0.safetensors")
    save(tensors, tmp_path / "odd.safetensors", metadata={"soupviz": "not JSON"})
    with pytest.raises(ExportError, match=r"odd\.safetensors: its soupviz recipe is not JSON"):
        sv.bake(tmp_path / "odd.safetensors", tmp_path / "again.safetensors")


def test_a_recipe_whose_mix_names_an_ingredient_it_does_not_pin_is_refused(tmp_path):
    cooked = sv.uniform(sv.Kitchen.load(small_kitchen(tmp_path / "kitchen")))
    sv.export(cooked, tmp_path / "soup.safetensors")
    change_yaml(tmp_path / "recipe.yaml", lambda record: record["mix"].append(["m_9", 0.5]))
    with pytest.raises(ExportError, match=r"not a whole soupviz recipe: .*the mix names 'm_9', which is not among"):
        sv.bake(tmp_path / "recipe.yaml", tmp_path / "again.safetensors")
