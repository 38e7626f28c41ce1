"""Tasks and their metrics: against scikit-learn and by hand, exact where they can be, with bounds that hold."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scores import CLASSIFICATION, judged, of_labels
from sklearn import metrics as sklearn
from torch.nn import functional as F

from soupviz.errors import DataError, KitchenError
from soupviz.tasks import finding
from soupviz.tasks.calibration import calibration_error
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.classes.multilabel import Multilabel
from soupviz.tasks.metric import Metric, SumMetric
from soupviz.tasks.objective import Objective
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.regression import Regression
from soupviz.tasks.task import Task

TASKS = [Classification(), Multilabel(), Regression()]
EVERY = [pytest.param(task, metric, id=f"{task.name}-{metric.name}") for task in TASKS for metric in task.metrics]
seeds = st.integers(0, 10_000)


def data_of(task: Task, seed: int, number: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers and labels, a third of the answers near the labels."""
    random = np.random.default_rng(seed)
    answers = random.normal(0, 2, (number, 6)).astype(np.float32)
    if isinstance(task, Classification):
        labels = random.integers(0, 6, number)
        answers[np.arange(number), labels] += random.integers(0, 4, number)
    elif isinstance(task, Multilabel):
        labels = random.random((number, 6)) < 0.4
        answers += np.where(labels, 1.0, -1.0) * random.integers(0, 4, (number, 1))
    else:
        labels = random.normal(0, 2, (number, 6)).astype(np.float32)
        answers = (labels + random.normal(0, 1, (number, 6))).astype(np.float32)
    return torch.from_numpy(answers.astype(np.float32)), torch.from_numpy(labels)


def whole(task: Task, answers: torch.Tensor, labels: torch.Tensor) -> Outcomes:
    return Outcomes.of(task.outcomes(answers, labels), task.targets(labels))


def outcomes_of(task: Task, seed: int, number: int = 24) -> Outcomes:
    return whole(task, *data_of(task, seed, number))


def value(task: Task, name: str, outcomes: Outcomes):
    return next(metric for metric in task.metrics if metric.name == name).value(outcomes)


def badness(metric: Metric, one) -> float:
    return float(-one if metric.higher_is_better else one)


# Against scikit-learn


@pytest.mark.parametrize("seed", range(4))
def test_metrics_of_a_classifier_are_scikit_learns(seed):
    logits, labels = data_of(CLASSIFICATION, seed, 40)
    found = whole(CLASSIFICATION, logits, labels)
    predictions, chances = logits.argmax(1).numpy(), logits.double().softmax(1).numpy()
    assert value(CLASSIFICATION, "accuracy", found) == pytest.approx(sklearn.accuracy_score(labels, predictions))
    loss = sklearn.log_loss(labels, chances, labels=range(6))
    assert value(CLASSIFICATION, "loss", found) == pytest.approx(loss, rel=1e-6)
    f1 = sklearn.f1_score(labels, predictions, average="macro", zero_division=0)
    assert value(CLASSIFICATION, "macro_f1", found) == pytest.approx(f1, abs=1e-12)
    top5 = sklearn.top_k_accuracy_score(labels, chances, k=5, labels=range(6))
    assert value(CLASSIFICATION, "top5", found) == pytest.approx(top5)
    ece = calibration_error(chances.max(1).astype(np.float32), predictions == labels.numpy())
    assert value(CLASSIFICATION, "ece", found) == pytest.approx(ece, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_metrics_of_a_regression_are_scikit_learns(seed):
    task = Regression()
    answers, labels = data_of(task, seed)
    found = whole(task, answers, labels)
    told, true = answers.double().numpy(), labels.double().numpy()
    assert value(task, "rmse", found) == pytest.approx(math.sqrt(sklearn.mean_squared_error(true, told)))
    assert value(task, "mae", found) == pytest.approx(sklearn.mean_absolute_error(true, told))
    assert value(task, "r2", found) == pytest.approx(sklearn.r2_score(true, told))


@pytest.mark.parametrize("seed", range(4))
def test_metrics_of_several_labels_are_scikit_learns(seed):
    task = Multilabel()
    logits, labels = data_of(task, seed)
    found = whole(task, logits, labels)
    true, told = labels.numpy(), (logits > 0).numpy()
    for how in ("macro", "micro"):
        expected = sklearn.f1_score(true, told, average=how, zero_division=0)
        assert value(task, f"{how}_f1", found) == pytest.approx(expected, abs=1e-12)
    assert value(task, "map", found) == pytest.approx(sklearn.average_precision_score(true, logits, average="macro"))
    loss = F.binary_cross_entropy_with_logits(logits.double(), labels.double())
    assert value(task, "loss", found) == pytest.approx(float(loss), rel=1e-6)


def test_equal_scores_of_a_label_are_one_threshold():
    task = Multilabel()
    logits = torch.tensor([[1.0], [1.0], [0.0], [0.0], [-1.0]])
    labels = torch.tensor([[1], [0], [1], [0], [1]])
    expected = sklearn.average_precision_score(labels.numpy().ravel(), logits.numpy().ravel())
    assert value(task, "map", whole(task, logits, labels)) == pytest.approx(expected)


def test_a_regression_by_hand():
    """Errors 1 and -3, of labels 0 and 4 with mean 2: R2 is 1 - 10 / 8."""
    task = Regression()
    found = whole(task, task.answers(torch.tensor([1.0, 1.0])), torch.tensor([0.0, 4.0]))
    assert value(task, "rmse", found) == pytest.approx(math.sqrt(5))
    assert value(task, "mae", found) == 2.0
    assert value(task, "r2", found) == pytest.approx(-0.25)


def test_several_labels_by_hand():
    """Class 0: TP 1, FP 1; class 1: TP 1, FN 1; class 2 neither occurs nor is told and counts 0."""
    task = Multilabel()
    logits = torch.tensor([[2.0, 2.0, -2.0], [2.0, -2.0, -2.0]])
    labels = torch.tensor([[1, 1, 0], [0, 1, 0]])
    found = whole(task, logits, labels)
    assert value(task, "macro_f1", found) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert value(task, "micro_f1", found) == pytest.approx(4 / 6)


# Exactness


def test_shares_are_fractions():
    found = outcomes_of(CLASSIFICATION, 0, 7)
    for name in ("accuracy", "top5"):
        assert type(value(CLASSIFICATION, name, found)) is Fraction
    right = int(found["right"].sum())
    assert value(CLASSIFICATION, "accuracy", found) == Fraction(right, 7)
    score = judged(found)
    assert (score.value, score.metric, score.num_units) == (Fraction(right, 7), "accuracy", 7)


@pytest.mark.parametrize(("task", "metric"), EVERY)
@settings(max_examples=20)
@given(seed=seeds)
def test_no_order_of_the_units_changes_a_value(task, metric, seed):
    found = outcomes_of(task, seed)
    order = np.random.default_rng(seed + 1).permutation(len(found))
    one, other = metric.value(found), metric.value(found.take(order))
    if isinstance(metric, SumMetric):
        assert one == other
    else:
        assert abs(one - other) <= metric.ties()


@pytest.mark.parametrize(("task", "metric"), EVERY)
@settings(max_examples=20)
@given(seed=seeds)
def test_batches_are_scored_like_the_whole(task, metric, seed):
    answers, labels = data_of(task, seed)
    found = Outcomes.blank(len(labels), task.targets(labels))
    for rows in np.array_split(np.random.default_rng(seed).permutation(len(labels)), 5):
        found.write(rows, task.outcomes(answers[rows], labels[rows]))
    assert found.is_whole
    assert abs(metric.value(found) - metric.value(whole(task, answers, labels))) <= metric.ties()


@pytest.mark.parametrize(("task", "metric"), EVERY)
@settings(max_examples=20)
@given(seed=seeds)
def test_weights_count_units_as_often_as_they_say(task, metric, seed):
    found = outcomes_of(task, seed)
    picks = np.random.default_rng(seed).integers(0, len(found), (3, len(found)))
    weights = np.stack([np.bincount(row, minlength=len(found)) for row in picks]).astype(float)
    expected = [float(metric.value(found.take(row))) for row in picks]
    assert metric.values(found, weights) == pytest.approx(expected, rel=1e-6, abs=1e-9)


# Bounds


@pytest.mark.parametrize(("task", "metric"), EVERY)
@settings(max_examples=20)
@given(seed=seeds, number=st.integers(1, 23), bad=st.booleans())
def test_a_bound_is_never_worse_than_what_comes_out_and_is_it_in_the_end(task, metric, seed, number, bad):
    answers, labels = data_of(task, seed)
    if bad:
        answers[:: 1 + seed % 7] = torch.nan
    complete = whole(task, answers, labels)
    found = Outcomes.blank(len(labels), task.targets(labels))
    assert metric.bound(found) is None
    rows = np.random.default_rng(seed).permutation(len(labels))
    parts = [rows[:number], rows[number:]]
    found.write(parts[0], task.outcomes(answers[parts[0]], labels[parts[0]]))
    bound, final = metric.bound(found), metric.value(complete)
    if bound is not None and final is not None:
        assert badness(metric, bound) <= badness(metric, final) + metric.ties()
    found.write(parts[1], task.outcomes(answers[parts[1]], labels[parts[1]]))
    assert metric.bound(found) in (None, metric.value(found))


def test_which_metrics_have_a_bound():
    """Calibration and average precision may rise and fall with every further unit."""
    without = set()
    for task in TASKS:
        answers, labels = data_of(task, 1)
        found = Outcomes.blank(len(labels), task.targets(labels))
        rows = np.arange(10)
        found.write(rows, task.outcomes(answers[rows], labels[rows]))
        without |= {metric.name for metric in task.metrics if metric.bound(found) is None}
    assert without == {"ece", "map"}


def test_a_metric_whose_column_is_not_kept_here_has_neither_value_nor_bound():
    """Top-5 accuracy of a head with three classes."""
    found = Outcomes.blank(4, of_labels([0, 1, 2, 0]))
    found.write(np.arange(2), CLASSIFICATION.outcomes(torch.eye(3)[:2], torch.tensor([0, 1])))
    top5 = next(metric for metric in CLASSIFICATION.metrics if metric.name == "top5")
    assert (top5.value(found), top5.bound(found)) == (None, None)


def test_a_bound_by_hand():
    """One of two is wrong so far, of four in all."""
    found = Outcomes.blank(4, of_labels([0, 1, 1, 1]))
    found.write(np.arange(2), CLASSIFICATION.outcomes(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])))
    bounds = {metric.name: metric.bound(found) for metric in CLASSIFICATION.metrics}
    assert bounds["accuracy"] == Fraction(3, 4)
    assert bounds["loss"] == pytest.approx((math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 4)
    # Class 0: TP 1, FP 1, so 2/3. Class 1: TP 2 and one missed, so 4/5.
    assert bounds["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


@pytest.mark.parametrize(("task", "metric"), EVERY)
@settings(max_examples=20)
@given(seed=seeds, batch=st.integers(1, 12))
def test_what_is_given_up_could_not_have_won(task, metric, seed, batch):
    """Under every metric, whether answers are finite or not, in the order in which a search scores."""
    random = np.random.default_rng(seed)
    answers, labels = data_of(task, seed)
    candidate = answers + torch.from_numpy(random.normal(0, 0.5, answers.shape).astype(np.float32))
    for one in (answers, candidate):
        one[torch.from_numpy(random.random(len(one)) < 0.05 * (seed % 3))] = torch.nan
    scores = [judged(whole(task, one, labels), width=6, task=task, objective=metric) for one in (answers, candidate)]
    objective = Objective(metric)
    gives_up = objective.gives_up(scores[0])
    found = Outcomes.blank(len(labels), task.targets(labels))
    order = np.argsort(-task.hardness(scores[0].outcomes), kind="stable")
    given_up = False
    for start in range(0, len(labels), batch):
        rows = order[start : start + batch]
        found.write(rows, task.outcomes(candidate[rows], labels[rows]))
        given_up = given_up or gives_up(found)
    assert not (given_up and objective.is_better(scores[1], scores[0]))


# What is not finite


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("task", "metric"), EVERY)
def test_an_answer_that_is_not_finite_is_worse_than_every_other(task, metric, bad):
    answers, labels = data_of(task, 3)
    broken = answers.clone()
    broken[5:8] = bad
    good, lost = (whole(task, one, labels) for one in (answers, broken))
    assert (good.num_nonfinite, lost.num_nonfinite) == (0, 3)
    scores = [judged(one, width=6, task=task, objective=metric) for one in (good, lost)]
    objective = Objective(metric)
    perfect_but_one = judged(
        whole(task, _best_but_one(task, labels, bad), labels), width=6, task=task, objective=metric
    )
    if not metric.judges_nonfinite:
        assert objective.is_better(scores[0], perfect_but_one)
        assert objective.is_better(perfect_but_one, scores[1])
    assert not objective.is_better(scores[1], perfect_but_one)


def _best_but_one(task: Task, labels: torch.Tensor, bad: float) -> torch.Tensor:
    if isinstance(task, Classification):
        answers = 20.0 * F.one_hot(labels, 6).float()
    elif isinstance(task, Multilabel):
        answers = 40.0 * labels.float() - 20.0
    else:
        answers = labels.clone()
    answers[0] = bad
    return answers


@pytest.mark.parametrize("task", [Classification(), Multilabel()], ids=lambda task: task.name)
def test_an_answer_that_is_not_finite_counts_as_wrong(task):
    answers, labels = data_of(task, 3)
    found = whole(task, answers, labels)
    broken = answers.clone()
    broken[4] = torch.nan
    after = whole(task, broken, labels)
    for metric in task.metrics:
        if metric.judges_nonfinite:
            assert metric.value(after) <= metric.value(found)
    assert not after["prediction"][4] >= 0 if task.name == "classification" else not after["true_positive"][4].any()


def test_the_error_of_a_regression_is_that_of_its_finite_answers():
    """Errors 1 and 3 of the first two; the third counts for nothing but the rank."""
    task = Regression()
    found = whole(task, torch.tensor([[1.0], [7.0], [torch.nan]]), torch.tensor([0.0, 4.0, 2.0]))
    assert value(task, "rmse", found) == pytest.approx(math.sqrt(5))
    assert value(task, "mae", found) == 2.0
    # Their mean squared error is 5, the variance of all labels 8 / 3.
    assert value(task, "r2", found) == pytest.approx(1 - 5 / (8 / 3))
    weights = np.array([[1.0, 1.0, 5.0], [0.0, 0.0, 1.0]])
    rmse = next(metric for metric in task.metrics if metric.name == "rmse")
    values = rmse.values(found, weights)
    assert values[0] == pytest.approx(math.sqrt(5)) and np.isnan(values[1])
    lost = whole(task, torch.full((2, 1), torch.inf), torch.tensor([0.0, 4.0]))
    assert [metric.value(lost) for metric in task.metrics] == [None, None, None]


def test_labels_that_are_all_alike_have_no_r2():
    assert (
        value(Regression(), "r2", whole(Regression(), torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 3.0]))) is None
    )


@pytest.mark.parametrize("num_classes", [3, 40])
def test_macro_f1_of_resamples_is_that_of_each(num_classes):
    """By a product where classes are few, by counting where they are many."""
    random = np.random.default_rng(num_classes)
    labels = random.integers(0, num_classes, 60)
    answers = torch.from_numpy(random.normal(size=(60, num_classes)).astype(np.float32))
    answers[:4] = torch.nan
    found = whole(CLASSIFICATION, answers, torch.from_numpy(labels))
    weights = random.multinomial(60, np.full(60, 1 / 60), size=5).astype(float)
    [metric] = [one for one in CLASSIFICATION.metrics if one.name == "macro_f1"]
    for row, got in zip(weights, metric.values(found, weights), strict=True):
        rows = np.repeat(np.arange(60), row.astype(int))
        told = found["prediction"][rows]
        known = sorted({*labels[rows], *told[told >= 0]})
        expected = sklearn.f1_score(labels[rows], told, labels=known, average="macro", zero_division=0)
        assert got == pytest.approx(expected, abs=1e-12)


# Labels that do not fit


@pytest.mark.parametrize("task", [Multilabel(), Regression()], ids=lambda task: task.name)
def test_labels_of_another_width_are_refused(task):
    with pytest.raises(DataError, match=r"3.*2|2.*3"):
        task.outcomes(torch.zeros(4, 3), torch.zeros(4, 2))


def test_one_number_for_each_example_is_a_column():
    task = Regression()
    narrow, wide = torch.tensor([1.0, 2.0]), torch.tensor([[1.5], [1.0]])
    assert task.answers(narrow).shape == (2, 1)
    found = whole(task, wide, narrow)
    assert found["absolute"].tolist() == [[0.5], [1.0]]


# What is told of a unit


def test_a_classifiers_answer_is_told_with_its_confidence():
    logits = torch.tensor([[3.0, 0.0], [3.0, 0.0], [math.nan, 0.0]])
    found = whole(CLASSIFICATION, logits, torch.tensor([0, 1, 1]))
    told = [CLASSIFICATION.told(found, row, ["cat", "dog"]) for row in range(3)]
    assert told == ["✓ cat, 95 %", "✗ cat, 95 %", "✗ nothing: its output is not finite"]
    assert [CLASSIFICATION.target(found, row, ["cat", "dog"]) for row in range(3)] == ["cat", "dog", "dog"]
    assert CLASSIFICATION.wrong(found).tolist() == [False, True, True]
    assert CLASSIFICATION.choices(found).tolist() == [[0], [0], [-1]]


def test_several_labels_are_told_with_what_is_missed():
    task, names = Multilabel(), ["cat", "dog", "cow"]
    found = whole(task, torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]]), torch.tensor([[1, 1, 0], [0, 1, 0]]))
    assert [task.told(found, row, names) for row in range(2)] == ["✓ cat, dog", "✗ cat; missed dog"]
    assert [task.target(found, row, names) for row in range(2)] == ["cat, dog", "dog"]
    assert task.wrong(found).tolist() == [False, True] and task.choices(found).tolist() == [[1, 1, 0], [1, 0, 0]]


def test_a_prediction_is_told_with_what_is_right():
    task = Regression()
    found = whole(task, torch.tensor([[151.25], [math.inf]]), torch.tensor([142.0, 1.0]))
    assert task.told(found, 0, []) == "predicted 151.2, is 142"
    assert task.told(found, 1, []) == "✗ nothing: its output is not finite, is 1"
    assert task.errors(found)[0].tolist() == [9.25] and task.wrong(found) is None and task.choices(found) is None
    assert task.hardness(found).tolist() == [9.25**2, math.inf]


def test_a_task_of_ones_own_tells_its_columns_unless_it_says_more():
    class Own(Task):
        name = "own"
        metrics = (SumMetric("mean", "mean", "", True, ("size",), lambda size, number: size / number),)

        def outcomes(self, answers, labels):
            return {"size": answers.numpy(), "long": np.ones((len(answers), 2))}

    task = Own()
    found = whole(task, torch.tensor([1.5, 2.0]), torch.tensor([0, 0]))
    assert task.told(found, 1, []) == "size 2; long 1, 1" and task.target(found, 1, []) is None
    assert not (task.has_classes or task.has_logits or task.has_probabilities) and task.errors(found).shape == (2, 1)


@pytest.mark.parametrize("name", finding.TASKS)
def test_a_key_that_a_task_does_not_take_is_refused_with_those_that_it_takes(name, tmp_path):
    with pytest.raises(KitchenError, match=f"task {name} takes no colour; it takes ") as told:
        finding.find_task(name, {"colour": 1}, tmp_path)
    assert all(key in str(told.value) for key in finding.TASKS[name].takes)


@pytest.mark.parametrize("name", finding.TASKS)
def test_what_a_task_says_of_its_head_has_a_title_a_number_and_what_each_is_of(name, tmp_path):
    task = finding.find_task(
        name, {"vocabulary": ["_", "a"]} if "vocabulary" in finding.TASKS[name].takes else {}, tmp_path
    )
    title, number, of = task.head(1234)
    assert title in ("Classes", "Outputs") and number in ("1234", "1,234", "any number") and of
