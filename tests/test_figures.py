"""What is shown of a score: values over all units, their intervals, and which metrics stand together."""

from dataclasses import replace
from fractions import Fraction
from unittest.mock import Mock

import numpy as np
import pytest
from scipy import stats
from scores import CLASSIFICATION, a_regression, a_score, counted, some_outcomes

from soupviz.tasks.classes.class_metrics import ACCURACY, LOSS, MacroF1
from soupviz.tasks.classes.multilabel import Multilabel
from soupviz.tasks.figures import counts, interval, two_metrics
from soupviz.tasks.metric import SumMetric, bound_of, is_share
from soupviz.tasks.regression import MAE, R2, RMSE, Regression
from soupviz.tasks.resampling import bootstrap_values
from soupviz.tasks.score import Score
from soupviz.tasks.significance import wilson
from soupviz.tasks.wording import figure, gap, shown, span
from soupviz.types import Grouped
from soupviz.ui.formats import gap_format, value_format
from soupviz.ui.soup.learned import draw_notes


def test_a_score_is_one_line_where_it_is_printed_with_its_values_as_numbers():
    score = Score("test", 1000, {"accuracy": Fraction(693, 1000), "loss": 0.70834906, "top5": None})
    assert str(score) == "<Score on test: accuracy 0.6930, loss 0.7083, top5 none; 1,000 units>"
    assert str(replace(score, num_nonfinite=2)).endswith("; 1,000 units, 2 without a finite answer>")


def test_beside_what_is_raised_stands_an_error_and_beside_an_error_the_next():
    assert two_metrics(CLASSIFICATION.metrics, ACCURACY) == (ACCURACY, LOSS)
    assert two_metrics(CLASSIFICATION.metrics, LOSS) == (LOSS, ACCURACY)
    assert two_metrics(Regression.metrics, RMSE) == (RMSE, MAE)
    assert two_metrics([RMSE], RMSE) == (RMSE,)


def test_only_counts_of_units_that_are_right_are_shares():
    shares = [
        metric.name
        for task in (CLASSIFICATION, Regression(), Multilabel())
        for metric in task.metrics
        if is_share(metric)
    ]
    assert shares == ["accuracy", "top5"]
    wrong = SumMetric("err", "error rate", "%", False, ("wrong",), lambda wrong, units: wrong / units, is_share=True)
    assert not is_share(wrong)
    assert bound_of(wrong, some_outcomes(np.zeros(3, dtype=bool), scored=np.zeros(3, dtype=bool))) is None
    assert counts(ACCURACY, counted(37)) == (37, 100)
    assert counts(LOSS, counted(37)) is None


def test_a_share_has_wilsons_interval_with_its_units_or_without():
    score = counted(37)
    assert interval(ACCURACY, score) == interval(ACCURACY, replace(score, outcomes=None)) == wilson(37, 100)


def test_a_mean_has_the_normal_interval_by_hand():
    low, high = interval(LOSS, a_score(losses=[1.0, 3.0], predictions=[0, 0])) or (0.0, 0.0)
    assert (low, high) == pytest.approx((2 - 1.959964, 2 + 1.959964))  # the standard error of 1 and 3 is 1


@pytest.mark.parametrize("seed", range(3))
def test_a_mean_error_has_the_normal_interval_of_scipy(seed):
    errors = np.random.default_rng(seed).normal(size=50)
    expected = stats.norm.interval(0.95, np.abs(errors).mean(), stats.sem(np.abs(errors)))
    assert interval(MAE, a_regression(errors.tolist())) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [RMSE, R2])
def test_a_function_of_sums_has_about_the_interval_of_a_bootstrap(metric):
    random = np.random.default_rng(0)
    score = a_regression(random.normal(size=400).tolist())
    weights = random.multinomial(400, [1 / 400] * 400, size=2000).astype(float)
    expected = np.quantile(metric.values(score.outcomes, weights), [0.025, 0.975])
    found = interval(metric, score)
    assert found == pytest.approx(expected, abs=0.2 * (expected[1] - expected[0]))


def test_of_groups_of_one_size_an_interval_is_students_of_their_means():
    """Of a share too: Wilson's is of units that are drawn alone."""
    random = np.random.default_rng(2)
    groups, grouped = np.repeat(np.arange(12), 5), Grouped("speaker", 12)
    errors, right = random.normal(size=60), random.random(60) < 0.7
    for metric, score, units in (
        (MAE, a_regression(errors.tolist()), np.abs(errors)),
        (ACCURACY, a_score(right), right),
    ):
        means = units.reshape(12, 5).mean(axis=1)
        told = replace(score, grouped=grouped, outcomes=replace(score.outcomes, groups=groups))
        assert interval(metric, told) == pytest.approx(stats.t.interval(0.95, 11, means.mean(), stats.sem(means)))
        assert interval(metric, replace(told, outcomes=None)) is None
        assert interval(metric, replace(told, outcomes=replace(score.outcomes, groups=0 * groups))) is None


def test_groups_that_are_all_right_have_wilsons_interval_of_the_groups():
    score = a_score(np.ones(60, dtype=bool))
    outcomes = replace(score.outcomes, groups=np.repeat(np.arange(12), 5))
    assert interval(ACCURACY, replace(score, grouped=Grouped("speaker", 12), outcomes=outcomes)) == wilson(12, 12)


def test_what_is_no_function_of_sums_is_resampled():
    score = a_score(labels=[0, 1] * 50, predictions=[0, 1] * 30 + [1, 1] * 20)
    value, found = float(score.values["macro_f1"] or 0.0), interval(MacroF1(), score)
    error = bootstrap_values(MacroF1(), score.outcomes, draws=2000).std()
    assert found == pytest.approx((value - 1.96 * error, value + 1.96 * error), abs=0.3 * error)


def test_no_interval_of_what_is_shown_in_percent_goes_beyond_a_hundred():
    score = a_score(labels=[0, 1] * 20, predictions=[0, 1] * 19 + [0, 0])
    low, high = interval(MacroF1(), score) or (0.0, 0.0)
    assert 0.9 < low < float(score.values["macro_f1"] or 0.0) < high == 1.0


@pytest.mark.parametrize(
    "score",
    [
        a_score(losses=[1.0], predictions=[0]),
        a_score(losses=[1.0, 3.0, np.nan], predictions=[0, 0, -1]),
        replace(a_score(losses=[1.0, 2.0], predictions=[0, 0]), outcomes=None),
    ],
)  # fmt: skip
def test_there_is_no_interval_of_one_unit_of_what_is_not_finite_or_of_a_summary(score):
    assert interval(LOSS, score) is None


def test_a_value_that_leaves_out_units_is_none_unless_the_metric_counts_them_as_wrong():
    score = a_score(losses=[1.0, np.nan], predictions=[0, -1])
    assert (score.whole(ACCURACY), score.whole(LOSS)) == (0.5, None)
    assert a_regression([1.0, np.nan]).whole(RMSE) is None
    assert a_regression([3.0, 3.0]).whole(RMSE) == 3.0


def test_what_classification_calls_a_value_is_none_where_a_task_has_no_such_metric():
    assert a_regression([1.0, 2.0]).loss is None
    assert a_score(losses=[1.0, 3.0], predictions=[0, 0]).loss == 2.0


def test_values_of_a_column_have_as_many_places_each():
    assert [shown(RMSE, value) for value in (56.8, 56.21, 0.37, 1234.4)] == ["56.80", "56.21", "0.3700", "1234"]
    assert [shown(LOSS, value) for value in (1.14, 0.0583)] == ["1.1400 nats", "0.0583 nats"]
    assert [shown(ACCURACY, value) for value in (0.5, 1.0)] == ["50.00 %", "100.00 %"]
    assert (span(RMSE, (45.0, 56.21)), span(RMSE, None)) == ("45.00 to 56.21", "")
    assert (gap(RMSE, -1.2), gap(LOSS, 0.5), gap(ACCURACY, 0.01)) == ("-1.200", "+0.5000 nats", "+1.00 points")


def test_a_column_of_numbers_has_four_digits_of_its_largest():
    assert [value_format(RMSE, values) for values in ([56.8, 1.2], [0.37], [12345.0], [0.0], [])] == [
        "%.2f", "%.4f", "%.0f", "%.4g", "%.4g"
    ]  # fmt: skip
    assert (value_format(ACCURACY), value_format(LOSS, [2.0]), gap_format(LOSS)) == ("%.2f %%", "%.4f nats", "%+.4f")


def test_a_percentage_has_the_places_that_its_number_of_units_can_fill():
    assert [value_format(ACCURACY, of=number) for number in (50, 1000, 1001, None)] == [
        "%.1f %%",
        "%.1f %%",
        "%.2f %%",
        "%.2f %%",
    ]
    assert (gap_format(ACCURACY, of=400), gap_format(LOSS, of=400)) == ("%+.1f", "%+.4f")


@pytest.mark.parametrize(("temperature", "told"), [(1.0, 0), (1.25, 1)])  # 1 of a task without logits
def test_a_temperature_is_told_where_one_was_learned(temperature, told):
    place = Mock()
    draw_notes(place, {"temperature": temperature})
    assert place.caption.call_count == told


def test_halves_are_rounded_as_the_browser_rounds_them():
    assert [figure(ACCURACY, value, 1) for value in (0.8625, 0.8675, -0.0025)] == ["86.3", "86.8", "-0.3"]
