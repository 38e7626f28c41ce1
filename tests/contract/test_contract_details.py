"""DESIGN.md's "Details that are relied on", in its order."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from surface import edited, losses, net, refused, run, save, tensors_of, text_kitchen, tiny, told

import soupviz as sv

# left-over keys


@pytest.mark.parametrize(
    "extra",
    [
        {"criterion.weight": torch.ones(3)},
        {"n_averaged": torch.tensor(7)},
        {"steps_done": torch.tensor(12)},
        {"seen": torch.tensor([True, False])},
    ],
    ids=["outside the prefix", "n_averaged", "an integer", "booleans"],
)
def test_left_over_keys_that_are_no_part_of_the_model_are_named(tmp_path, kitchen, extra):
    prefixed = "criterion.weight" in extra

    def change(_name, state):
        return {(f"model.{key}" if prefixed else key): tensor for key, tensor in state.items()} | extra

    file = tiny(tmp_path, change=change)
    found = run("score", file)
    assert found.status == 0
    assert next(iter(extra)) in found.err
    assert losses(file) == losses(kitchen)


def test_extra_state_is_named(tmp_path, kitchen):
    file = tiny(tmp_path, change=lambda _name, state: state | {"0._extra_state": torch.tensor(1.5)})
    found = run("score", file)
    assert found.status == 0
    assert "_extra_state" in found.err
    assert losses(file) == losses(kitchen)


@pytest.mark.parametrize(
    "extra",
    [lambda number: torch.full((3,), 0.5 + number), lambda number: torch.tensor([1, number])],
    ids=["a float", "integers that differ"],
)
def test_any_other_tensor_that_is_left_over_is_refused_by_key(tmp_path, extra):
    def change(name, state):
        return state | {"scale_of_nothing": extra("abcd".find(name) + 1)}

    assert "scale_of_nothing" in refused("score", tiny(tmp_path, change=change, names=("a", "b")))


# globs


def test_a_glob_passes_over_what_is_something_else_and_says_so(tmp_path):
    file = tiny(tmp_path / "kitchen", names=("a", "b"), ingredients=["run/*"])
    for name in ("a", "b"):
        save(tensors_of(tmp_path / "kitchen" / f"{name}.safetensors"), file.parent / "run" / f"{name}.safetensors")
    others = ("results.csv", "args.yaml", "optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth")
    for other in others:
        (file.parent / "run" / other).write_bytes(b"step,loss\n1,2\n")
    found = run("score", file, "--json")
    assert found.status == 0
    assert list(told("score", file)["ingredients"]) == ["a", "b"]
    assert all(other in found.err for other in others[:2])


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[: len(content) // 2]], ids=["empty", "cut"]
)
def test_an_empty_or_cut_checkpoint_ends_with_exit_2(tmp_path, damage):
    file = tiny(tmp_path, ingredients=["?.safetensors"])
    place = tmp_path / "c.safetensors"
    place.write_bytes(damage(place.read_bytes()))
    assert "c.safetensors" in refused("score", file)


def test_a_checkpoint_that_would_run_code_ends_with_exit_2_and_runs_nothing(tmp_path):
    file = tiny(tmp_path, names=("a", "b"), ingredients=["a.safetensors", "whole.pt"])
    torch.save(net(), tmp_path / "whole.pt")
    assert "whole.pt" in refused("score", file)


# equal weights


def test_of_equal_weights_the_name_with_a_step_stays_and_uniform_counts_one(tmp_path):
    kept = {}

    def same(name, state):
        return kept.setdefault("last", state) if name in ("last", "step_200") else state

    file = tiny(tmp_path, names=("last", "step_100", "step_200"), change=same)
    assert set(told("score", file)["ingredients"]) == {"last", "step_100", "step_200"}
    assert told("soup", file, "--recipe", "uniform")["coefficients"] == {"step_100": 0.5, "step_200": 0.5}
    both = told("soup", file, "--recipe", "uniform", "--members", "last,step_200")
    assert both["coefficients"] == {"last": 0.5, "step_200": 0.5}, "both, where both are chosen by name"


# consent, and terminals


def test_naming_a_kitchen_on_the_command_line_is_consent_and_nothing_prompts(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_words: pytest.fail("it prompts"))
    marker = tmp_path / "imported"
    source = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n" + Path(
        tiny(tmp_path / "kitchen").parent / "net.py"
    ).read_text(encoding="utf-8")
    (tmp_path / "kitchen" / "net.py").write_text(source, encoding="utf-8")
    assert run("score", tmp_path / "kitchen").status == 0
    assert marker.exists()


def test_without_a_terminal_new_names_the_option_for_what_it_would_ask(tmp_path):
    save(net().state_dict(), tmp_path / "run" / "a.safetensors")
    assert "--factory" in refused("new", tmp_path / "run")


# names


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["lr0.0005/model.safetensors", "lr0.1/model.safetensors"], ["lr0.0005", "lr0.1"]),
        (["run.v2/last.safetensors", "run.v3/last.safetensors"], ["run.v2", "run.v3"]),
        (["x.final.safetensors", "x.other.safetensors"], ["x.final", "x.other"]),
        ([".safetensors/model.safetensors", "b/model.safetensors"], None),
    ],
    ids=["folders", "dotted folders", "dotted files", "never empty"],
)
def test_suffixes_are_taken_only_off_files_and_no_name_is_empty(tmp_path, files, names):
    file = tiny(tmp_path, names=("a", "b"), ingredients=files)
    for place, name in zip(files, ("a", "b"), strict=True):
        save(tensors_of(tmp_path / f"{name}.safetensors"), tmp_path / place)
    found = list(told("score", file)["ingredients"])
    assert all(found)
    assert names is None or found == names


def test_a_members_value_that_is_a_name_is_that_one_else_it_is_split_at_commas(tmp_path):
    mapping = {"a": "a.safetensors", "a,b": "b.safetensors", "b": "c.safetensors"}
    file = tiny(tmp_path, ingredients=mapping)
    assert list(told("score", file, "--members", "a,b")["ingredients"]) == ["a,b"]
    assert list(told("score", file, "--members", "b,a")["ingredients"]) == ["a", "b"]
    assert list(told("score", file, "--members", "a,b", "--members", "b")["ingredients"]) == ["a,b", "b"]


# labels and outputs


def test_labels_are_names_or_positions_from_0_in_classes(tmp_path):
    pytest.importorskip("tokenizers")
    file = text_kitchen(tmp_path)
    before = losses(file)  # the classes are sorted: no, yes
    table = (tmp_path / "val.csv").read_text(encoding="utf-8")
    (tmp_path / "val.csv").write_text(table.replace(",no", ",0").replace(",yes", ",1"), encoding="utf-8")
    edited(file, lambda keys: keys.update(classes=["no", "yes"]))
    assert losses(file) == before
    edited(file, lambda keys: keys.update(classes=["yes", "no"]))
    assert losses(file) == before, "positions, whatever the classes are called"


BINARY = """
from torch import nn

def build():
    return nn.Linear(5, 1)
"""


def test_one_output_meets_labels_of_two_classes(tmp_path):
    """Outputs (n, 1) meet labels (n,): the logits 0 and x of the classes 0 and 1."""
    file = tiny(tmp_path, source=BINARY, names=("a",), splits=())
    inputs = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    labels = (inputs.sum(1) > 0).long()
    save({"inputs": inputs, "labels": labels}, tmp_path / "held_out.safetensors")
    edited(file, lambda keys: keys["data"].update(held_out={"format": "arrays", "path": "held_out.safetensors"}))
    [score] = told("score", file)["ingredients"].values()
    model = net(BINARY)
    model.load_state_dict(tensors_of(tmp_path / "a.safetensors"))
    with torch.no_grad():
        outputs = model(inputs).squeeze(1)
    assert score["correct"] == int(((outputs > 0).long() == labels).sum())
    loss = torch.nn.functional.binary_cross_entropy_with_logits(outputs, labels.float())
    assert score["loss"] == pytest.approx(float(loss), abs=1e-5)


# sentences


def test_max_length_in_the_yaml_beats_the_tokenizers_truncation(tmp_path):
    pytest.importorskip("tokenizers")
    file = text_kitchen(tmp_path)
    whole = losses(file)
    place = tmp_path / "words" / "tokenizer.json"
    cut = '"truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}'
    place.write_text(place.read_text(encoding="utf-8").replace('"truncation": null', cut), encoding="utf-8")
    short = losses(file)
    assert short != whole
    edited(file, lambda keys: keys["data"]["held_out"].update(max_length=9))
    assert losses(file) == whole
    edited(file, lambda keys: keys["data"]["held_out"].update(max_length=1))
    assert losses(file) == short


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_sentences_outcome_does_not_depend_on_its_batch(tmp_path, batch_size):
    pytest.importorskip("tokenizers")
    file = text_kitchen(tmp_path)
    correct = [score["correct"] for score in told("score", file)["ingredients"].values()]
    before = losses(file)
    told("cache", file, "--clear")
    edited(file, lambda keys: keys.update(batch_size=batch_size))
    assert [score["correct"] for score in told("score", file)["ingredients"].values()] == correct
    assert losses(file) == pytest.approx(before, abs=1e-5)


# what is to come


def test_a_classification_score_has_its_five_metrics_by_name(kitchen):
    metrics = told("score", kitchen)["ingredients"]["a"]["metrics"]
    assert metrics.keys() >= {"accuracy", "loss", "macro_f1", "top5", "ece"}


def test_a_segmentation_score_has_its_metrics_by_name_and_counts_pixels_of_all_images_together(tmp_path):
    masks = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [0, 255]]], dtype=torch.uint8)
    inputs = torch.stack([1.0 - (masks != 0).float(), (masks == 1).float()], dim=1)
    inputs[0, :, 0, 0] = torch.tensor([0.0, 1.0])  # one pixel of the first image is wrong
    (tmp_path / "model.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Conv2d(2, 2, 1, bias=False)\n"
    )
    save({"weight": torch.eye(2)[:, :, None, None]}, tmp_path / "a.safetensors")
    save({"inputs": inputs, "labels": masks}, tmp_path / "h.safetensors")
    document = {
        "task": "segmentation", "model": {"factory": "model.py:build"}, "ingredients": ["a.safetensors"],
        "data": {"held_out": {"format": "arrays", "path": "h.safetensors"}}, "device": "cpu",
    }  # fmt: skip
    (tmp_path / "kitchen.yaml").write_text(yaml.safe_dump(document))
    found = told("score", tmp_path / "kitchen.yaml")["ingredients"]["a"]
    assert list(found["metrics"]) == ["mean_iou", "pixel_accuracy", "dice", "loss"] and found["metric"] == "mean_iou"
    assert found["value"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert found["metrics"]["pixel_accuracy"] == pytest.approx(6 / 7)


def known_tasks(folder: Path) -> str:
    """What is said to be known where a task is none."""
    line = refused("score", tiny(folder, task="no_such_task"))
    assert "no_such_task" in line
    return line


def test_an_unknown_task_is_refused_and_the_tasks_of_issue_12_are_named(tmp_path):
    assert all(task in known_tasks(tmp_path) for task in ("classification", "multilabel", "regression"))


@pytest.mark.parametrize(
    "task", ["language_model", "transcription", "detection", "segmentation", "token_classification"]
)
def test_an_unknown_task_is_refused_and_the_tasks_of_issue_13_are_named(tmp_path, task):
    assert task in known_tasks(tmp_path)


def test_benchmarks_lie_beside_the_package(kitchen):
    root = Path(sv.__file__).resolve().parents[1]
    assert (root / "benchmarks").is_dir()


# detection

FINDER = """
import json

import torch
from torch import nn


class Finder(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        with open(LOG, "a") as log:
            for one in images:
                log.write(json.dumps([list(one.shape), float(one.min()), float(one.max())]) + "\\n")
        box = torch.tensor([[2.0, 1.0, 6.0, 5.0]])
        return [
            {"boxes": box + self.shift, "scores": torch.tensor([0.9]), "labels": torch.tensor([7])} for _ in images
        ]


def build():
    return Finder()
"""


def detectors(folder: Path, **keys) -> Path:
    """Two images of their own sizes, one object of the category 7 in each; `a` finds both, `b` lies beside them."""
    for index, size in enumerate([(8, 6), (10, 12)]):
        picture = Image.new("RGB", size, (255, 0, 128))
        (folder / "images").mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"images/{index}.png")
    boxes = [
        {"id": k + 1, "image_id": k, "category_id": 7, "bbox": [2, 1, 4, 4], "area": 16, "iscrowd": 0} for k in (0, 1)
    ]
    images = [{"id": k, "file_name": f"{k}.png"} for k in (0, 1)]
    told = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "cell"}]}
    (folder / "boxes.json").write_text(json.dumps(told))
    (folder / "finder.py").write_text(f"LOG = {str(folder / 'log')!r}\n{FINDER}")
    for name, shift in (("a", 0.0), ("b", 3.0)):
        save({"shift": torch.tensor([shift])}, folder / f"{name}.safetensors")
    document = {
        "task": "detection",
        "model": {"factory": "finder.py:build"},
        "ingredients": ["*.safetensors"],
        "data": {"held_out": {"format": "coco", "path": "images", "annotations": "boxes.json"}},
        "device": "cpu",
    }
    file = folder / "kitchen.yaml"
    file.write_text(yaml.safe_dump(document | keys))
    return file


def test_labels_of_detectors_are_the_annotations_category_ids(tmp_path):
    scores = told("score", detectors(tmp_path))["ingredients"]
    assert scores["a"]["metrics"]["map"] == scores["a"]["metrics"]["map50"] == scores["a"]["value"] == 1.0
    assert scores["b"]["value"] == 0.0 and scores["a"]["metric"] == "map"


def test_detectors_are_called_with_a_list_of_images_in_their_own_shapes_from_0_to_1(tmp_path):
    told("score", detectors(tmp_path))
    seen = {
        tuple(shape): (low, high)
        for shape, low, high in map(json.loads, (tmp_path / "log").read_text().split("\n")[:-1])
    }
    assert seen == {(3, 6, 8): (0.0, 1.0), (3, 12, 10): (0.0, 1.0)}
