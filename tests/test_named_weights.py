"""Names of a kitchen: ingredients, the base, files, formulas over these, and weights that were trained."""

import itertools
from pathlib import Path

import pytest
import torch
from kitchens import TIED, change_yaml, save, small_kitchen
from safetensors.torch import load_file

import soupviz as sv
from soupviz.errors import KitchenError
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of, mix
from soupviz.mixing.formulas import KEPT, Formula, made
from soupviz.weights.ingredients import fingerprint

MEMBERS = ["m_0", "m_1", "m_2"]
TIES = Formula(kind="ties", parts=mean_of(MEMBERS), base="base", parameters={"density": 0.3, "scale": 1.0})


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen.load(small_kitchen(tmp_path / "small", num_ingredients=3, num_examples=40))


def name_of(mixture) -> str:
    ((name, weight),) = mixture
    assert weight == 1.0
    return name


def equal(one, other) -> bool:
    return list(one) == list(other) and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


# Looking up


def test_ingredients_the_base_and_files_are_found_by_name(kitchen):
    save({key: tensor + 1 for key, tensor in kitchen.base.tensors.items()}, kitchen.folder / "other.pt")
    assert kitchen.weights.resolve("m_1") is kitchen.ingredients[1]
    assert kitchen.weights.resolve("base") is kitchen.base
    for name in ("other.pt", str(kitchen.folder / "other.pt")):  # relative to kitchen.yaml, or from anywhere
        other = kitchen.weights.resolve(name)
        assert torch.equal(other.tensors["0.bias"], kitchen.base.tensors["0.bias"] + 1)
        assert kitchen.weights.resolve(name) is other


def test_an_unknown_name_is_refused_with_the_nearest_known_one(kitchen):
    with pytest.raises(KitchenError, match=r"no ingredient 'm_11' in this kitchen; did you mean 'm_1'\?"):
        kitchen.weights.resolve("m_11")
    with pytest.raises(KitchenError, match=r"no ingredient 'zucchini' in this kitchen; known are m_0, m_1, m_2\."):
        kitchen.weights.resolve("zucchini")
    with pytest.raises(KitchenError, match="no ingredient 'ties-0123456789ab' in this kitchen"):
        kitchen.weights.resolve("ties-0123456789ab")


def test_a_kitchen_without_a_base_says_so(tmp_path):
    kitchen = Kitchen.load(change_yaml(small_kitchen(tmp_path, num_examples=40), lambda keys: keys.pop("base")))
    with pytest.raises(KitchenError, match=r"this kitchen has no base; add `base: FILE`, or name an ingredient\."):
        kitchen.weights.resolve("base")
    with pytest.raises(KitchenError, match="this kitchen has no base"):
        kitchen.weights.adopt(TIES)


# Formulas


def test_a_formula_is_called_by_what_it_is_and_by_its_fingerprint(kitchen):
    name = name_of(kitchen.weights.adopt(TIES))
    assert name == f"ties-{TIES.fingerprint(kitchen.weights.resolve)[:12]}"
    assert name_of(kitchen.weights.adopt(TIES)) == name
    assert kitchen.weights.formula(name) == TIES
    assert kitchen.weights.formula("m_0") is None
    assert equal(kitchen.weights.resolve(name).tensors, made(name, TIES, kitchen.weights.resolve, {}).tensors)


def test_a_formula_is_found_by_name_when_the_kitchen_is_opened_anew(kitchen):
    name = name_of(kitchen.weights.adopt(TIES))
    before = kitchen.weights.resolve(name)
    after = Kitchen.load(kitchen.file).weights.resolve(name)
    assert after.fingerprint == before.fingerprint
    assert equal(after.tensors, before.tensors)


def test_a_formula_over_an_ingredient_that_has_changed_is_refused(kitchen):
    name = name_of(kitchen.weights.adopt(TIES))
    file = kitchen.folder / "m_1.safetensors"
    save({key: tensor + 1 for key, tensor in load_file(file).items()}, file)
    again = Kitchen.load(kitchen.file)
    words = rf"^{name} was made of m_0, m_1, m_2, base, and one of these has changed since; cook it again\.$"
    with pytest.raises(KitchenError, match=words):
        again.weights.resolve(name)
    other = name_of(again.weights.adopt(TIES))
    assert other != name
    again.weights.resolve(other)


def test_the_same_formula_under_other_names_is_the_same_weights(kitchen):
    name = name_of(kitchen.weights.adopt(TIES))
    before = kitchen.weights.resolve(name)
    files = {f"n_{item.name}": item.path.name for item in kitchen.ingredients}
    again = Kitchen.load(change_yaml(kitchen.file, lambda keys: keys.update(ingredients=files)))
    with pytest.raises(KitchenError, match="no ingredient 'm_0' in this kitchen"):
        again.weights.resolve(name)
    names = {item: f"n_{item}" for item in MEMBERS} | {"base": "base"}
    assert name_of(again.weights.adopt(TIES.renamed(names))) == name
    assert equal(again.weights.resolve(name).tensors, before.tensors)


def test_tied_tensors_of_a_formula_stay_tied(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, source=TIED, num_examples=40))
    parameters = {"density": 0.5, "scale": 1.0, "seed": 0}
    one = Formula(kind="dare", parts=mean_of(kitchen.names), base="base", parameters=parameters)
    tensors = kitchen.weights.resolve(name_of(kitchen.weights.adopt(one))).tensors
    assert torch.equal(tensors["first.weight"], tensors["second.weight"])
    assert not torch.equal(tensors["first.bias"], tensors["second.bias"])


# Formulas over formulas


def test_leaves_and_formulas_of_nested_formulas(kitchen):
    """An average over a TIES soup and an ingredient, and a path from there to another formula."""
    weights = kitchen.weights
    ties = name_of(weights.adopt(TIES))
    outer = Formula(kind="karcher", parts=((ties, 0.5), ("m_1", 0.5)))
    karcher = name_of(weights.adopt(outer))
    slerp = name_of(
        weights.adopt(Formula(kind="slerp", parts=((karcher, 0.5), (ties, 0.5)), parameters={"alpha": 0.5}))
    )
    assert weights.leaves([karcher]) == ["m_0", "m_1", "m_2", "base"]
    assert weights.leaves(["m_2", karcher, "base"]) == ["m_2", "m_0", "m_1", "base"]
    assert weights.leaves(["m_2", "m_0"]) == ["m_2", "m_0"]
    assert weights.formulas([karcher]) == {karcher: outer, ties: TIES}
    assert weights.formulas(["m_0", "base"]) == {}
    for order in itertools.permutations([slerp, karcher, ties]):
        assert list(weights.formulas(order)) == [slerp, karcher, ties]  # what each is made of stands behind it
    again = Kitchen.load(kitchen.file)
    assert equal(again.weights.resolve(slerp).tensors, kitchen.weights.resolve(slerp).tensors)


def test_a_path_from_a_soup_that_is_no_weighted_sum_to_an_ingredient(kitchen):
    ties = sv.cook(kitchen, {"method": "ties"})
    name = name_of(ties.mix)
    values = {"method": "interpolation", "a": ties.title, "b": "m_2", "mix_a": ties.mix, "mix_b": [("m_2", 1.0)]}
    soup = sv.cook(kitchen, values | {"alpha": 0.25})
    assert soup.mix == ((name, 0.75), ("m_2", 0.25))
    assert soup.coefficients is None
    assert kitchen.weights.leaves([part for part, _ in soup.mix]) == ["m_0", "m_1", "m_2", "base"]
    expected = mix([(kitchen.weights.resolve(name), 0.75), (kitchen.weights.resolve("m_2"), 0.25)])
    assert equal(soup.state_dict(), expected)
    assert equal(expected, dict(Kitchen.load(kitchen.file).scores.mixed(soup.mix)))


# Weights that were trained


def test_kept_weights_are_found_bit_for_bit_when_the_kitchen_is_opened_anew(kitchen):
    tensors = {key: tensor + 0.5 for key, tensor in kitchen.ingredients[0].tensors.items()}
    name = name_of(kitchen.weights.keep("student", tensors, mean_of(MEMBERS)))
    assert name == f"student-{fingerprint(tensors)[:12]}"
    for opened in (kitchen, Kitchen.load(kitchen.file)):
        assert opened.weights.has_kept(name)
        found = opened.weights.resolve(name)
        assert found.fingerprint == fingerprint(tensors)
        assert equal(found.tensors, tensors)
        assert opened.weights.formula(name) == Formula(kind=KEPT, parts=mean_of(MEMBERS))
        assert opened.weights.leaves([name]) == MEMBERS
        assert opened.names == MEMBERS


def test_weights_that_are_kept_twice_are_one_file(kitchen):
    tensors = kitchen.ingredients[0].tensors
    names = {name_of(kitchen.weights.keep("fisher", tensors, mean_of(MEMBERS))) for _ in range(2)}
    assert len(names) == 1
    assert [path.name for path in (kitchen.store.folder / "made").iterdir()] == [f"{names.pop()}.safetensors"]


def test_bfloat16_weights_are_kept_in_their_dtype(tmp_path):
    kitchen = Kitchen.load(
        small_kitchen(tmp_path, num_examples=40, change=lambda t: {key: value.bfloat16() for key, value in t.items()})
    )
    name = name_of(kitchen.weights.keep("regmean", kitchen.ingredients[1].tensors, mean_of(["m_0", "m_1"])))
    found = kitchen.weights.resolve(name)
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.bfloat16}
    assert found.fingerprint == kitchen.ingredients[1].fingerprint


def test_nothing_is_kept_of_a_formula_and_nothing_of_a_store_that_was_cleared(kitchen):
    ties = name_of(kitchen.weights.adopt(TIES))
    assert not kitchen.weights.has_kept(ties)
    assert not kitchen.weights.has_kept("student-0123456789ab")
    name = name_of(kitchen.weights.keep("student", kitchen.ingredients[0].tensors, mean_of(MEMBERS)))
    kitchen.store.clear()
    again = Kitchen.load(kitchen.file)
    assert not again.weights.has_kept(name)
    for gone in (ties, name):
        with pytest.raises(KitchenError, match=f"no ingredient '{gone}' in this kitchen"):
            again.weights.resolve(gone)
