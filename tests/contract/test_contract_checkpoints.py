"""Checkpoints: fingerprints, names, what globs take, and what a score's key is made of."""

import re
from pathlib import Path

import pytest
import torch
from surface import NET, edited, fingerprint, near, net, num_scores, recipe_beside, save, tensors_of, tiny, told

import soupviz as sv

TIED = """
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()))

def build():
    return Tied()
"""

SUFFIX = re.compile(r"(\.pth\.tar|\.\w+)$")


def pinned(file: Path, folder: Path) -> dict[str, str]:
    """The fingerprints that a soup of all ingredients pins."""
    folder.mkdir()
    told("soup", file, "--recipe", "uniform", "--out", folder / "soup.safetensors")
    kept = recipe_beside(folder / "soup.safetensors")["ingredients"]
    return {name: origin["fingerprint"] for name, origin in kept.items()}


def names_in(file: Path) -> list[str]:
    return list(told("score", file)["ingredients"])


# fingerprints


def test_a_fingerprint_is_sha256_over_the_sorted_keys_of_the_state_dict(kitchen, tmp_path):
    found = pinned(kitchen, tmp_path / "out")
    assert found == {name: fingerprint(tensors_of(kitchen.parent / f"{name}.safetensors")) for name in "abcd"}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {"model": {f"_orig_mod.{key}": value for key, value in state.items()}},
        lambda state: {f"net.model.{key}": value for key, value in state.items()},
        lambda state: {"model_state_dict": state, "optimizer": {"state": {}, "param_groups": []}},
    ],
    ids=["Lightning and DataParallel", "compiled", "a prefix", "with an optimizer"],
)
def test_a_fingerprint_is_that_of_what_the_model_holds_whatever_wraps_it(tmp_path, wrapped):
    plain = {}

    def change(name, state):
        plain[name] = state
        return wrapped(state)

    file = tiny(tmp_path, change=change, names=("a", "b"), suffix=".pt")
    found = pinned(file, tmp_path / "out")
    assert found == {name: fingerprint(plain[name]) for name in ("a", "b")}


def test_a_fingerprint_has_ties_filled(tmp_path):
    plain = {}

    def change(name, state):
        whole = state | {"second.weight": state["first.weight"]}
        plain[name] = whole
        return {key: value for key, value in whole.items() if key != "second.weight"}

    found = pinned(tiny(tmp_path, source=TIED, change=change, names=("a", "b")), tmp_path / "out")
    assert found == {name: fingerprint(plain[name]) for name in ("a", "b")}


def test_the_container_is_found_by_looking_into_the_file(tmp_path, kitchen):
    """A pickle called .bin, safetensors called .pth, a folder, an index of shards: one set of weights."""
    state = tensors_of(kitchen.parent / "a.safetensors")
    file = tiny(tmp_path, names=("z",), splits=("held_out",), ingredients=["a.bin", "b.pth", "c", "d"], base=None)
    torch.save(state, tmp_path / "a.bin")
    (tmp_path / "b.pth").write_bytes((kitchen.parent / "a.safetensors").read_bytes())
    save(state, tmp_path / "c" / "model.safetensors")
    save({"0.weight": state["0.weight"]}, tmp_path / "d" / "one.safetensors")
    save({key: value for key, value in state.items() if key != "0.weight"}, tmp_path / "d" / "two.safetensors")
    places = {key: "one.safetensors" if key == "0.weight" else "two.safetensors" for key in state}
    index = tmp_path / "d" / "model.safetensors.index.json"
    index.write_text(f'{{"metadata": {{}}, "weight_map": {str(places)!s}}}'.replace("'", '"'))
    scores = told("score", file)["ingredients"]
    assert list(scores) == ["a", "b", "c", "d"]
    assert all(score == scores["a"] for score in scores.values())


# names


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("runs/a/model.safetensors", "runs/b/model.safetensors"), ["a", "b"]),
        (("a/last.safetensors", "a/best.safetensors", "b/last.safetensors"), ["best", "a/last", "b/last"]),
        (("lr0.0005/model.safetensors", "lr0.001/model.safetensors"), ["lr0.0005", "lr0.001"]),
        (("ft_2.safetensors", "ft_10.safetensors", "ft_1.safetensors"), ["ft_1", "ft_2", "ft_10"]),
        (("epoch-9.pth.tar", "epoch-10.pth.tar"), ["epoch-9", "epoch-10"]),
        (("v1.5.pt", "v1.75.pt"), ["v1.5", "v1.75"]),
    ],
    ids=" ".join,
)
def test_a_name_is_the_shortest_unique_path_without_suffix_in_natural_order(tmp_path, files, names):
    file = tiny(tmp_path, names=(), splits=("held_out",), ingredients=[f"all/**/*{SUFFIX.search(files[0])[0]}"])
    for seed, place in enumerate(files):
        weights = near(net().state_dict(), 0.2, seed)
        if place.endswith(".safetensors"):
            save(weights, tmp_path / "all" / place)
        else:
            (tmp_path / "all").mkdir(exist_ok=True)
            torch.save(weights, tmp_path / "all" / place)
    assert names_in(file) == names


def test_a_glob_leaves_out_the_base_shards_and_soups_that_soupviz_wrote(tmp_path):
    file = tiny(tmp_path, ingredients=["*.safetensors"])
    assert names_in(file) == ["a", "b", "c", "d"]
    told("soup", file, "--recipe", "uniform", "--out", tmp_path / "soup.safetensors")
    assert names_in(file) == ["a", "b", "c", "d"]
    state = tensors_of(tmp_path / "a.safetensors")
    for number, key in enumerate(state, 1):
        save({key: state[key]}, tmp_path / f"model-0000{number}-of-0000{len(state)}.safetensors")
    places = {key: f"model-0000{number}-of-0000{len(state)}.safetensors" for number, key in enumerate(state, 1)}
    (tmp_path / "model.safetensors.index.json").write_text(
        str({"metadata": {}, "weight_map": places}).replace("'", '"'), encoding="utf-8"
    )
    assert names_in(file) == ["a", "b", "c", "d"]


def test_a_mapping_names_the_ingredients(tmp_path):
    file = tiny(tmp_path, ingredients={"first": "b.safetensors", "second, third": "a.safetensors"})
    assert names_in(file) == ["first", "second, third"]


# a score's key


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """A kitchen of two, scored on held_out."""
    file = tiny(tmp_path, names=("a", "b"), splits=("held_out",))
    told("score", file)
    assert num_scores(file) == 2
    return file


def test_a_score_is_kept_by_content_not_by_name(scored):
    for name in ("a", "b"):
        (scored.parent / f"{name}.safetensors").rename(scored.parent / f"other_{name}.safetensors")
    edited(scored, lambda keys: keys.update(ingredients=["other_*.safetensors"], name="another", batch_size=7))
    assert names_in(scored) == ["other_a", "other_b"]
    assert num_scores(scored) == 2


def flip_labels(file: Path) -> None:
    place = file.parent / "data" / "held_out.safetensors"
    arrays = tensors_of(place)
    save(arrays | {"labels": (arrays["labels"] + 1) % 3}, place)


def change_inputs(file: Path) -> None:
    place = file.parent / "data" / "held_out.safetensors"
    arrays = tensors_of(place)
    save(arrays | {"inputs": arrays["inputs"] * 2}, place)


def change_source(file: Path) -> None:
    (file.parent / "net.py").write_text(NET.replace("ReLU", "Tanh"), encoding="utf-8")


def change_weights(file: Path) -> None:
    for seed, name in enumerate(("a", "b"), 50):
        place = file.parent / f"{name}.safetensors"
        save(near(tensors_of(place), 0.1, seed), place)


@pytest.mark.parametrize(
    "change",
    [
        flip_labels,
        change_inputs,
        change_source,
        change_weights,
        lambda file: edited(file, lambda keys: keys["model"].update(args={"features": 5})),
        lambda file: edited(file, lambda keys: keys.update(precision="bfloat16")),
    ],
    ids=["labels", "inputs", "the model's source", "weights", "the factory's arguments", "precision"],
)
def test_a_score_is_made_anew_where_its_key_changed(scored, change):
    change(scored)
    assert names_in(scored) == ["a", "b"]
    assert num_scores(scored) == 4


def test_a_soup_of_one_is_that_ingredients_score(scored):
    told("soup", scored, "--recipe", "uniform", "--members", "a")
    assert num_scores(scored) == 2


def test_a_search_that_is_repeated_scores_nothing(tmp_path):
    file = tiny(tmp_path)
    first = told("soup", file, "--recipe", "greedy")
    before = num_scores(file)
    assert told("soup", file, "--recipe", "greedy")["trajectory"] == first["trajectory"]
    assert num_scores(file) == before


def test_a_kitchens_files_are_read_as_they_were_saved(tmp_path):
    file = tiny(tmp_path, names=("a",), splits=("held_out",))
    state = sv.uniform(sv.Kitchen.load(file)).state_dict()
    assert fingerprint(state) == fingerprint(tensors_of(tmp_path / "a.safetensors"))
