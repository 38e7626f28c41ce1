"""Recipes over what fine-tuning changed: WiSE-FT, merges with a base, and means on the sphere."""

from pathlib import Path

import pytest
import torch
from kitchens import BATCHNORM, TIED, build_model, change_yaml, run_command, small_kitchen
from safetensors.torch import load_file
from scores import BY_ACCURACY, CLASSIFICATION, counted
from torch import Tensor

import soupviz as sv
from soupviz.errors import RecipeError
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing import merging
from soupviz.mixing.averaging import combine, mean_of
from soupviz.recipes import Pooled, ScoredPool, parse
from soupviz.recipes.based import (
    Breadcrumbs,
    Dare,
    Karcher,
    ModelStock,
    Slerp,
    TaskArithmetic,
    Ties,
    WiseFt,
    formula_of,
)  # fmt: skip
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.tasks.score import Score
from soupviz.types import Coefficients

MERGES: list[Pooled] = [
    TaskArithmetic(scale=0.6), Ties(density=0.3, scale=1.2), Dare(density=0.4, seed=5),
    Breadcrumbs(density=0.7, gamma=0.1, scale=0.9), ModelStock(), Karcher(),
]  # fmt: skip
BASED = ["wise_ft", "task_arithmetic", "ties", "dare", "breadcrumbs", "model_stock"]
ALL = [*MERGES, Slerp(alpha=0.3)]


def called(recipe) -> str:
    return recipe.method


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    return Kitchen.load(small_kitchen(tmp_path_factory.mktemp("based"), num_examples=120, scale=0.25))


def expected(recipe, key: str, base: Tensor, tensors: list[Tensor]) -> Tensor:
    """A tensor of the soup, by the merging functions and the equal weights of all ingredients."""
    equal = [1 / len(tensors)] * len(tensors)
    match recipe:
        case TaskArithmetic():
            return merging.task_arithmetic(base, tensors, equal, scale=recipe.scale)
        case Ties():
            return merging.ties(base, tensors, equal, density=recipe.density, scale=recipe.scale)
        case Dare():
            seed = int(digest([recipe.seed, key])[:15], 16)
            return merging.dare(base, tensors, equal, density=recipe.density, scale=recipe.scale, generator_seed=seed)
        case Breadcrumbs():
            return merging.breadcrumbs(
                base, tensors, equal, density=recipe.density, gamma=recipe.gamma, scale=recipe.scale
            )
        case ModelStock():
            return merging.model_stock(base, tensors)
        case _:
            return merging.karcher(tensors, equal)


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def correct(kitchen: Kitchen, weights: dict[str, Tensor], split: str) -> int:
    """By a model of the test's own."""
    model = build_model((kitchen.folder / "model.py").read_text())
    model.load_state_dict(weights, strict=True)
    data = kitchen.splits.load(split)
    with torch.no_grad():
        return int((model(data.inputs[""]).argmax(1) == data.labels).sum())


# Merges


@pytest.mark.parametrize("recipe", MERGES, ids=called)
def test_a_merge_is_made_tensor_by_tensor_by_its_formula(kitchen, recipe):
    soup = sv.cook(kitchen, recipe)
    for key, tensor in soup.state_dict().items():
        tensors = [item.tensors[key] for item in kitchen.ingredients]
        assert torch.equal(tensor, expected(recipe, key, kitchen.base.tensors[key], tensors))


@pytest.mark.parametrize("recipe", ALL, ids=called)
def test_a_merge_is_a_soup_without_coefficients_and_with_scores(kitchen, recipe):
    soup = sv.cook(kitchen, recipe)
    [(name, weight)] = soup.mix
    assert (name.rpartition("-")[0], weight) == (recipe.method, 1.0)
    assert soup.coefficients is None
    assert soup.as_dict()["coefficients"] is None
    assert list(soup.pool) == kitchen.names
    assert soup.made_of == f"not one weighted sum: {name}, of 4 ingredients"
    for split in ("held_out", "test"):
        assert soup.scores[split].correct == correct(kitchen, soup.state_dict(), split)


@pytest.mark.parametrize("recipe", ALL, ids=called)
def test_a_merge_repeats_bit_for_bit_in_another_kitchen_of_the_same_files(kitchen, recipe, tmp_path):
    other = Kitchen.load(small_kitchen(tmp_path, num_examples=120, scale=0.25))
    one, two = sv.cook(kitchen, recipe), sv.cook(other, recipe)
    assert equal(one.state_dict(), two.state_dict())
    assert (one.mix, one.key) == (two.mix, two.key)


@pytest.mark.parametrize("recipe", ALL, ids=called)
def test_a_merge_is_exported_baked_and_restored_bit_for_bit(recipe, tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path / "kitchen", num_examples=60, scale=0.25))
    soup = sv.cook(kitchen, recipe)
    weights = soup.state_dict()
    [path, recipe_file, _] = sv.export(soup, tmp_path / "soup.safetensors")
    assert equal(load_file(path), weights)
    record = read_record(path)
    needed = {*kitchen.names, "base"} if "base" in recipe.requires else {*kitchen.names}
    assert set(record.ingredients) == needed
    [baked, *_] = sv.bake(recipe_file, tmp_path / "again.safetensors")
    assert equal(load_file(baked), weights)
    kitchen.store.clear()
    opened = Kitchen.load(kitchen.file)
    # Where nothing is known of the formula, the recipe says what it is.
    [there, *_] = sv.bake(path, tmp_path / "there.safetensors", kitchen=opened)
    assert equal(load_file(there), weights)
    again = restore(opened, record)
    assert (again.mix, again.key, again.coefficients) == (soup.mix, soup.key, None)
    assert {split: score.correct for split, score in again.scores.items()} == {
        split: score.correct for split, score in soup.scores.items()
    }
    assert equal(again.state_dict(), weights)


@pytest.mark.parametrize("recipe", ALL, ids=called)
def test_tied_weights_stay_tied_in_a_merge(recipe, tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, source=TIED, num_examples=40))
    weights = sv.cook(kitchen, recipe).state_dict()
    assert torch.equal(weights["first.weight"], weights["second.weight"])


@pytest.mark.parametrize("recipe", [*MERGES, Slerp()], ids=called)
def test_running_statistics_of_a_merge_are_averaged_or_the_firsts(recipe, tmp_path):
    """Of SLERP's two the first is the better one."""
    kitchen = Kitchen.load(small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_examples=40))
    soups = [sv.cook(kitchen, recipe.model_copy(update={"batchnorm": batchnorm})) for batchnorm in ("average", "first")]
    average, first = (soup.state_dict() for soup in soups)
    scores = kitchen.scores.of_ingredients()
    ranked = sorted(kitchen.names, key=lambda name: -scores[name].correct)
    used = ranked[:2] if isinstance(recipe, Slerp) else kitchen.names
    variances = [kitchen.weights.resolve(name).tensors["1.running_var"] for name in used]
    torch.testing.assert_close(average["1.running_var"], torch.stack(variances).mean(0))
    assert torch.equal(first["1.running_var"], variances[0])
    assert torch.equal(first["0.weight"], average["0.weight"])
    assert soups[0].mix != soups[1].mix


@pytest.mark.parametrize("recipe", [TaskArithmetic(scale=0.6), Karcher()], ids=called)
def test_running_statistics_of_a_merge_are_reestimated(recipe, tmp_path):
    options = {"source": BATCHNORM, "shape": (3, 8, 8), "num_examples": 40, "train": 30}
    kitchen = Kitchen.load(small_kitchen(tmp_path, **options))
    plain = sv.cook(kitchen, recipe)
    soup = sv.cook(kitchen, recipe.model_copy(update={"batchnorm": "recalibrate"}))
    assert soup.mix == plain.mix  # the same weights, treated otherwise
    assert not torch.allclose(soup.state_dict()["1.running_var"], plain.state_dict()["1.running_var"], rtol=1e-2)
    assert soup.scores["test"].correct == correct(kitchen, soup.state_dict(), "test")


def test_task_arithmetic_of_scale_1_is_the_average(kitchen):
    soup, average = sv.cook(kitchen, TaskArithmetic()), sv.uniform(kitchen)
    for key, tensor in average.state_dict().items():
        torch.testing.assert_close(soup.state_dict()[key], tensor, rtol=1e-5, atol=1e-6)


def test_dare_of_density_1_is_task_arithmetic_and_of_another_seed_another_soup(kitchen):
    arithmetic = sv.cook(kitchen, TaskArithmetic(scale=0.8)).state_dict()
    assert equal(sv.cook(kitchen, Dare(density=1.0, scale=0.8)).state_dict(), arithmetic)
    one, other = (sv.cook(kitchen, Dare(seed=seed)) for seed in (0, 1))
    assert one.key != other.key
    assert not equal(one.state_dict(), other.state_dict())


def test_a_merge_of_few_members_is_of_these(kitchen):
    soup = sv.cook(kitchen, Karcher(members=("m_2",)))
    assert equal(soup.state_dict(), kitchen.weights.resolve("m_2").tensors)
    few = sv.cook(kitchen, Ties(members=("m_3", "m_1")))
    assert few.pool == ("m_1", "m_3")
    assert kitchen.weights.leaves([name for name, _ in few.mix]) == ["m_1", "m_3", "base"]


def test_another_base_is_another_soup_where_the_base_counts(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=40))
    change_yaml(kitchen.file, lambda keys: keys.update(base="m_3.safetensors", ingredients=["m_0.safetensors"]))
    other = Kitchen.load(kitchen.file)
    kitchen = Kitchen.load(change_yaml(kitchen.file, lambda keys: keys.update(base="base.safetensors")))
    for recipe, is_same in ((ModelStock(), False), (Ties(), False), (WiseFt(alpha=0.5), False), (Karcher(), True)):
        assert (sv.cook(kitchen, recipe).key == sv.cook(other, recipe).key) is is_same


@pytest.mark.parametrize("method", BASED)
def test_without_a_base_it_is_refused_with_the_remedy(method, tmp_path):
    kitchen = Kitchen.load(change_yaml(small_kitchen(tmp_path, num_examples=40), lambda keys: keys.pop("base")))
    with pytest.raises(RecipeError, match=r"kitchen\.yaml has no base; add `base: FILE` to it, or choose another"):
        sv.cook(kitchen, {"method": method})
    assert kitchen.store.runs() == []


@pytest.mark.parametrize("method", ["slerp", "karcher"])
def test_means_on_the_sphere_need_no_base(method, tmp_path):
    kitchen = Kitchen.load(change_yaml(small_kitchen(tmp_path, num_examples=40), lambda keys: keys.pop("base")))
    assert sv.cook(kitchen, {"method": method}).scores["test"].num_examples == 40


# SLERP


def test_slerp_takes_the_two_that_are_best_on_held_out(kitchen):
    scores = kitchen.scores.of_ingredients()
    first, second = sorted(kitchen.names, key=lambda name: -scores[name].correct)[:2]
    soup = sv.cook(kitchen, Slerp(alpha=0.3))
    formula = kitchen.weights.formula(soup.mix[0][0])
    assert [name for name, _ in formula.parts] == [first, second]
    for key, tensor in soup.state_dict().items():
        a, b = (kitchen.weights.resolve(name).tensors[key] for name in (first, second))
        assert torch.equal(tensor, merging.slerp(a, b, 0.3))


@pytest.mark.parametrize(("alpha", "place"), [(0.0, 0), (1.0, 1)])
def test_the_ends_of_slerp_are_the_two_bit_for_bit(kitchen, alpha, place):
    scores = kitchen.scores.of_ingredients()
    ranked = sorted(kitchen.names, key=lambda name: -scores[name].correct)
    soup = sv.cook(kitchen, Slerp(alpha=alpha))
    assert equal(soup.state_dict(), kitchen.weights.resolve(ranked[place]).tensors)
    assert soup.scores["test"].correct == kitchen.scores.score(((ranked[place], 1.0),), "test").correct


def test_slerp_of_one_is_refused(kitchen):
    with pytest.raises(RecipeError, match="slerp: needs two ingredients; got 'm_1' alone"):
        sv.cook(kitchen, Slerp(members=("m_1",)))


# WiSE-FT


def test_wise_ft_goes_from_the_base_to_the_mean(kitchen):
    soup = sv.cook(kitchen, WiseFt(alpha=0.25))
    assert soup.coefficients == {"m_0": 0.0625, "m_1": 0.0625, "m_2": 0.0625, "m_3": 0.0625, "base": 0.75}
    assert soup.trajectory == ()
    for key, tensor in soup.state_dict().items():
        mean = torch.stack([item.tensors[key] for item in kitchen.ingredients]).mean(0)
        torch.testing.assert_close(tensor, 0.75 * kitchen.base.tensors[key] + 0.25 * mean)


def test_its_ends_are_the_base_and_the_average_bit_for_bit(kitchen):
    assert equal(sv.cook(kitchen, WiseFt(alpha=0)).state_dict(), dict(kitchen.base.tensors))
    average = sv.uniform(kitchen)
    end = sv.cook(kitchen, WiseFt(alpha=1))
    assert equal(end.state_dict(), average.state_dict())
    assert end.scores == average.scores


def test_the_best_alpha_is_that_of_the_curve_the_first_of_equals(kitchen):
    curve = sv.interpolate(kitchen, "base", sv.uniform(kitchen), points=11)
    soup = sv.cook(kitchen, WiseFt())
    assert [step.correct for step in soup.trajectory] == curve["correct"].tolist()
    best = int(curve["correct"].argmax())
    assert soup.mix == combine((("base", 1.0),), mean_of(kitchen.names), best / 10)
    assert soup.scores["held_out"].correct == curve["correct"].max()
    assert [step.ingredient for step in soup.trajectory][:3] == ["alpha 0", "alpha 0.1", "alpha 0.2"]
    highest = 0
    for step in soup.trajectory:
        assert step.accepted is (step.correct > highest)
        highest = max(highest, step.correct)
        assert step.best_accuracy == highest / 120


def test_of_equal_alphas_the_first_is_kept():
    told = []

    def attempt(mixture: Coefficients, _limit) -> Score:
        share = 1 - dict(mixture).get("base", 0.0)
        return counted(7 if share > 0.45 else 3, 10)

    assert WiseFt().plan(ScoredPool(["a", "b"], CLASSIFICATION, BY_ACCURACY, attempt, told.append)) == (
        ("base", 0.5),
        ("a", 0.25),
        ("b", 0.25),
    )
    assert [step.accepted for step in told] == [number in (0, 5) for number in range(11)]


def test_wise_ft_is_exported_baked_and_restored_with_its_base(kitchen, tmp_path):
    soup = sv.cook(kitchen, WiseFt(alpha=0.5))
    [path, *_] = sv.export(soup, tmp_path / "soup.pt")
    record = read_record(path)
    assert set(record.ingredients) == {*kitchen.names, "base"}
    [baked, *_] = sv.bake(path, tmp_path / "again.safetensors")
    assert equal(load_file(baked), soup.state_dict())
    again = restore(Kitchen.load(kitchen.file), record)
    assert (again.key, again.mix, again.coefficients) == (soup.key, soup.mix, soup.coefficients)


# As data


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "wise_ft", "alpha": value}, r"wise_ft: alpha is .*; expected best, or a number from 0 to 1")
        for value in (-0.1, 1.1, "half", None, float("nan"), [0.5])
    ]
    + [
        ({"method": "task_arithmetic", "scale": 0}, "scale"), ({"method": "task_arithmetic", "scale": 3.1}, "scale"),
        ({"method": "ties", "density": 0}, "density"), ({"method": "ties", "density": 1.1}, "density"),
        ({"method": "dare", "seed": -1}, "seed"), ({"method": "breadcrumbs", "gamma": 1}, "gamma"),
        ({"method": "model_stock", "density": 0.5}, "model_stock has no 'density'"),
        ({"method": "slerp", "alpha": 1.5}, "alpha"), ({"method": "karcher", "base": "base"}, "karcher has no 'base'"),
    ],
)  # fmt: skip
def test_a_parameter_out_of_range_is_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        parse(values)


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ({"method": "wise_ft"}, "WiSE-FT (alpha = best)"),
        ({"method": "wise_ft", "alpha": "0.5", "members": ["a", "b"]}, "WiSE-FT (alpha = 0.5, of 2)"),
        ({"method": "task_arithmetic"}, "task arithmetic (scale 1)"),
        ({"method": "ties", "density": 0.3}, "TIES (density 0.3, scale 1)"),
        ({"method": "dare", "members": ["a"]}, "DARE (density 0.5, scale 1, of 1)"),
        ({"method": "breadcrumbs"}, "Breadcrumbs (density 0.9, gamma 0.01, scale 1)"),
        ({"method": "model_stock"}, "Model Stock"),
        ({"method": "model_stock", "members": ["a"]}, "Model Stock (of 1)"),
        ({"method": "slerp"}, "SLERP (alpha = 0.5)"),
        ({"method": "karcher"}, "Karcher mean"),
    ],
)  # fmt: skip
def test_titles_have_the_parameters_that_matter(values, title):
    assert parse(values).title == title


@pytest.mark.parametrize("recipe", ALL, ids=called)
def test_a_formula_has_the_recipes_own_parameters_and_the_base_where_it_needs_one(recipe):
    """Neither what it chooses among nor what it is called is a parameter of the arithmetic."""
    if isinstance(recipe, Slerp):
        return
    formula = formula_of(recipe.model_copy(update={"members": ("a", "b")}), ["a", "b"])
    assert formula.parts == (("a", 0.5), ("b", 0.5))
    assert formula.base == ("base" if "base" in recipe.requires else None)
    assert {"method", "members", "batchnorm"}.isdisjoint(formula.parameters)
    assert formula.parameters == recipe.model_dump(exclude={"method", "members", "batchnorm"})


def test_wise_ft_tells_what_it_will_ask_for():
    assert (WiseFt().candidates(4), WiseFt(alpha=0.3).candidates(4), Slerp().candidates(4)) == (11, 1, 0)


def test_the_command_line_cooks_and_writes_a_merge(tmp_path, capsys):
    file = small_kitchen(tmp_path / "kitchen", num_examples=40)
    out = tmp_path / "soup.safetensors"
    status, told, err = run_command(capsys, "soup", file, "--recipe", "ties", "--density", "0.3", "--out", out)
    assert status == 0, err
    assert "not one weighted sum: ties-" in told
    assert equal(load_file(out), sv.cook(Kitchen.load(file), Ties(density=0.3)).state_dict())
    assert "made from 5 checkpoints" in Path(tmp_path / "README.md").read_text(encoding="utf-8")


def but_the_loss(score: Score) -> dict[str, object]:
    told = score.summary()
    return told | {"loss": 0, "metrics": told["metrics"] | {"loss": 0}}


def test_an_interpolation_from_a_merge_travels_with_the_formula(tmp_path):
    """Baked without the kitchen, and restored where the store knows nothing; also at an end, where one side has no
    part in it."""
    kitchen = Kitchen.load(small_kitchen(tmp_path / "kitchen", num_examples=60, scale=0.25))
    ties = sv.cook(kitchen, Ties())
    ends = {"a": ties.title, "b": "m_2", "mix_a": ties.mix, "mix_b": [("m_2", 1.0)]}
    soups = [sv.cook(kitchen, {"method": "interpolation", "alpha": alpha} | ends) for alpha in (0.25, 0.0, 1.0)]
    for number, soup in enumerate(soups):
        weights = soup.state_dict()
        [path, *_] = sv.export(soup, tmp_path / f"soup{number}.safetensors")
        record = read_record(path)
        assert set(record.ingredients) == {*kitchen.names, "base"}
        [baked, *_] = sv.bake(path, tmp_path / "again.safetensors")
        assert equal(load_file(baked), weights)
        kitchen.store.clear()
        opened = Kitchen.load(kitchen.file)
        [there, *_] = sv.bake(path, tmp_path / "there.safetensors", kitchen=opened)
        assert equal(load_file(there), weights)
        again = restore(opened, record)
        assert (again.mix, again.key, again.pool) == (soup.mix, soup.key, soup.pool)
        assert equal(again.state_dict(), weights)
        assert but_the_loss(again.scores["test"]) == but_the_loss(soup.scores["test"])
