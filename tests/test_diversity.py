"""Pairs of models: the errors they have in common, and what averaging two gains over the mean of the two."""

import itertools
from dataclasses import replace
from pathlib import Path

import altair
import numpy as np
import pytest
import scipy.stats
from kitchens import change_yaml, small_kitchen
from sklearn.metrics import jaccard_score

import soupviz as sv
from soupviz.analysis import barriers
from soupviz.analysis.diversity import Answers, Pair, gather, pairs_of
from soupviz.analysis.gains import Gain, gains, midpoints, score_ensembles, score_midpoints, without_logits
from soupviz.analysis.trend import trend
from soupviz.errors import Cancelled
from soupviz.mixing.averaging import combine, mean_of
from soupviz.pictures import diversity as pictures
from soupviz.soups.planning import cost
from soupviz.tasks.classes.class_metrics import ACCURACY, LOSS

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
A = [0, 0, 0, 1, 1, 1, 2, 2]  # wrong on 3, 6, 7
B = [0, 0, 2, 1, 1, 1, 2, 0]  # wrong on 2, 3, 6, 7: as A is on 3 and 6
C = [0, 0, 0, 0, 1, 1, 1, 1]


def answers(*predictions: list[int], labels: np.ndarray = LABELS) -> Answers:
    names = tuple("abcdefgh"[: len(predictions)])
    return told("held_out", names, np.array(predictions, dtype=np.int64), labels)


def told(split: str, names: tuple[str, ...], predictions: np.ndarray, labels: np.ndarray) -> Answers:
    values = (predictions == labels).mean(axis=1).tolist()
    return Answers(split, names, tuple(values), predictions != labels, predictions[..., None])


def random_answers(seed: int, models: int = 5, examples: int = 400, classes: int = 4) -> Answers:
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=examples)
    rows = [
        np.where(generator.random(examples) < 0.3, generator.integers(-1, classes, size=examples), labels)
        for _ in range(models)
    ]
    return answers(*[row.tolist() for row in rows], labels=labels)


def test_the_counts_of_a_pair_by_hand():
    (pair,) = pairs_of(answers(A, B))
    assert pair == Pair(
        "a", "b", 5 / 8, 4 / 8, both_right=4, only_a=1, only_b=0, both_wrong=3, same_wrong=2, different=2
    )
    assert pair.mean_value == 9 / 16
    assert pair.overlap == 3 / 4
    assert pair.disagreement == 2 / 8
    assert pair.ratio_error == 1 / 3
    assert pair.q_statistic == 1.0
    # Errors of 3/8 and 4/8: in common 12/64, of 3/8 + 4/8 - 12/64 = 44/64.
    assert pair.expected_overlap == pytest.approx(12 / 44)


def test_models_without_errors_have_no_overlap_to_tell():
    (pair,) = pairs_of(answers(C, C))
    assert (pair.overlap, pair.expected_overlap, pair.ratio_error, pair.q_statistic) == (None, None, None, None)
    (pair,) = pairs_of(answers(A, C))
    assert (pair.overlap, pair.expected_overlap, pair.ratio_error, pair.q_statistic) == (0.0, 0.0, None, None)


def test_a_model_has_all_errors_in_common_with_itself():
    (pair,) = pairs_of(answers(A, A))
    assert (pair.overlap, pair.ratio_error, pair.disagreement, pair.same_wrong) == (1.0, 0.0, 0.0, 3)


def test_pairs_come_once_each_in_the_order_of_the_names():
    assert [pair.names for pair in pairs_of(random_answers(0))] == list(itertools.combinations("abcde", 2))
    assert pairs_of(answers(A)) == []


@pytest.mark.parametrize("seed", range(4))
def test_overlap_is_sklearns_jaccard_and_the_ratio_error_its_odds(seed):
    given = random_answers(seed)
    wrong = given.wrong
    for pair, (i, j) in zip(pairs_of(given), itertools.combinations(range(5), 2), strict=True):
        assert pair.overlap == pytest.approx(jaccard_score(wrong[i], wrong[j]))
        assert pair.ratio_error == pytest.approx(1 / pair.overlap - 1)
        assert pair.disagreement == np.mean(given.choices[i] != given.choices[j])
        assert pair.num_units == 400
        same = (given.choices[i] == given.choices[j])[:, 0] & wrong[i]
        assert pair.same_wrong == same.sum()


def test_counts_do_not_depend_on_the_order_of_examples_nor_on_what_classes_are_called():
    given = random_answers(5)
    order = np.random.default_rng(1).permutation(400)
    assert pairs_of(replace(given, wrong=given.wrong[:, order], choices=given.choices[:, order])) == pairs_of(given)
    called = np.array([2, 3, 1, 0, -1])  # -1, no prediction, stays what it is
    renamed = replace(given, choices=called[given.choices])
    assert pairs_of(renamed) == pairs_of(given)


def test_swapping_two_models_swaps_their_counts_only():
    (pair,), (swapped,) = pairs_of(answers(A, B)), pairs_of(answers(B, A))
    assert (swapped.only_a, swapped.only_b) == (pair.only_b, pair.only_a)
    for name in ("overlap", "expected_overlap", "disagreement", "ratio_error", "q_statistic", "mean_value"):
        assert getattr(swapped, name) == getattr(pair, name)


def test_independent_errors_overlap_as_expected_and_have_no_q():
    generator = np.random.default_rng(0)
    labels = np.zeros(200_000, dtype=np.int64)
    given = answers(*[(generator.random(200_000) < rate).astype(int).tolist() for rate in (0.2, 0.4)], labels=labels)
    (pair,) = pairs_of(given)
    assert pair.overlap == pytest.approx(pair.expected_overlap, abs=0.005)
    assert pair.q_statistic == pytest.approx(0, abs=0.02)


def test_the_gain_of_a_pair_by_hand():
    (pair,) = pairs_of(answers(A, B))
    (gain,) = gains([pair], {("a", "b"): 6 / 8}, ACCURACY)
    assert gain == Gain(pair, 6 / 8, 6 / 8 - 9 / 16)
    assert gains([pair], {("a", "b"): 6 / 8}, LOSS)[0].gain == -gain.gain  # what rises is no gain of an error
    assert gain.gain == pytest.approx(6 / 8 - 9 / 16)
    assert gains([pair], {("a", "c"): 6 / 8}, ACCURACY) == []


# The line through the pairs


def figures(seed: int, size: int, noise: float) -> dict[tuple[str, str], tuple[float, float]]:
    generator = np.random.default_rng(seed)
    pairs = list(itertools.combinations("abcdefghij"[:size], 2))
    return {pair: (x := float(generator.random()), 2 * x + noise * float(generator.normal())) for pair in pairs}


@pytest.mark.parametrize("seed", range(3))
def test_the_line_and_its_correlations_are_scipys(seed):
    points = figures(seed, 6, noise=0.5)
    x, y = np.array(list(points.values())).T
    line = trend(points)
    expected = scipy.stats.linregress(x, y)
    assert (line.slope, line.intercept) == pytest.approx((expected.slope, expected.intercept))
    assert line.pearson == pytest.approx(expected.rvalue)
    assert line.spearman == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert (line.num_pairs, line.num_members) == (15, 6)
    assert line.at(0.25) == pytest.approx(expected.intercept + 0.25 * expected.slope)


def test_a_line_by_hand():
    line = trend({("a", "b"): (0, 1), ("a", "c"): (1, 3), ("b", "c"): (2, 5)})
    assert (line.slope, line.intercept, line.pearson) == pytest.approx((2, 1, 1))
    assert line.p_value is None  # three members have six relabellings


def test_relabelling_finds_what_is_there_and_not_what_is_not():
    assert trend(figures(0, 7, noise=0.0)).p_value <= 0.005
    lone = [trend(figures(seed, 6, noise=1e6)).p_value for seed in range(16)]
    assert np.mean(np.array(lone) < 0.5) == pytest.approx(0.5, abs=0.3)
    assert np.mean(np.array(lone) <= 0.05) < 0.2


def test_one_far_member_does_not_make_many_pairs_significant():
    """All pairs with one odd member have large x and y: one coincidence, not eight."""
    generator = np.random.default_rng(3)
    points = {
        pair: (10.0 * ("a" in pair) + generator.random(), 10.0 * ("b" in pair) + generator.random())
        for pair in itertools.combinations("abcdefghi", 2)
    }
    assert trend(points).p_value > 0.05


def test_the_line_does_not_depend_on_what_members_are_called():
    points = figures(1, 6, noise=0.3)
    renamed = {(a.upper(), b.upper()): value for (a, b), value in points.items()}
    assert trend(points) == trend(renamed)


def test_no_p_value_while_pairs_are_missing_and_no_line_through_too_few():
    points = figures(1, 6, noise=0.3)
    points.pop(("a", "b"))
    assert trend(points).p_value is None
    assert trend({}) is None
    assert trend(dict(list(points.items())[:2])) is None
    assert trend({pair: (1.0, y) for pair, (_, y) in points.items()}) is None


# What it costs


@pytest.fixture
def kitchen(tmp_path: Path) -> sv.Kitchen:
    opened = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=4, num_examples=60))
    opened.scores.of_ingredients()
    return opened


def test_midpoints_are_scored_once_and_known_afterwards(kitchen, evaluations):
    mixes = midpoints(kitchen, kitchen.names)
    told = []
    found = score_midpoints(kitchen, mixes, "held_out", on_score=lambda names, value: told.append((names, value)))
    assert len(evaluations) == 6
    assert told == list(found.items())
    assert found == {(a, b): kitchen.scores.score(mean_of([a, b])).shown("accuracy") for a, b in mixes}
    assert score_midpoints(kitchen, mixes, "held_out") == found
    assert len(evaluations) == 6


def test_midpoints_are_the_mixes_of_the_barriers(kitchen, evaluations):
    mixes = midpoints(kitchen, kitchen.names)
    assert mixes["m_0", "m_1"] == combine((("m_0", 1.0),), (("m_1", 1.0),), 0.5) == (("m_0", 0.5), ("m_1", 0.5))
    assert set(mixes.values()) <= {mixture for mixture, _, _ in barriers.wanted(kitchen)}
    barriers.measure(kitchen)
    before = len(evaluations)
    assert cost(kitchen, [(mixture, "held_out", "average") for mixture in mixes.values()]).evaluations == 0
    score_midpoints(kitchen, mixes, "held_out")
    assert len(evaluations) == before


def test_two_copies_are_their_own_average(tmp_path, evaluations):
    file = small_kitchen(tmp_path, num_ingredients=3, num_examples=60)
    (tmp_path / "m_2.safetensors").write_bytes((tmp_path / "m_0.safetensors").read_bytes())
    kitchen = sv.Kitchen.load(file)
    kitchen.scores.of_ingredients()
    before = len(evaluations)
    found = score_midpoints(kitchen, midpoints(kitchen, kitchen.names), "held_out")
    assert found["m_0", "m_2"] == kitchen.scores.score((("m_0", 1.0),)).shown("accuracy")
    (pair,) = pairs_of(gather(kitchen, ["m_0", "m_2"], "held_out"))
    assert gains([pair], found, ACCURACY)[0].gain == 0
    assert len(evaluations) - before == 2  # of m_0 and m_1, and of m_1 and m_2


def test_cancelled_work_goes_on_where_it_was(kitchen, evaluations):
    mixes = midpoints(kitchen, kitchen.names)

    def stop(names, _correct):
        if names == ("m_0", "m_3"):
            raise Cancelled

    with pytest.raises(Cancelled):
        score_midpoints(kitchen, mixes, "held_out", on_score=stop)
    assert len(evaluations) == 3
    score_midpoints(kitchen, mixes, "held_out")
    assert len(evaluations) == 6


def test_gathered_answers_come_from_the_store(kitchen, evaluations):
    given = gather(kitchen, ["m_2", "m_0"], "held_out")
    assert evaluations == []
    assert given.names == ("m_2", "m_0")
    assert (given.choices[1, :, 0] == kitchen.scores.score((("m_0", 1.0),)).outcomes["prediction"]).all()
    assert (given.wrong[1] == ~kitchen.scores.score((("m_0", 1.0),)).outcomes["right"]).all()


def test_ensembles_of_two_are_what_the_kitchen_scores_and_cost_no_evaluation_where_logits_are_kept(
    kitchen, evaluations
):
    assert without_logits(kitchen, kitchen.names, "held_out") == []
    told = []
    found = score_ensembles(
        kitchen, kitchen.names, "held_out", on_score=lambda names, correct: told.append((names, correct))
    )
    assert evaluations == []
    assert told == list(found.items())
    for (a, b), correct in found.items():
        assert correct == kitchen.scores.score(mean_of([a, b]), "held_out", "probabilities").shown("accuracy")
    kitchen.splits.load("test")
    assert without_logits(kitchen, kitchen.names, "test") == kitchen.names


def test_a_kitchen_of_one_has_no_pairs(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=1, num_examples=40))
    assert pairs_of(gather(kitchen, kitchen.names, "held_out")) == []
    assert midpoints(kitchen, kitchen.names) == {}


def test_two_classes_are_enough(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=60, args={"classes": 2})
    change_yaml(file, lambda document: document.update(classes=["no", "yes"]))
    kitchen = sv.Kitchen.load(file)
    (pair,) = pairs_of(gather(kitchen, kitchen.names, "held_out"))
    assert pair.same_wrong == pair.both_wrong  # there is one way to be wrong
    assert pair.different == pair.only_a + pair.only_b


# Pictures


def drawn(chart):
    data, spec = chart
    altair.Chart.from_dict(spec | {"data": {"values": data.to_dict("records")}})
    return data


def test_the_matrix_has_each_pair_twice_and_no_diagonal():
    pairs = pairs_of(random_answers(0))
    data = drawn(pictures.overlaps(pairs, "abcde", {"a"}, ("b", "c")))
    assert len(data) == 20
    assert not (data["row"] == data["column"]).any()
    by_cell = data.set_index(["row", "column"])["overlap"]
    assert all(by_cell[a, b] == by_cell[b, a] for a, b in itertools.combinations("abcde", 2))
    assert data["chosen"].sum() == 8
    assert data[data["selected"]][["row", "column"]].to_numpy().tolist() == [["b", "c"], ["c", "b"]]


def test_the_scatter_keeps_its_specification_while_scores_come():
    pairs = pairs_of(random_answers(0))
    values = {pair.names: (pair.both_right + 20) / pair.num_units for pair in pairs}
    known = gains(pairs, values, ACCURACY)
    line = trend({one.pair.names: (100 * one.pair.disagreement, 100 * one.gain) for one in known})
    whole = pictures.against_disagreement(known, line, pictures.MIDPOINT, ACCURACY, chosen={"a"}, selected=("b", "c"))
    data = drawn(whole)
    assert data["gain"].notna().sum() == 10
    assert data["line"].notna().sum() == 2
    sizes = data.dropna(subset=["gain"]).set_index(["a", "b"])["size"]
    assert sizes["b", "c"] > sizes["a", "b"] > sizes["d", "e"]
    assert pictures.against_disagreement([], None, pictures.MIDPOINT, ACCURACY)[1] == whole[1]
    drawn(pictures.against_disagreement([], None, pictures.ENSEMBLE, ACCURACY, "ratio error"))


def test_a_pair_without_a_ratio_is_not_drawn_against_it():
    (pair,) = pairs_of(answers(A, C))
    data = drawn(
        pictures.against_disagreement([Gain(pair, 1.0, 0.2)], None, pictures.MIDPOINT, ACCURACY, "ratio error")
    )
    assert data["x"].isna().all()


def test_the_bar_of_errors_has_their_counts_end_to_end():
    (pair,) = pairs_of(answers(A, B))
    data = drawn(pictures.errors_of(pair))
    assert data["count"].tolist() == [0, 3, 1]  # a is never wrong alone, b once
    assert data["from"].tolist() == [0, 0, 3]
    assert data["to"].tolist() == [0, 3, 4]
