import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from kitchens import small_kitchen
from scipy import stats
from test_menu import OVER_TIME

import soupviz as sv
from soupviz.analysis import crossfit
from soupviz.analysis.crossfit import finding_key
from soupviz.analysis.verdicts import verdict_of
from soupviz.data.classes import stratified_part
from soupviz.errors import Cancelled, RecipeError, SoupError
from soupviz.mixing.averaging import mean_of
from soupviz.mixing.named import NamedWeights
from soupviz.recipes import MENU, parse
from soupviz.recipes.greedy import with_newcomer


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossfit")
    return sv.Kitchen.load(
        small_kitchen(folder, num_examples=240, scale=0.35, num_ingredients=5, train=60, shifts=["blur"])
    )


@pytest.fixture
def kitchen(opened):
    """Opened once; nothing is known."""
    opened.store.clear()
    for split in opened.splits.names:
        opened.splits.load(split)
    return opened


def right(kitchen, mix, aggregation="average"):
    """What a mix has right of the whole of held_out, as scored the usual way."""
    return kitchen.scores.score(mix, "held_out", aggregation).outcomes["right"]


def greedy_by_hand(kitchen, rows):
    """The textbook's greedy soup on some examples of held_out: (mix, best ingredient)."""
    counts = {name: int(right(kitchen, ((name, 1.0),))[rows].sum()) for name in kitchen.names}
    order = sorted(kitchen.names, key=lambda name: -counts[name])
    soup, best = ((order[0], 1.0),), counts[order[0]]
    for name in order[1:]:
        tried = with_newcomer(soup, name, "mean")
        count = int(right(kitchen, tried)[rows].sum())
        if count > best:
            soup, best = tried, count
    return soup, order[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_greedy_search_is_cross_fitted_as_by_hand(kitchen, seed):
    found = crossfit.crossfit(kitchen, parse({"method": "greedy"}), seed=seed)
    labels = kitchen.splits.load("held_out").labels
    halves = [stratified_part(labels, index, 2, seed).numpy() for index in (0, 1)]
    assert sorted(np.concatenate(halves)) == list(range(240))
    selecting = judging = fixed = broken = 0
    for index in (0, 1):
        rows, others = halves[index], halves[1 - index]
        soup, best = greedy_by_hand(kitchen, rows)
        new, old = right(kitchen, soup), right(kitchen, ((best, 1.0),))
        selecting += int(new[rows].sum())
        judging += int(new[others].sum())
        fixed += int((new & ~old)[others].sum())
        broken += int((~new & old)[others].sum())
        half = found.halves[index]
        assert (half.best, half.selecting, half.judging) == (best, new[rows].mean(), new[others].mean())
        assert (half.best_selecting, half.best_judging) == (old[rows].mean(), old[others].mean())
    assert (found.selecting, found.judging, found.num_units) == (selecting / 240, judging / 240, 240)
    assert found.optimism == pytest.approx((selecting - judging) / 240)
    assert (found.better, found.worse) == (fixed, broken)
    assert found.p_value == (stats.binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0)


def test_the_halves_are_stratified(kitchen):
    labels = kitchen.splits.load("held_out").labels
    counts = [np.bincount(labels[stratified_part(labels, index, 2, 0)], minlength=3) for index in (0, 1)]
    assert abs(counts[0] - counts[1]).max() <= 1


def test_what_selects_nothing_has_no_optimism_and_costs_nothing_where_it_is_known(kitchen, evaluations):
    kitchen.scores.of_ingredients("held_out")
    whole = kitchen.scores.score(mean_of(kitchen.names))
    evaluations.clear()
    recipe = parse({"method": "uniform"})
    assert crossfit.cost(kitchen, recipe).evaluations == 0
    found = crossfit.crossfit(kitchen, recipe)
    assert (found.selecting, found.judging, found.optimism) == (whole.accuracy, whole.accuracy, 0.0)
    assert evaluations == []


def test_single_ingredients_are_cut_out_of_what_is_known(kitchen, evaluations):
    """Of a soup that is one ingredient on each half nothing but candidates is evaluated."""
    kitchen.scores.of_ingredients("held_out")
    evaluations.clear()
    recipe = parse({"method": "greedy"})
    told = crossfit.cost(kitchen, recipe)
    crossfit.crossfit(kitchen, recipe)
    assert 8 <= len(evaluations) <= told.evaluations == 2 * 4 + 4


def test_candidates_that_the_search_has_scored_whole_are_not_scored_again(kitchen, evaluations):
    sv.greedy(kitchen, complete=True)
    evaluations.clear()
    crossfit.crossfit(kitchen, parse({"method": "greedy"}))
    fewer = len(evaluations)
    kitchen.store.clear()
    kitchen.scores.of_ingredients("held_out")
    evaluations.clear()
    crossfit.crossfit(kitchen, parse({"method": "greedy"}))
    assert fewer < len(evaluations)


def test_it_leaves_no_run_no_score_on_test_and_no_folder(kitchen):
    kitchen.scores.of_ingredients("test")
    before = [run.key for run in kitchen.store.runs()]
    seen = verdict_of(kitchen, sv.uniform(kitchen)).models_seen
    runs = len(kitchen.store.runs())
    crossfit.crossfit(kitchen, parse({"method": "greedy"}))
    assert len(kitchen.store.runs()) == runs == len(before) + 1
    assert verdict_of(kitchen, sv.uniform(kitchen)).models_seen == seen
    assert list((kitchen.store.folder / "crossfit").iterdir()) == []
    assert kitchen.splits.names == ["held_out", "test", "train", "shifts.blur"]


def test_it_is_kept_and_known_from_then_on(kitchen, evaluations):
    recipe = parse({"method": "greedy"})
    assert crossfit.known(kitchen, recipe) is None
    found = crossfit.crossfit(kitchen, recipe)
    evaluations.clear()
    assert crossfit.known(kitchen, recipe) == found == crossfit.crossfit(kitchen, recipe)
    assert evaluations == []
    assert crossfit.known(kitchen, parse({"method": "greedy", "alpha": 0.1})) is None
    assert crossfit.known(kitchen, recipe, seed=1) is None
    json.dumps(asdict(found))


def test_the_verdict_tells_the_optimism(kitchen):
    soup = sv.greedy(kitchen)
    assert verdict_of(kitchen, soup).optimism == "How optimistic held_out is about it was not estimated yet."
    found = crossfit.crossfit(kitchen, soup.recipe)
    verdict = verdict_of(kitchen, soup)
    assert verdict.crossfit == found
    assert f"{100 * found.judging:.1f} % on the other" in verdict.optimism
    assert verdict_of(kitchen, kitchen.store.runs()[0]).crossfit == found


def test_a_cross_fit_that_was_stopped_goes_on(kitchen, evaluations):
    kitchen.scores.of_ingredients("held_out")
    recipe = parse({"method": "greedy"})
    evaluations.clear()
    whole = asdict(crossfit.crossfit(kitchen, recipe))
    needed = len(evaluations)
    kitchen.store.clear()
    kitchen.scores.of_ingredients("held_out")
    evaluations.clear()

    def stop(_done, _total, _what):
        if len(evaluations) > needed // 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        crossfit.crossfit(kitchen, recipe, progress=stop)
    assert kitchen.store.runs() == []
    stopped = len(evaluations)
    assert asdict(crossfit.crossfit(kitchen, recipe)) == whole
    assert len(evaluations) <= needed + 1 and stopped > 1  # the one that was being scored goes on


QUICK = {
    "alpha_search": {"tries": 2}, "line_search": {"steps": 2}, "bayesian": {"budget": 4}, "restarts": {"starts": 2},
    "learned": {"examples": 40, "epochs": 1}, "fisher": {"examples": 20}, "regmean": {"examples": 20},
    "rebasin": {"examples": 20}, "distilled": {"epochs": 1},
}  # fmt: skip


@pytest.mark.parametrize("method", [name for name in MENU if name not in OVER_TIME])
def test_every_recipe_of_the_menu_can_be_cross_fitted(kitchen, method):
    members = {"members": ["m_0", "m_1", "m_2"]} if method in ("exhaustive", "beam") else {}
    found = crossfit.crossfit(kitchen, parse({"method": method} | QUICK.get(method, {}) | members))
    assert found.num_units == 240
    assert sum(half.num_judging for half in found.halves) == 240
    assert list((kitchen.store.folder / "crossfit").iterdir()) == []
    # What was trained for a half is gone with it.
    made = kitchen.store.folder / "made"
    assert not made.exists() or not list(made.iterdir())


def test_what_cannot_be_halved_is_refused_with_a_reason(kitchen, tmp_path):
    with pytest.raises(RecipeError, match="selects on the shifts too"):
        crossfit.crossfit(kitchen, parse({"method": "greedy", "objective": "with_shifts"}))
    ends = {"a": "m_0", "b": "m_1", "mix_a": [["m_0", 1.0]], "mix_b": [["m_1", 1.0]], "alpha": 0.5}
    with pytest.raises(RecipeError, match="its place was named, not searched for"):
        crossfit.crossfit(kitchen, parse({"method": "interpolation"} | ends))
    few = sv.Kitchen.load(small_kitchen(tmp_path, num_examples=12))
    with pytest.raises(RecipeError, match="12 examples; expected at least 20"):
        crossfit.crossfit(few, parse({"method": "greedy"}))
    with pytest.raises(SoupError, match="of which step"):
        crossfit.crossfit(kitchen, parse({"method": "swa"}))


def test_a_run_is_cross_fitted_over_what_it_chose_among(kitchen):
    soup = sv.greedy(kitchen, members=["m_0", "m_1"])
    run = kitchen.store.run(soup.key)
    assert crossfit.recipe_in(kitchen, run) == soup.recipe
    older = sv.greedy(kitchen)
    recorded = kitchen.store.run(older.key)
    ingredients = (*kitchen.ingredients, replace(kitchen.ingredients[0], name="newcomer"))
    named = NamedWeights(kitchen.file, ingredients, kitchen.base, kitchen.architecture, kitchen.store)
    more = replace(kitchen, ingredients=ingredients, weights=named)
    assert crossfit.recipe_in(more, recorded).members == tuple(kitchen.names)


def test_slices_are_cut_with_their_examples(tmp_path):
    file = small_kitchen(tmp_path, num_examples=80, num_ingredients=2)
    rows = "\n".join("abc"[index % 3] for index in range(80))
    (tmp_path / "slices.csv").write_text(f"lamp\n{rows}\n")
    text = file.read_text().replace(
        "path: held_out.safetensors", "path: held_out.safetensors\n    slices: {file: slices.csv, column: lamp}"
    )
    file.write_text(text)
    kitchen = sv.Kitchen.load(file)
    found = crossfit.crossfit(kitchen, parse({"method": "greedy", "objective": "worst_slice"}))
    assert found.num_units == 80


def test_the_key_changes_with_what_it_depends_on(kitchen):
    recipe = parse({"method": "greedy"})
    keys = {finding_key(kitchen, recipe, seed) for seed in (0, 1)}
    assert len(keys | {finding_key(kitchen, parse({"method": "pruned"}))}) == 3
