"""Tasks of the user's own: the two that the documents show, end to end; what their scores are kept under; trust."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import ROOT, blocks
from kitchens import change_yaml, json_of, regression_kitchen, run_command, small_kitchen
from scipy.stats import spearmanr

import soupviz as sv
from soupviz.errors import DataError, KitchenError
from soupviz.recipes import parse
from soupviz.soups.planning import cooking_cost
from soupviz.tasks import resampling
from soupviz.tasks.figures import interval
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.paired import compare

CLOSE, RANKED = blocks(ROOT / "docs" / "how-to" / "bring-your-own-task.md", "python")
ALL = {"close.py": CLOSE, "ranked.py": RANKED}
SHARES = CLOSE.replace(
    "    def outcomes", "    def __init__(self, share=0.1):\n        self.share = share\n\n    def outcomes"
)
SHARES = SHARES.replace("0.1 * labels", "self.share * labels")


def own_kitchen(folder: Path, task: Any, files: dict[str, str] = ALL, **keys: Any) -> Path:
    file = regression_kitchen(folder, **keys)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return change_yaml(file, lambda kitchen: kitchen.update(task=task))


def labels_of(kitchen: sv.Kitchen) -> np.ndarray:
    return kitchen.splits.load("held_out").labels.numpy()


def answers_of(kitchen: sv.Kitchen, name: str) -> np.ndarray:
    return np.asarray(kitchen.scores.logits(((name, 1.0),)))[:, 0]


def test_an_additive_metric_takes_15_lines_at_most():
    assert len([line for line in CLOSE.splitlines() if line.strip()]) <= 15


def test_an_additive_metric_of_a_file_is_scored_searched_and_compared(tmp_path):
    kitchen = sv.Kitchen.load(own_kitchen(tmp_path, "close.py:Close"))
    scores = kitchen.scores.of_ingredients()
    for name, score in scores.items():
        off = np.abs(answers_of(kitchen, name) - labels_of(kitchen))
        assert score.value == sv.SumMetric.value(
            kitchen.objective, Outcomes.of({"near": off <= np.float32(0.1) * np.abs(labels_of(kitchen))})
        )
    soup = sv.greedy(kitchen)
    best = max(score.value for score in scores.values())
    assert soup.scores["held_out"].value >= best
    assert [step.best_value for step in soup.trajectory] == sorted(step.best_value for step in soup.trajectory)
    one, other = (kitchen.scores.score(((name, 1.0),)) for name in ("m_0", "m_3"))
    found = compare(kitchen.task, kitchen.objective, one, other)
    assert found.difference == pytest.approx(float(one.value - other.value))
    assert 0 < found.p_value <= 1


def test_candidates_are_given_up_by_the_bound_of_a_metric_of_a_file(tmp_path):
    task = {"name": "close.py:Close", "share": 1.0}  # most units are right: a few wrong ones too many show soon
    file = own_kitchen(tmp_path, task, {"close.py": SHARES}, num_ingredients=8, scale=0.3, batch_size=8)
    soup = sv.greedy(sv.Kitchen.load(file))
    early = [step for step in soup.trajectory if step.outcome == "rejected early"]
    assert early
    assert all(step.num_scored < step.num_units and step.bound <= step.best_value for step in early)


def test_a_number_of_all_answers_is_scored_searched_and_compared(tmp_path):
    kitchen = sv.Kitchen.load(own_kitchen(tmp_path, "ranked.py:Ranked"))
    for name, score in kitchen.scores.of_ingredients().items():
        expected = spearmanr(answers_of(kitchen, name), labels_of(kitchen)).statistic
        assert score.value == pytest.approx(expected, abs=1e-12)
    soup = sv.greedy(kitchen)
    assert all(step.num_scored == step.num_units for step in soup.trajectory)
    one, other = (kitchen.scores.score(((name, 1.0),)) for name in ("m_0", "m_3"))
    found = compare(kitchen.task, kitchen.objective, one, other)
    assert found.low <= found.difference <= found.high
    assert found.p_value >= 1 / 501


def test_resamples_of_a_number_repeat_rows_and_are_fewer(tmp_path):
    calls = []

    def mean(answers: np.ndarray, labels: np.ndarray) -> float:
        calls.append(len(answers))
        return float(answers.mean())

    metric = sv.NumberMetric("mean", "mean", "", True, mean, draws=20)
    columns = {"finite": np.ones(6, bool), "answer": np.arange(6.0)}
    old, new = (Outcomes.of(columns | {"answer": columns["answer"] + by}, {"label": np.zeros(6)}) for by in (0, 1))
    weights = np.array([[2.0, 0, 0, 0, 0, 1.0], [1, 1, 1, 1, 1, 1]])
    assert metric.values(old, weights) == pytest.approx([5 / 3, 2.5])
    calls.clear()
    differences = resampling.bootstrap_differences(metric, new, old)
    assert (len(differences), len(calls), set(calls)) == (20, 40, {6})
    assert differences == pytest.approx(1.0)
    assert resampling.permutation_p(metric, new, old) >= 1 / 21
    calls.clear()
    assert len(resampling.bootstrap_values(metric, new)) == len(calls) == 20


def test_answers_that_are_not_finite_are_left_out_of_a_number():
    metric = sv.NumberMetric("mean", "mean", "", True, lambda answers, labels: answers.mean())
    columns = {"finite": np.array([True, False]), "answer": np.array([1.0, np.nan])}
    assert metric.value(Outcomes.of(columns, {"label": np.zeros(2)})) == 1.0
    columns["finite"][:] = False
    assert metric.value(Outcomes.of(columns, {"label": np.zeros(2)})) is None


def test_the_plan_says_that_a_number_has_no_bound(tmp_path, capsys):
    file = own_kitchen(tmp_path, "ranked.py:Ranked")
    kitchen = sv.Kitchen.load(file)
    kitchen.splits.load("held_out")
    [note] = cooking_cost(kitchen, parse({"method": "greedy"})).notes
    assert "rank correlation has no bound: every candidate is scored whole" in note
    assert cooking_cost(kitchen, parse({"method": "uniform"})).notes == ()
    status, out, err = run_command(capsys, "soup", file, "--recipe", "greedy", "--plan")
    assert (status, "no bound" in " ".join(out.split())) == (0, True), err
    told = json_of(capsys, "soup", file, "--recipe", "greedy", "--plan")
    assert told["plan"]["notes"] == [note]
    change_yaml(file, lambda kitchen: kitchen.update(task="close.py:Close"))
    kitchen = sv.Kitchen.load(file)
    kitchen.splits.load("held_out")
    assert cooking_cost(kitchen, parse({"method": "greedy"})).notes == ()


def keys_of(file: Path) -> tuple[str, str]:
    kitchen = sv.Kitchen.load(file)
    kitchen.splits.load("held_out")
    return kitchen.scores.key((("m_0", 1.0),), "held_out", "average"), sv.greedy(kitchen).key


def test_scores_and_runs_are_kept_under_a_tasks_file_and_parameters(tmp_path):
    file = own_kitchen(tmp_path, "close.py:Close", {"close.py": SHARES})
    first, again = keys_of(file), keys_of(file)
    assert first == again
    change_yaml(file, lambda kitchen: kitchen.update(task={"name": "close.py:Close", "share": 0.5}))
    other = keys_of(file)
    (tmp_path / "close.py").write_text(SHARES + "\n# changed\n", encoding="utf-8")
    changed = keys_of(file)
    assert all(len(set(three)) == 3 for three in zip(first, other, changed, strict=True))


def test_parameters_reach_the_task(tmp_path):
    file = own_kitchen(tmp_path, {"name": "close.py:Close", "share": 1e6}, {"close.py": SHARES})
    assert {score.value for score in sv.Kitchen.load(file).scores.of_ingredients().values()} == {1}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("nothing.py:Close", "nothing.py: no such file"),
        ("close.py:Far", "close.py has no function 'Far'"),
        ("close.py:sv", "close.py has no function 'sv'"),
        ({"name": "close.py:Close", "share": 1}, "with {'share': 1} failed with TypeError"),
        ("bad.py:Text", "is str; expected a subclass of soupviz.Task"),
        ("bad.py:Nothing", "has no metrics"),
        ("nonsense", "known are classification, multilabel, regression"),
    ],
)
def test_what_is_no_task_is_refused(tmp_path, task, message):
    bad = "import soupviz as sv\n\nText = str\n\n\nclass Nothing(sv.Task):\n    pass\n"
    with pytest.raises(sv.SoupError) as error:
        sv.Kitchen.load(own_kitchen(tmp_path, task, ALL | {"bad.py": bad}))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("labels).abs()", "labels.missing).abs()"), "the task Close failed with AttributeError"),
        ((".numpy()}", ".numpy()[:1]}"), "Close gave 1 rows of 'near' for 120 units"),
    ],
)
def test_what_a_task_does_wrong_is_one_sentence(tmp_path, change, message):
    file = own_kitchen(tmp_path, "close.py:Close", {"close.py": CLOSE.replace(*change)})
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        sv.Kitchen.load(file).scores.of_ingredients()


def test_a_function_that_fails_is_one_sentence(tmp_path):
    text = RANKED.replace("return spearmanr", "return 1 / 0 * spearmanr")
    file = own_kitchen(tmp_path, "ranked.py:Ranked", {"ranked.py": text})
    with pytest.raises(DataError, match="metric 'spearman' failed on 120 units with ZeroDivisionError"):
        sv.Kitchen.load(file).scores.of_ingredients()


def test_a_task_that_keeps_records_of_varying_length_is_scored_searched_compared_and_kept(tmp_path):
    """Detections, from outside of the package: as many of each unit as there are, in batches of any size."""
    scores = []
    for size in (7, 256):
        file = small_kitchen(
            tmp_path / str(size), num_examples=60, scale=0.3, batch_size=size, task="detection.py:Detection"
        )
        text = "from metrics_from_outside import ToyDetection as Detection\n"
        (file.parent / "detection.py").write_text(text, encoding="utf-8")
        kitchen = sv.Kitchen.load(file)
        scores.append({name: kitchen.scores.score(((name, 1.0),)) for name in kitchen.names})
    found = scores[1]["m_0"].outcomes["found"]
    assert len({len(one) for one in found}) > 1
    for name, score in scores[1].items():
        assert score.value == scores[0][name].value
        alike = zip(score.outcomes["found"], scores[0][name].outcomes["found"], strict=True)
        assert all(one.shape == other.shape and np.allclose(one, other, atol=1e-5) for one, other in alike)
    soup = sv.greedy(kitchen)
    assert soup.scores["held_out"].value >= max(score.value for score in scores[1].values())
    one, other = (kitchen.scores.score(((name, 1.0),)) for name in ("m_0", "m_3"))
    compared = compare(kitchen.task, kitchen.objective, one, other)
    assert compared.difference == pytest.approx(one.value - other.value)
    assert 0 < compared.p_value <= 1
    low, high = interval(kitchen.objective, one)
    assert 0 <= low < one.value < high <= 1
    again = sv.Kitchen.load(file).scores.known((("m_0", 1.0),), "held_out")
    assert all(map(np.array_equal, again.outcomes["found"], found))


def test_metric_names_the_objective_of_an_own_task(tmp_path):
    with pytest.raises(KitchenError, match="metric is 'accuracy', which Close does not have; known are close"):
        sv.Kitchen.load(own_kitchen(tmp_path, "close.py:Close", metric="accuracy"))


def test_a_soup_of_an_own_task_is_found_again(tmp_path):
    file = own_kitchen(tmp_path, "close.py:Close")
    soup = sv.greedy(sv.Kitchen.load(file))
    kitchen = sv.Kitchen.load(file)
    again = sv.greedy(kitchen)
    assert (again.key, again.coefficients) == (soup.key, soup.coefficients)
    [run] = kitchen.store.runs()
    assert json.dumps(run.result)
