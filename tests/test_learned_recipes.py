"""Recipes that learn from examples, or look at activations: cooked, written, baked and loaded back."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import (
    BATCHNORM,
    MLP,
    TIED,
    build_model,
    change_yaml,
    json_of,
    perturbed,
    run_command,
    save,
    small_kitchen,
)
from safetensors.torch import load_file
from scores import BY_ACCURACY, CLASSIFICATION
from torch import Tensor

import soupviz as sv
from soupviz.errors import Cancelled, CompatibilityError, ExportError, RecipeError
from soupviz.kitchen import Kitchen
from soupviz.learning.coefficients import Learned as Found
from soupviz.mixing.averaging import mean_of, mix
from soupviz.mixing.formulas import KEPT
from soupviz.recipes import ScoredPool, parse
from soupviz.recipes.learned import Learned
from soupviz.recipes.services import Sample
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.soups.services import KitchenServices
from soupviz.types import quiet

MADE = [
    {"method": "fisher", "examples": 30},
    {"method": "regmean", "examples": 30, "data": "train"},
    {"method": "rebasin", "examples": 30},
]
LAYERED = {"method": "learned", "per": "layer", "epochs": 2, "learning_rate": 0.3}
ALL = [{"method": "learned", "epochs": 2, "learning_rate": 0.3}, LAYERED, *MADE]
FOLDED = """
import torch
from torch import nn

class Folded(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(16, 3)

    def forward(self, x):
        x = self.first(x).relu()
        return self.last(torch.cat([x, -x], 1))

def build():
    return Folded()
"""


def called(values) -> str:
    return "-".join(str(values[key]) for key in ("method", "per") if key in values)


def small(folder: Path, **options) -> Kitchen:
    given = {"num_ingredients": 3, "num_examples": 60, "train": 50, "scale": 0.2}
    return Kitchen.load(small_kitchen(folder, **given | options))


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    return small(tmp_path_factory.mktemp("learned"))


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def correct(kitchen: Kitchen, weights: dict[str, Tensor], split: str) -> int:
    """By a model of the test's own."""
    model = build_model((kitchen.folder / "model.py").read_text())
    model.load_state_dict(weights, strict=True)
    data = kitchen.splits.load(split)
    with torch.no_grad():
        return int((model(data.inputs[""]).argmax(1) == data.labels).sum())


def counts(soup: sv.Soup) -> dict[str, int]:
    return {split: score.correct for split, score in soup.scores.items()}


# All of them


@pytest.mark.parametrize("values", ALL, ids=called)
def test_it_is_scored_as_its_weights_are_and_repeats(kitchen, values, tmp_path):
    soup, again = sv.cook(kitchen, values), sv.cook(small(tmp_path), values)
    for split in ("held_out", "test"):
        assert soup.scores[split].correct == correct(kitchen, soup.state_dict(), split)
    assert (again.mix, again.key, counts(again)) == (soup.mix, soup.key, counts(soup))
    assert equal(again.state_dict(), soup.state_dict())
    assert again.notes == soup.notes
    assert kitchen.store.run(soup.key).status == "finished"


@pytest.mark.parametrize("values", ALL, ids=called)
def test_cooked_again_it_is_the_same_soup(kitchen, values):
    first = sv.cook(kitchen, values)
    assert sv.cook(Kitchen.load(kitchen.file), values).as_dict() == first.as_dict()


@pytest.mark.parametrize("values", ALL, ids=called)
def test_without_train_what_learns_from_it_is_refused(values, tmp_path):
    kitchen = small(tmp_path, train=0)
    with pytest.raises(RecipeError, match=r"kitchen\.yaml has no train; add `train:` under `data:` to it, or choose"):
        sv.cook(kitchen, values | {"data": "train"})
    assert kitchen.store.runs() == []
    assert sv.cook(kitchen, values | {"data": "held_out"}).scores["test"].num_examples == 60


@pytest.mark.parametrize("values", [{"method": "learned"}, LAYERED, {"method": "rebasin"}], ids=called)
def test_of_one_ingredient_it_is_refused(kitchen, values):
    with pytest.raises(RecipeError, match=rf"{values['method']}: needs two ingredients; got 'm_1' alone"):
        sv.cook(kitchen, values | {"members": ["m_1"]})


@pytest.mark.parametrize("method", ["fisher", "regmean"])
def test_an_average_of_one_ingredient_is_that_one_bit_for_bit(kitchen, method):
    soup = sv.cook(kitchen, {"method": method, "members": ["m_1"], "examples": 10})
    assert equal(soup.state_dict(), kitchen.weights.resolve("m_1").tensors)


@pytest.mark.parametrize("values", ALL, ids=called)
def test_running_statistics_are_averaged_or_the_firsts(values, tmp_path):
    """Of Re-Basin's the first is the best, in whose order the units are."""
    kitchen = small(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_examples=40, num_ingredients=2)
    soup = sv.cook(kitchen, values | {"batchnorm": "first"})
    scores = kitchen.scores.of_ingredients()
    first = max(kitchen.names, key=lambda name: scores[name].correct) if values["method"] == "rebasin" else "m_0"
    found, expected = soup.state_dict(), kitchen.weights.resolve(first).tensors
    for key in ("1.running_mean", "1.running_var"):
        assert torch.equal(found[key], expected[key])
    assert not torch.equal(sv.cook(kitchen, values).state_dict()["1.running_var"], expected["1.running_var"])


@pytest.mark.parametrize("values", ALL, ids=called)
def test_a_seed_chooses_the_examples(kitchen, values):
    one, other = (sv.cook(kitchen, values | {"seed": seed, "examples": 10, "data": "train"}) for seed in (0, 1))
    assert one.key != other.key
    assert not equal(one.state_dict(), other.state_dict())


def test_of_held_out_at_most_half_is_learned_from(kitchen):
    """What is chosen by all of it afterwards must not have learned all of it."""
    lab = KitchenServices(kitchen, quiet)
    for split, asked, given in (("held_out", 1000, 30), ("held_out", 7, 7), ("train", 1000, 50), ("train", 20, 20)):
        found, rows = lab._rows(Sample(split, asked, 3))
        assert found is kitchen.splits.load(split)
        assert len(set(rows.tolist())) == len(rows) == given
        assert rows.tolist() == sorted(rows.tolist())
        assert lab._rows(Sample(split, asked, 3))[1].tolist() == rows.tolist()
    assert lab._rows(Sample("train", 20, 4))[1].tolist() != lab._rows(Sample("train", 20, 3))[1].tolist()


@pytest.mark.parametrize("values", ALL, ids=called)
def test_cancelled_it_says_so_and_is_cooked_when_asked_again(values, tmp_path):
    kitchen = small(tmp_path)
    kitchen.score()
    calls = 0

    def progress(_done: int, _total: int, what: str) -> None:
        nonlocal calls
        calls += not what.startswith(("scoring", "reading"))
        if calls == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        sv.cook(kitchen, values, progress=progress)
    assert [run.status for run in kitchen.store.runs()] == ["cancelled"]
    soup = sv.cook(kitchen, values)
    assert [run.status for run in kitchen.store.runs()] == ["finished"]
    assert counts(soup) == counts(sv.cook(small(tmp_path / "other"), values))


# Coefficients by gradient


def test_learned_coefficients_are_above_0_and_sum_to_one(kitchen):
    soup = sv.cook(kitchen, {"method": "learned", "epochs": 3, "learning_rate": 0.3})
    assert list(soup.coefficients) == kitchen.names
    assert all(weight > 0 for weight in soup.coefficients.values())
    assert math.fsum(soup.coefficients.values()) == pytest.approx(1.0, abs=1e-9)
    assert len(set(soup.coefficients.values())) == 3
    assert len(soup.notes["losses"]) == 3
    assert soup.notes["temperature"] > 0


def test_an_ingredient_that_spoils_the_soup_gets_little(tmp_path):
    kitchen = small(tmp_path, num_examples=200, scale=0.05)
    save(perturbed(kitchen.weights.resolve("m_1").tensors, 2.0, seed=9), tmp_path / "m_1.safetensors")
    values = {"method": "learned", "epochs": 30, "learning_rate": 0.2, "data": "held_out"}
    soup = sv.cook(Kitchen.load(kitchen.file), values)
    assert soup.coefficients["m_1"] < 0.1
    assert soup.notes["losses"][-1] < soup.notes["losses"][0]
    assert soup.scores["test"].loss < sv.uniform(Kitchen.load(kitchen.file)).scores["test"].loss


def test_learned_by_layer_has_coefficients_for_each_layer_and_none_in_all(kitchen):
    soup = sv.cook(kitchen, LAYERED)
    assert soup.coefficients is None
    formula = kitchen.weights.formula(soup.mix[0][0])
    assert formula.kind == "layered"
    groups = formula.parameters["groups"]
    assert list(groups) == ["0", "2"]
    assert all(math.fsum(weights) == pytest.approx(1.0) and min(weights) > 0 for weights in groups.values())
    assert groups["0"] != groups["2"]
    expected = {
        key: mix(
            [
                (kitchen.weights.resolve(name), weight)
                for name, weight in zip(kitchen.names, groups[key[0]], strict=True)
            ]
        )[key]
        for key in soup.state_dict()
    }
    assert equal(soup.state_dict(), expected)


def test_tied_weights_stay_tied_when_layers_have_their_own_coefficients(tmp_path):
    weights = sv.cook(small(tmp_path, source=TIED), LAYERED).state_dict()
    assert torch.equal(weights["first.weight"], weights["second.weight"])


@pytest.mark.parametrize("source", [MLP, TIED, BATCHNORM], ids=["mlp", "tied", "batchnorm"])
def test_learned_by_layer_is_exported_baked_and_restored_bit_for_bit(source, tmp_path):
    shape = (3, 8, 8) if source == BATCHNORM else (6,)
    kitchen = small(tmp_path / "kitchen", source=source, shape=shape, num_examples=40)
    soup = sv.cook(kitchen, LAYERED)
    weights = soup.state_dict()
    [path, recipe, card] = sv.export(soup, tmp_path / "soup.safetensors")
    assert equal(load_file(path), weights)
    assert "This rebuilds the weights bit for bit" in card.read_text(encoding="utf-8")
    [baked, *_] = sv.bake(recipe, tmp_path / "again.safetensors")
    assert equal(load_file(baked), weights)
    kitchen.store.clear()
    again = restore(Kitchen.load(kitchen.file), read_record(baked))
    assert (again.mix, again.key, counts(again)) == (soup.mix, soup.key, counts(soup))
    assert equal(again.state_dict(), weights)


def test_free_coefficients_may_be_anything_but_sum_to_zero(kitchen):
    soup = sv.cook(kitchen, {"method": "learned", "coefficients": "free", "epochs": 2, "learning_rate": 0.2})
    assert math.fsum(soup.coefficients.values()) != pytest.approx(1.0, abs=1e-3)
    recipe = Learned(coefficients="free")

    class Lab:
        def learn(self, names, _sample, **_options):
            return tuple(zip(names, weights, strict=True)), Found({"": weights}, 2.0, (0.5,))

    pool = ScoredPool(["a", "b", "c"], CLASSIFICATION, BY_ACCURACY, lambda *_asked: None, asks=Lab())
    weights = (0.5, -0.25, 0.0)
    assert recipe.plan(pool) == (("a", 0.5), ("b", -0.25))  # what is zero is left out
    assert pool.notes == {"temperature": 0.5, "losses": [0.5]}
    weights = (0.5, -0.25, -0.25)
    with pytest.raises(RecipeError, match="the learned coefficients sum to zero; take softmax, or a smaller learning"):
        recipe.plan(pool)


# Weights that are kept


def test_regmean_solves_the_normal_equations_of_every_linear_layer(kitchen):
    """By numpy in float64: all see the same inputs of the first layer, whose solution is the mean."""
    soup = sv.cook(kitchen, {"method": "regmean", "data": "train", "examples": 1000, "shrink": 0.9})
    inputs = kitchen.splits.load("train").inputs[""].double().numpy()
    grams, pulls = np.zeros((16, 16)), np.zeros((16, 3))
    for item in kitchen.ingredients:
        weights = {key: tensor.double().numpy() for key, tensor in item.tensors.items()}
        hidden = np.maximum(inputs @ weights["0.weight"].T + weights["0.bias"], 0)
        gram = hidden.T @ hidden
        gram = 0.9 * gram + 0.1 * np.diag(np.diag(gram))
        grams, pulls = grams + gram, pulls + gram @ weights["2.weight"].T
    found = soup.state_dict()
    np.testing.assert_allclose(found["2.weight"].numpy(), np.linalg.solve(grams, pulls).T, rtol=1e-3, atol=1e-4)
    mean = mix(kitchen.scores.resolved(mean_of(kitchen.names)))
    torch.testing.assert_close(found["0.weight"], mean["0.weight"], rtol=1e-4, atol=1e-5)
    assert torch.equal(found["2.bias"], mean["2.bias"])
    assert not torch.allclose(found["2.weight"], mean["2.weight"], atol=1e-3)


def test_fisher_gives_numbers_between_those_of_the_ingredients(kitchen):
    soup = sv.cook(kitchen, {"method": "fisher", "data": "train", "examples": 40})
    mean = mix(kitchen.scores.resolved(mean_of(kitchen.names)))
    for key, tensor in soup.state_dict().items():
        stacked = torch.stack([item.tensors[key] for item in kitchen.ingredients])
        assert bool((tensor >= stacked.amin(0) - 1e-6).all() and (tensor <= stacked.amax(0) + 1e-6).all())
        assert not torch.allclose(tensor, mean[key], atol=1e-3)


@pytest.mark.parametrize("values", MADE, ids=called)
def test_it_is_kept_under_its_own_name_as_made_of_the_ingredients(kitchen, values):
    soup = sv.cook(kitchen, values)
    [(name, weight)] = soup.mix
    assert (name.rpartition("-")[0], weight, soup.coefficients) == (values["method"], 1.0, None)
    assert kitchen.weights.has_kept(name)
    formula = kitchen.weights.formula(name)
    assert (formula.kind, sorted(formula.names)) == (KEPT, kitchen.names)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("values", MADE, ids=called)
def test_an_exported_file_is_restored_into_a_kitchen_that_has_forgotten_it(values, suffix, tmp_path):
    kitchen = small(tmp_path / "kitchen")
    soup = sv.cook(kitchen, values)
    weights = soup.state_dict()
    [path, recipe, _] = sv.export(soup, tmp_path / f"soup{suffix}")
    kitchen.store.clear()
    opened = Kitchen.load(kitchen.file)
    with pytest.raises(ExportError, match=r"which was trained, or made from data, and is not in this kitchen's store"):
        restore(opened, read_record(recipe), recipe)
    assert opened.store.runs() == []
    again = restore(opened, read_record(path), path)
    assert (again.mix, again.key, counts(again)) == (soup.mix, soup.key, counts(soup))
    assert equal(again.state_dict(), weights)
    assert [run.status for run in opened.store.runs()] == ["finished"]
    # It is here now: a recipe that names it is enough, and it can be exported and baked again.
    opened.store.forget_run(again.key)
    assert restore(opened, read_record(recipe), recipe).mix == soup.mix
    [second, *_] = sv.export(again, tmp_path / "second.safetensors")
    assert equal(load_file(second), weights)


def test_a_bfloat16_file_that_was_widened_is_restored_as_it_was(tmp_path):
    kitchen = small(tmp_path / "kitchen", change=lambda t: {key: value.bfloat16() for key, value in t.items()})
    soup = sv.cook(kitchen, {"method": "fisher", "examples": 20})
    weights = soup.state_dict()
    [path, *_] = sv.export(soup, tmp_path / "soup.safetensors", dtype="float32")
    kitchen.store.clear()
    again = restore(Kitchen.load(kitchen.file), read_record(path), path)
    assert again.mix == soup.mix
    assert equal(again.state_dict(), weights)


@pytest.mark.parametrize("values", MADE, ids=called)
def test_baking_needs_the_kitchen_that_has_kept_it(values, tmp_path, capsys):
    kitchen = small(tmp_path / "kitchen")
    soup = sv.cook(kitchen, values)
    [path, recipe, card] = sv.export(soup, tmp_path / "soup.safetensors")
    name, target = soup.mix[0][0], tmp_path / "again.safetensors"
    with pytest.raises(ExportError, match=rf"{name} was trained, or made from data: it cannot be rebuilt .*--kitchen"):
        sv.bake(recipe, target)
    status, _, err = run_command(capsys, "bake", path, "--out", target)
    assert (status, err.count("\n")) == (2, 1)
    assert not target.exists()
    json_of(capsys, "bake", path, "--out", target, "--kitchen", kitchen.file)
    assert equal(load_file(target), load_file(path))
    assert "--kitchen KITCHEN" in card.read_text(encoding="utf-8")
    kitchen.store.clear()
    with pytest.raises(
        ExportError, match=rf"{name} was trained, .* and is not in the store of .*: cook it there again"
    ):
        sv.bake(path, tmp_path / "third.safetensors", kitchen=Kitchen.load(kitchen.file))


def test_a_path_from_weights_that_were_kept_needs_them_to_be_restored(tmp_path):
    kitchen = small(tmp_path / "kitchen")
    fisher = sv.cook(kitchen, {"method": "fisher", "examples": 20})
    ends = {"a": "fisher", "b": "m_1", "mix_a": fisher.mix, "mix_b": [("m_1", 1.0)]}
    soup = sv.cook(kitchen, {"method": "interpolation", "alpha": 0.5} | ends)
    [file, *_] = sv.export(fisher, tmp_path / "fisher.safetensors")
    [path, *_] = sv.export(soup, tmp_path / "soup.safetensors")
    weights = soup.state_dict()
    kitchen.store.clear()
    opened = Kitchen.load(kitchen.file)
    with pytest.raises(ExportError, match=rf"needs {fisher.mix[0][0]}, which was trained"):
        restore(opened, read_record(path), path)
    restore(opened, read_record(file), file)
    again = restore(opened, read_record(path), path)
    assert again.mix == soup.mix
    assert equal(again.state_dict(), weights)


# Re-Basin


def permuted_mlp(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(7))
    return {
        "0.weight": tensors["0.weight"][order], "0.bias": tensors["0.bias"][order],
        "2.weight": tensors["2.weight"][:, order], "2.bias": tensors["2.bias"],
    }  # fmt: skip


def permuted_batchnorm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Channels behind the convolution; the head has four numbers of each."""
    order = torch.randperm(8, generator=torch.Generator().manual_seed(7))
    found = {key: tensor[order] if tensor.ndim and key[0] in "01" else tensor for key, tensor in tensors.items()}
    head = tensors["5.weight"].reshape(3, 8, 4)[:, order].reshape(3, 32)
    return found | {"5.weight": head}


@pytest.fixture(params=["mlp", "batchnorm"])
def twins(request, tmp_path) -> Kitchen:
    """One net, and the same net with its hidden units in another order."""
    is_mlp = request.param == "mlp"
    options = {} if is_mlp else {"source": BATCHNORM, "shape": (3, 8, 8)}
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=100, train=40, **options)
    tensors = load_file(tmp_path / "m_0.safetensors")
    save((permuted_mlp if is_mlp else permuted_batchnorm)(tensors), tmp_path / "m_1.safetensors")
    return Kitchen.load(file)


def test_a_net_and_its_permuted_self_align_back_to_the_net(twins):
    scores = twins.scores.of_ingredients()
    assert scores["m_0"].correct == scores["m_1"].correct
    assert scores["m_0"].loss == pytest.approx(scores["m_1"].loss, rel=1e-5)
    soup = sv.cook(twins, {"method": "rebasin", "repair": "no"})
    assert equal(soup.state_dict(), twins.weights.resolve("m_0").tensors)
    assert soup.scores["held_out"] == scores["m_0"]
    assert soup.notes == {}
    mean = sv.uniform(twins).state_dict()  # which mixes up its units
    assert not torch.allclose(mean["0.weight"], twins.weights.resolve("m_0").tensors["0.weight"], atol=1e-2)


def test_repair_leaves_what_is_not_broken(twins):
    alone = twins.scores.score((("m_0", 1.0),))
    soup = sv.cook(twins, {"method": "rebasin", "data": "train"})
    assert soup.scores["held_out"].correct == alone.correct
    assert soup.scores["held_out"].loss == pytest.approx(alone.loss, rel=1e-4)
    is_mlp = "0.bias" in soup.state_dict() and "1.running_var" not in soup.state_dict()
    assert soup.notes["repaired"] == (["0"] if is_mlp else [])
    assert (
        soup.notes["left"] == {"2": "its units are the output, or are joined to the input or the output"} or not is_mlp
    )
    if not is_mlp:
        assert soup.notes["left"]["0"] == "BatchNorm follows: re-estimate its statistics"


def test_aligned_models_are_made_tensor_by_tensor_and_none_is_held(twins, monkeypatch):
    mixed = []
    monkeypatch.setattr("soupviz.soups.services.mix", lambda items, *more: mixed.extend(items) or mix(items, *more))
    sv.cook(twins, {"method": "rebasin", "repair": "no"})
    aligned = [item for item, _ in mixed[1:]]
    assert len(aligned) == 1
    assert aligned[0].tensors["0.weight"] is not aligned[0].tensors["0.weight"]


def test_the_others_come_into_the_order_of_the_best(kitchen):
    scores = kitchen.scores.of_ingredients()
    ranked = sorted(kitchen.names, key=lambda name: -scores[name].correct)
    soup = sv.cook(kitchen, {"method": "rebasin", "repair": "no"})
    assert kitchen.weights.formula(soup.mix[0][0]).parts == mean_of(ranked)


@pytest.mark.parametrize(("source", "reason"), [(TIED, "no hidden units whose order is free"), (FOLDED, "'cat' takes")])
def test_units_that_cannot_be_followed_are_refused_with_the_reason(source, reason, tmp_path):
    kitchen = small(tmp_path, source=source)
    with pytest.raises(CompatibilityError, match=f"the model cannot be aligned: .*{reason}"):
        sv.cook(kitchen, {"method": "rebasin"})
    [run] = kitchen.store.runs()
    assert (run.status, reason in run.error) == ("failed", True)


# As data


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ({"method": "learned"}, "learned (per model, softmax, 1,000 of held_out)"),
        ({"method": "learned", "per": "layer", "coefficients": "free", "data": "train", "members": ["a", "b"]},
         "learned (per layer, free, 1,000 of train, of 2)"),
        ({"method": "fisher"}, "Fisher (200 of held_out)"),
        ({"method": "regmean", "examples": 50}, "RegMean (50 of held_out)"),
        ({"method": "rebasin"}, "Re-Basin (REPAIR, 1,000 of held_out)"),
        ({"method": "rebasin", "repair": "no"}, "Re-Basin"),
    ],
)  # fmt: skip
def test_titles_say_what_is_looked_at(values, title):
    assert parse(values).title == title


@pytest.mark.parametrize(
    "values",
    [
        {"data": "test"}, {"examples": 0}, {"seed": -1}, {"per": "tensor"}, {"coefficients": "relu"}, {"epochs": 0},
        {"learning_rate": 0}, {"learning_rate": 11},
    ],
)  # fmt: skip
def test_a_parameter_out_of_range_is_refused(values):
    with pytest.raises(RecipeError, match=f"learned.{next(iter(values))}"):
        parse({"method": "learned"} | values)


def test_train_is_needed_and_part_of_the_key_where_it_is_looked_at(tmp_path):
    assert parse({"method": "fisher", "data": "train"}).needs == {"train"}
    assert parse({"method": "fisher"}).needs == set()
    assert parse({"method": "rebasin", "data": "train", "repair": "no"}).needs == set()  # it looks at no example
    kitchen = small(tmp_path)
    keys = {sv.cook(kitchen, {"method": "fisher", "examples": 10, "data": data}).key for data in ("train", "held_out")}
    change_yaml(kitchen.file, lambda keys: keys["data"].update(train=keys["data"]["test"]))
    again = Kitchen.load(kitchen.file)
    found = {sv.cook(again, {"method": "fisher", "examples": 10, "data": data}).key for data in ("train", "held_out")}
    assert len(keys | found) == 3


SPECTRAL = """
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

def build():
    return nn.Sequential(spectral_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3))
"""


@pytest.mark.parametrize(
    "recipe", [MADE[0], {**MADE[1], "data": "held_out"}, LAYERED], ids=lambda recipe: recipe["method"]
)
def test_what_is_learned_is_normalised_by_its_own_singular_vectors(tmp_path, recipe):
    soup = sv.cook(Kitchen.load(small_kitchen(tmp_path, source=SPECTRAL)), recipe)
    state = soup.state_dict()
    weight = state["0.parametrizations.weight.original"]
    u, v = state["0.parametrizations.weight.0._u"], state["0.parametrizations.weight.0._v"]
    assert (u @ weight @ v).item() == pytest.approx(torch.linalg.matrix_norm(weight, ord=2).item(), rel=1e-4)
