"""OtherModels: models of another architecture join ensembles, and nothing else."""

import shutil

import numpy as np
import pytest
from kitchens import change_yaml, small_kitchen
from safetensors.torch import load_file, save_file

import soupviz as sv
from soupviz.errors import KitchenError, RecipeError, SoupError
from soupviz.recipes import parse
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.soups.soup import run_key
from soupviz.soups.standing import is_current
from soupviz.ui import workspace
from soupviz.yaml_file import read_kitchen_file

WIDE = """
from torch import nn

def build(features=6, classes=3):
    return nn.Sequential(nn.Linear(features, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, classes))
"""


@pytest.fixture
def file(tmp_path):
    """A kitchen of small nets with another kitchen of wide ones; both are judged by the same data."""
    own = small_kitchen(tmp_path / "own", num_ingredients=3)
    other = small_kitchen(tmp_path / "wide", source=WIDE, num_ingredients=2)
    for split in ("held_out", "test"):
        shutil.copy(own.with_name(f"{split}.safetensors"), other.with_name(f"{split}.safetensors"))
    change_yaml(own, lambda yaml: yaml.update(other_models={"wide": "../wide"}))
    return own


def softmax(logits):
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def test_naming_them_by_both_names_is_refused(tmp_path):
    file = small_kitchen(tmp_path)
    change_yaml(file, lambda yaml: yaml.update(guests={"a": "../a"}, other_models={"b": "../b"}))
    with pytest.raises(KitchenError, match="both `guests` and `other_models`"):
        sv.Kitchen.load(file)


def test_an_ensemble_averages_the_probabilities_of_models_of_two_architectures(file):
    kitchen = sv.Kitchen.load(file)
    soup = sv.cook(kitchen, {"method": "ensemble"})
    assert [name for name, _ in soup.mix] == ["m_0", "m_1", "m_2", "wide/m_0", "wide/m_1"]
    wide = sv.Kitchen.load(file.parent.parent / "wide")
    for split in ("held_out", "test"):
        logits = [kitchen.scores.logits(((name, 1.0),), split) for name in ("m_0", "m_1", "m_2")]
        logits += [wide.scores.logits(((name, 1.0),), split) for name in ("m_0", "m_1")]
        answers = np.mean([softmax(one) for one in logits], axis=0).argmax(1)
        assert soup.scores[split].correct == int((answers == kitchen.splits.load(split).labels.numpy()).sum())
    assert soup.passes == 5


def test_a_greedy_ensemble_may_choose_guests_and_members_name_them(file):
    kitchen = sv.Kitchen.load(file)
    recipe = {"method": "ensemble", "choice": "greedy", "members": ["m_0", "wide/m_1"]}
    soup = sv.cook(kitchen, recipe)
    alone = [kitchen.scores.score(((name, 1.0),)).correct for name in ("m_0", "wide/m_1")]
    assert soup.scores["held_out"].correct >= max(alone)
    assert set(soup.coefficients) == {"m_0", "wide/m_1"}


def test_a_guest_is_no_ingredient_of_a_soup(file):
    kitchen = sv.Kitchen.load(file)
    assert kitchen.names == ["m_0", "m_1", "m_2"]
    assert set(sv.uniform(kitchen).coefficients) == {"m_0", "m_1", "m_2"}
    with pytest.raises(KitchenError, match="no ingredient 'wide/m_0' in this kitchen"):
        sv.uniform(kitchen, ["m_0", "wide/m_0"])


def test_weights_of_a_guest_are_never_mixed(file):
    kitchen = sv.Kitchen.load(file)
    with pytest.raises(RecipeError, match="'wide/m_0' is a model of another architecture: its weights cannot be mixed"):
        sv.interpolate(kitchen, "m_0", "wide/m_0", points=3)


def test_an_ensemble_with_guests_is_recalled_and_known_without_a_pass(file, monkeypatch):
    first = sv.cook(sv.Kitchen.load(file), {"method": "ensemble"})
    monkeypatch.setattr(
        "soupviz.scoring.evaluator.Evaluator.evaluate", lambda *_args, **_more: pytest.fail("evaluated")
    )
    assert sv.cook(sv.Kitchen.load(file), {"method": "ensemble"}).as_dict() == first.as_dict()


def test_a_kitchen_that_calls_them_guests_has_their_scores_and_runs(file, monkeypatch):
    """As kitchens of 0.1.0 call them."""
    sv.cook(sv.Kitchen.load(file), {"method": "ensemble"})
    change_yaml(file, lambda yaml: yaml.update(guests=yaml.pop("other_models")))
    monkeypatch.setattr("soupviz.scoring.evaluator.Evaluator.evaluate", None)
    kitchen = sv.Kitchen.load(file)
    [run] = kitchen.store.runs()
    assert is_current(kitchen, run)
    assert sv.cook(kitchen, {"method": "ensemble"}).key == run.key


def test_a_student_learns_from_guests_too_and_its_export_is_loaded_back(tmp_path):
    own = small_kitchen(tmp_path / "own", num_ingredients=2, train=64)
    other = small_kitchen(tmp_path / "wide", source=WIDE, num_ingredients=1, train=64)
    for split in ("held_out", "test", "train"):
        shutil.copy(own.with_name(f"{split}.safetensors"), other.with_name(f"{split}.safetensors"))
    change_yaml(own, lambda yaml: yaml.update(other_models={"wide": "../wide"}))
    kitchen = sv.Kitchen.load(own)
    soup = sv.cook(kitchen, {"method": "distilled", "epochs": 1})
    assert soup.notes["teacher"] == ["m_0", "m_1", "wide/m_0"]
    file, *_ = sv.export(soup, tmp_path / "student.safetensors")
    kitchen.store.clear()
    again = restore(sv.Kitchen.load(own), read_record(file), file)
    assert again.scores["test"].correct == soup.scores["test"].correct


def test_a_student_is_another_when_its_guests_are(tmp_path):
    own = small_kitchen(tmp_path / "own", num_ingredients=2, train=64)
    alone = run_key(sv.Kitchen.load(own), parse({"method": "distilled"}))
    other = small_kitchen(tmp_path / "wide", source=WIDE, num_ingredients=1, train=64)
    change_yaml(own, lambda yaml: yaml.update(other_models={"wide": "../wide"}))
    taught = run_key(sv.Kitchen.load(own), parse({"method": "distilled"}))
    change_yaml(other, lambda yaml: yaml.update(precision="bfloat16"))
    coarser = run_key(sv.Kitchen.load(own), parse({"method": "distilled"}))
    assert len({alone, taught, coarser}) == 3
    by_soup = {"method": "distilled", "teacher": "greedy"}
    keys = [run_key(sv.Kitchen.load(own), parse(by_soup))]
    change_yaml(own, lambda yaml: yaml.pop("other_models"))
    assert [run_key(sv.Kitchen.load(own), parse(by_soup))] == keys


def test_an_ensembles_score_depends_on_how_its_guests_are_judged(file):
    mixture = (("m_0", 0.5), ("wide/m_0", 0.5))
    before = sv.Kitchen.load(file).scores.key(mixture, "test", "logits")
    change_yaml(file.parent.parent / "wide" / "kitchen.yaml", lambda yaml: yaml.update(precision="bfloat16"))
    assert sv.Kitchen.load(file).scores.key(mixture, "test", "logits") != before


def test_a_bad_file_of_a_guest_is_left_out_where_that_was_asked_for(file):
    (file.parent.parent / "wide" / "m_1.safetensors").write_bytes(b"broken")
    with pytest.raises(SoupError, match="m_1"):
        sv.Kitchen.load(file)
    assert list(sv.Kitchen.load(file, skip_incompatible=True).other_models.items) == ["wide/m_0"]


def test_a_guest_judged_by_other_data_is_refused(tmp_path):
    own = small_kitchen(tmp_path / "own", num_ingredients=2)
    small_kitchen(tmp_path / "wide", source=WIDE, num_ingredients=2, num_examples=150)
    change_yaml(own, lambda yaml: yaml.update(other_models={"wide": "../wide/kitchen.yaml"}))
    with pytest.raises(KitchenError, match=r"held_out has 150 examples .* expected the same 200 examples"):
        sv.cook(sv.Kitchen.load(own), {"method": "ensemble"})


def test_a_guest_kitchen_that_is_missing_is_named(tmp_path):
    own = small_kitchen(tmp_path / "own")
    change_yaml(own, lambda yaml: yaml.update(other_models={"wide": "../nowhere/kitchen.yaml"}))
    with pytest.raises(SoupError, match=r"nowhere"):
        sv.Kitchen.load(own)


def test_the_dashboard_opens_no_guest_outside_its_folders(file, monkeypatch, empty_cache):
    monkeypatch.setattr("sys.argv", ["app.py", str(file.parent)])
    with pytest.raises(KitchenError, match="lies outside the folders"):
        workspace.request(file, read_kitchen_file(file))


def test_a_guest_that_would_have_an_ingredients_name_is_refused_by_name(tmp_path):
    own = small_kitchen(tmp_path / "own", num_ingredients=2)
    small_kitchen(tmp_path / "wide", source=WIDE, num_ingredients=2)
    change_yaml(own, lambda yaml: yaml.update(other_models={"wide": "../wide"}))
    change_yaml(own, lambda yaml: yaml.update(ingredients={"a": "m_0.safetensors", "wide/m_1": "m_1.safetensors"}))
    with pytest.raises(KitchenError, match=r"'m_1' of 'wide' would be called 'wide/m_1', which is an ingredient"):
        sv.Kitchen.load(own)


def test_two_guests_of_one_name_are_refused_by_name(tmp_path):
    own = small_kitchen(tmp_path / "own", num_ingredients=1)
    for folder, names in (("x", {"b/c": "m_0.safetensors"}), ("y", {"c": "m_0.safetensors"})):
        change_yaml(
            small_kitchen(tmp_path / folder, num_ingredients=1), lambda yaml, n=names: yaml.update(ingredients=n)
        )
    change_yaml(own, lambda yaml: yaml.update(other_models={"a": "../x", "a/b": "../y"}))
    with pytest.raises(KitchenError, match=r"'c' of 'a/b' would be called 'a/b/c', which is another one"):
        sv.Kitchen.load(own)


def test_what_a_guest_says_is_kept_by_its_datas_content_not_by_its_yaml(file):
    """Its decoding may change without a word of kitchen.yaml, and another spelling of the same is no change."""
    mixture = (("m_0", 0.5), ("wide/m_0", 0.5))
    recipe = parse({"method": "ensemble"})

    def keys():
        kitchen = sv.Kitchen.load(file)
        kitchen.splits.load("test")
        return kitchen.scores.key(mixture, "test", "logits"), run_key(kitchen, recipe)

    before = keys()
    other = file.parent.parent / "wide"
    change_yaml(other / "kitchen.yaml", lambda yaml: yaml["data"]["test"].update(path="./test.safetensors"))
    assert keys() == before
    for split in ("held_out", "test"):
        tensors = load_file(other / f"{split}.safetensors")
        save_file({"inputs": 2 * tensors["inputs"], "labels": tensors["labels"]}, other / f"{split}.safetensors")
    after = keys()
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_a_guests_scores_are_not_those_of_its_former_data(file):
    kitchen = sv.Kitchen.load(file)
    mixture = (("m_0", 0.5), ("wide/m_0", 0.5))
    kitchen.scores.score(mixture, "test", "probabilities")
    other = file.parent.parent / "wide" / "test.safetensors"
    tensors = load_file(other)
    save_file({"inputs": -tensors["inputs"], "labels": tensors["labels"]}, other)
    again = sv.Kitchen.load(file)
    again.splits.load("test")
    assert again.scores.known(mixture, "test", "probabilities") is None
