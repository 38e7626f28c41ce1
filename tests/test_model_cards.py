"""The metadata of model cards, as the Hugging Face Hub reads it: what was measured, where it comes from, licences."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from kitchens import change_yaml, small_kitchen
from safetensors.torch import load_file

import soupviz as sv
from soupviz.weights.lineage import front_matter, hub_name, lineage_of


@pytest.fixture
def kitchen(tmp_path: Path) -> Path:
    return small_kitchen(tmp_path / "k", num_ingredients=3, num_examples=60, shifts=["blur"])


def exported(file: Path, place: Path, **options: Any) -> dict[str, Any]:
    place.mkdir(exist_ok=True)
    sv.export(sv.uniform(sv.Kitchen.load(file)), place / "soup.safetensors", **options)
    return front_matter(place / "README.md")


def with_card(folder: Path, name: str, **keys: Any) -> None:
    """Move a checkpoint into a folder of its own, with a model card."""
    (folder / name).mkdir()
    shutil.move(folder / f"{name}.safetensors", folder / name / "model.safetensors")
    (folder / name / "README.md").write_text(f"---\n{yaml.safe_dump(keys)}---\n\n# A model\n")


def in_folders(file: Path, **cards: dict[str, Any]) -> Path:
    for name, keys in cards.items():
        with_card(file.parent, name, **keys)
    kept = {name: f"{name}.safetensors" for name in ("m_0", "m_1", "m_2") if name not in cards}
    named = {name: f"{name}/model.safetensors" for name in cards} | kept
    return change_yaml(file, lambda document: document.update(ingredients=named))


def test_results_are_of_the_splits_that_report_with_their_interval(kitchen, tmp_path):
    told = exported(kitchen, tmp_path / "out")
    [index] = told["model-index"]
    assert [result["dataset"]["split"] for result in index["results"]] == ["test", "shifts.blur"]
    first = index["results"][0]["metrics"][0]
    score = sv.uniform(sv.Kitchen.load(kitchen)).scores["test"]
    assert (first["type"], first["value"]) == ("accuracy", pytest.approx(float(score.value)))
    assert first["args"]["low"] < first["value"] < first["args"]["high"]
    assert "test" in first["name"] and "95 % interval" in first["name"]
    assert {one["type"] for one in index["results"][0]["metrics"]} >= {"accuracy", "loss", "macro_f1"}
    assert "held_out" not in yaml.safe_dump(told["model-index"])
    assert "&id" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_card_has_the_tag_of_merges_and_a_library(kitchen, tmp_path):
    told = exported(kitchen, tmp_path / "out")
    assert "merge" in told["tags"]
    assert told["library_name"] == "pytorch"
    assert "license" not in told


@pytest.mark.parametrize(
    ("options", "state"), [({}, "itself"), ({"temperature": 2.0, "bake_temperature": True}, "divided by a temperature")]
)
def test_a_soup_of_one_checkpoint_says_that_it_is_that_one_and_no_merge(kitchen, tmp_path, options, state):
    sv.export(sv.uniform(sv.Kitchen.load(kitchen), ["m_1"]), tmp_path / "soup.safetensors", **options)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert front_matter(tmp_path / "README.md")["tags"] == ["soupviz"]
    assert re.search(f"No merge, but m_1.* {state}: average of 1 kept it alone of 1 fine-tuned", card)
    assert "weighted average" not in card and "A model soup" not in card


def test_one_model_of_the_hub_that_was_kept_alone_is_named_and_not_as_a_merge(tmp_path):
    file = small_kitchen(tmp_path / "k", num_ingredients=2, num_examples=20)
    place = tmp_path / "k" / "models--me--a" / "snapshots" / "abc" / "model.safetensors"
    place.parent.mkdir(parents=True)
    shutil.move(tmp_path / "k" / "m_0.safetensors", place)
    change_yaml(file, lambda document: document.update(ingredients={"a": str(place), "m_1": "m_1.safetensors"}))
    sv.export(sv.uniform(sv.Kitchen.load(file), ["a"]), tmp_path / "soup.safetensors")
    told = front_matter(tmp_path / "README.md")
    assert told["base_model"] == ["me/a"]
    assert "base_model_relation" not in told


def test_what_the_kitchen_says_of_the_card_is_taken_as_it_is(kitchen, tmp_path):
    card = {"license": "apache-2.0", "datasets": ["org/beans"], "base_model": "org/base", "tags": ["mine"]}
    told = exported(change_yaml(kitchen, lambda document: document.update(card=card)), tmp_path / "out")
    assert {key: told[key] for key in ("license", "datasets", "base_model")} == {
        "license": "apache-2.0", "datasets": ["org/beans"], "base_model": "org/base",
    }  # fmt: skip
    assert set(told["tags"]) >= {"merge", "mine"}
    assert told["model-index"][0]["results"][0]["dataset"]["type"] == "org/beans"


def test_the_licence_that_all_ingredients_have_is_the_soups(kitchen, tmp_path):
    cards = {
        name: {"license": "mit", "base_model": "org/base", "datasets": ["cifar10"]} for name in ("m_0", "m_1", "m_2")
    }
    told = exported(in_folders(kitchen, **cards), tmp_path / "out")
    assert (told["license"], told["base_model"], told["datasets"]) == ("mit", ["org/base"], ["cifar10"])
    assert told["base_model_relation"] == "finetune"
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "The licence of its ingredients: mit." in text
    assert "| ingredient | coefficient | licence | fingerprint |" in text


def test_several_licences_are_told_and_none_is_chosen(kitchen, tmp_path):
    cards = {"m_0": {"license": "mit"}, "m_1": {"license": "other", "license_name": "gemma"}}
    told = exported(in_folders(kitchen, **cards), tmp_path / "out")
    assert (told["license"], told["license_name"]) == ("other", "several")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "several licences, all of which hold: gemma, mit. Nothing is said of that of m_2." in text


def test_a_licence_that_one_ingredient_does_not_say_is_not_the_soups(kitchen, tmp_path):
    told = exported(in_folders(kitchen, m_0={"license": "mit"}), tmp_path / "out")
    assert "license" not in told


def test_models_of_the_hub_that_were_merged_are_named(tmp_path):
    """The hub's cache says in its folders' names whose a file is."""
    file = small_kitchen(tmp_path / "k", num_ingredients=2, num_examples=40)
    for name in ("m_0", "m_1"):
        folder = file.parent / f"models--org--{name}" / "snapshots" / "abc"
        folder.mkdir(parents=True)
        shutil.move(file.parent / f"{name}.safetensors", folder / "model.safetensors")
    named = {name: f"models--org--{name}/snapshots/abc/model.safetensors" for name in ("m_0", "m_1")}
    told = exported(change_yaml(file, lambda document: document.update(ingredients=named)), tmp_path / "out")
    assert told["base_model"] == ["org/m_0", "org/m_1"]
    assert told["base_model_relation"] == "merge"
    assert "| org/m_0 |" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_name_on_the_hub_is_read_from_an_address(empty_cache):
    from soupviz.addresses import mirror, place_of

    assert hub_name(place_of("hf://org/model/weights.safetensors", mirror())) == "org/model"
    assert hub_name(place_of("hf://org/model@main/weights.safetensors", mirror())) == "org/model"
    assert hub_name(place_of("s3://bucket/model/weights.safetensors", mirror())) == ""


@pytest.mark.parametrize(
    "text", ["", "# no metadata\n", "---\nlicense: [\n---\n", "---\n- a\n---\n", "---\nlicense: mit\n"]
)
def test_a_card_without_metadata_says_nothing(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert lineage_of(tmp_path / "a.safetensors").license == ""


def test_our_own_card_is_not_taken_for_that_of_the_ingredients_beside_it(kitchen, tmp_path):
    """A soup that is exported among its ingredients says nothing of them."""
    change_yaml(kitchen, lambda document: document.update(card={"license": "mit"}))
    exported(kitchen, kitchen.parent)
    assert lineage_of(kitchen.parent / "m_0.safetensors").license == ""
    assert lineage_of(kitchen.parent / "soup.safetensors").license == "mit"


def test_a_rebuilt_soup_has_the_same_metadata(kitchen, tmp_path):
    first = exported(change_yaml(kitchen, lambda d: d.update(card={"license": "mit"})), tmp_path / "out")
    (tmp_path / "again").mkdir()
    sv.bake(tmp_path / "out" / "soup.safetensors", tmp_path / "again" / "soup.safetensors")
    assert front_matter(tmp_path / "again" / "README.md") == first
    assert load_file(tmp_path / "again" / "soup.safetensors").keys()


@pytest.mark.extras
def test_the_hubs_own_library_reads_the_same_results_from_a_card(kitchen, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    change_yaml(kitchen, lambda document: document.update(card={"license": "mit", "base_model": "org/base"}))
    told = exported(kitchen, tmp_path / "out")
    card = hub.ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.base_model, card.data.library_name) == ("mit", "org/base", "pytorch")
    found = {(one.dataset_split, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert found["test", "accuracy"] == told["model-index"][0]["results"][0]["metrics"][0]["value"]
    assert {split for split, _ in found} == {"test", "shifts.blur"}
    again = yaml.safe_load(card.data.to_yaml())
    assert again["model-index"] == told["model-index"]
