"""What recipes need of a task: losses, probabilities, logits; who has them does it, who has not says so."""

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from kitchens import regression_kitchen, run_command, small_kitchen, write_arrays
from test_menu import OVER_TIME
from test_own_tasks import CLOSE, own_kitchen

import soupviz as sv
from soupviz.analysis import gains, verdicts
from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.recipes import MENU, parse
from soupviz.reports import contents
from soupviz.soups import menu
from soupviz.soups.planning import Cost
from soupviz.soups.scaling import calibrate
from soupviz.soups.soup import run_key
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.classes.multilabel import Multilabel
from soupviz.tasks.judging import score_of
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.regression import Regression
from soupviz.ui import asking
from soupviz.ui.compare import entries as compare


def multilabel_kitchen(folder, **keys):
    file = small_kitchen(folder, task="multilabel", **keys)
    for split in ("held_out", "test", *(["train"] if keys.get("train") else [])):
        inputs = torch.randn(60, 6, generator=torch.Generator().manual_seed(len(split)))
        write_arrays(folder / f"{split}.safetensors", inputs, (inputs[:, :3] > 0).long())
    return file


def test_who_can_what():
    able = {
        task.name: (
            task.has_classes, task.has_logits, task.has_ensembles, task.has_probabilities, task.has_loss,
            task.has_soft_loss,
        )
        for task in (Classification(), Multilabel(), Regression(), sv.Task())
    }  # fmt: skip
    assert able == {
        "classification": (True, True, True, True, True, True),
        "multilabel": (False, False, True, True, True, True),
        "regression": (False, False, True, False, True, True),
        "": (False, False, True, False, False, False),
    }


def test_what_an_ensemble_may_average_follows_from_the_task():
    class Decoded(sv.Task):
        """Words, as numbers: their mean is no word."""

        def answers(self, output):
            return output.argmax(dim=-1)

    class Voted(Decoded):
        def averaged(self, answers, weights, output):
            return torch.zeros(1)

    class Refused(sv.Task):
        has_ensembles = False

    found = {type(task).__name__: task.outputs for task in (Classification(), Multilabel(), Regression(), Decoded())}
    assert found["Classification"] == found["Multilabel"] == ("probabilities", "logits")
    assert (found["Regression"], found["Decoded"]) == (("outputs",), ())
    assert (sv.Task().outputs, Voted().outputs, Refused().outputs) == (("outputs",), ("outputs",), ())
    assert "cannot be averaged" in parse({"method": "ensemble"}).unfit(Refused())
    assert "cannot be averaged" in parse({"method": "distilled"}).unfit(Refused())
    assert parse({"method": "ensemble"}).suited(Refused()).unfit(Refused())


def test_answers_that_are_close_to_others_are_counted_or_it_is_said_that_nobody_counts_them():
    def scored(task, answers, labels):
        found = Outcomes.of(task.outcomes(answers, labels), task.targets(labels))
        return score_of(task, task.metrics[0], "test", found, 2, "float32", "cpu")

    near = torch.tensor([[2.0, 5e-5], [-1.0, 1.0], [-5e-5, 5e-5]])
    assert scored(Multilabel(), near, torch.ones(3, 2)).num_close == 2
    numbers = scored(Regression(), near, torch.ones(3, 2))
    assert numbers.num_close is numbers.summary()["num_close"] is None


def test_a_task_says_why_it_lacks_a_capability():
    class Told(sv.Task):
        lacks: ClassVar[dict[str, str]] = {"loss": "it is told in training alone", "information": "nothing is likely"}

    for method in ("learned", "distilled"):
        assert "because it is told in training alone; take" in parse({"method": method}).unfit(Told())
    assert "because nothing is likely; take" in parse({"method": "fisher"}).unfit(Told())


def test_an_ensemble_of_a_regression_says_that_outputs_are_averaged(tmp_path, capsys):
    file = regression_kitchen(tmp_path)
    kitchen = sv.Kitchen.load(file)
    soup = sv.cook(kitchen, {"method": "ensemble"})
    assert (soup.title, soup.recipe.output) == ("ensemble (uniform, outputs)", "outputs")
    assert run_key(kitchen, parse({"method": "ensemble"})) == soup.key
    for extra in (["--plan"], [], ["--json"]):
        status, out, err = run_command(capsys, "soup", file, "--recipe", "ensemble", *extra)
        assert status == 0 and "outputs" in out, err
        assert not any(word in out + err for word in ("probabilities", "logits"))


def test_the_menu_of_a_regression_has_each_ensemble_once(tmp_path, monkeypatch):
    monkeypatch.setattr(menu, "DEFAULTS", [one for one in menu.DEFAULTS if one["method"] == "ensemble"])
    found = menu.cook_menu(sv.Kitchen.load(regression_kitchen(tmp_path)))
    assert sorted(soup.title for soup in found.soups) == ["ensemble (greedy, outputs)", "ensemble (uniform, outputs)"]
    assert not found.left_out


@pytest.mark.parametrize("make", [regression_kitchen, multilabel_kitchen])
def test_the_ensemble_of_a_pair_is_what_the_recipe_ensemble_says_of_it(tmp_path, make):
    kitchen = sv.Kitchen.load(make(tmp_path))
    pairs = gains.score_ensembles(kitchen, kitchen.names, "test")
    for pair, value in pairs.items():
        soup = sv.cook(kitchen, {"method": "ensemble", "members": pair})
        assert value == pytest.approx(float(soup.scores["test"].value), rel=1e-6)


@pytest.mark.parametrize("make", [regression_kitchen, multilabel_kitchen])
def test_every_kitchen_has_its_ensemble_as_a_yardstick(tmp_path, make):
    kitchen = sv.Kitchen.load(make(tmp_path))
    soup = sv.uniform(kitchen, members=kitchen.names[:2])
    kitchen.scores.of_ingredients("test")
    together = sv.cook(kitchen, {"method": "ensemble"})
    everyone, how = mean_of(kitchen.pool), kitchen.task.outputs[0]
    assert (everyone, "test", how) in verdicts.wanted(kitchen, soup.mix)
    ensemble = verdicts.verdict_of(kitchen, soup).ensemble
    assert ensemble.name == "ensemble of all 4" and ensemble.passes == 4
    assert ensemble.values["test"].value == together.scores["test"].shown(kitchen.objective.name)
    row = next(row for row in compare.entries(kitchen, [], "test") if row.kind == "ensemble")
    assert row.judged.value == together.scores["test"].value
    told = next(model for model in contents.gather(soup).others if model.kind == "ensemble")
    assert told.scores["test"].value == together.scores["test"].value


def test_what_no_ensemble_can_be_made_of_has_no_such_yardstick(tmp_path):
    text = CLOSE.replace("    labels =", "    has_ensembles = False\n    labels =")
    kitchen = sv.Kitchen.load(own_kitchen(tmp_path, "close.py:Close", {"close.py": text}))
    soup = sv.uniform(kitchen)
    kitchen.scores.of_ingredients("test")
    assert verdicts.verdict_of(kitchen, soup).ensemble is None
    assert not [row for row in compare.entries(kitchen, [], "test") if row.kind == "ensemble"]
    assert not [model for model in contents.gather(soup).others if model.kind == "ensemble"]
    with pytest.raises(RecipeError, match="the task Close answers cannot be averaged"):
        sv.cook(kitchen, {"method": "ensemble"})


def test_coefficients_of_a_regression_are_learned_by_its_squared_error(tmp_path):
    """The first ingredient is the base with the least noise: learning finds it, and lowers the loss."""
    kitchen = sv.Kitchen.load(regression_kitchen(tmp_path, scale=0.2, num_ingredients=3))
    soup = sv.cook(kitchen, {"method": "learned", "epochs": 30, "learning_rate": 0.1})
    assert soup.notes["losses"][-1] < soup.notes["losses"][0]
    assert soup.notes["temperature"] == 1.0
    uniform = sv.uniform(kitchen)
    assert soup.scores["held_out"].value < uniform.scores["held_out"].value
    by_layer = sv.cook(kitchen, {"method": "learned", "per": "layer", "epochs": 5})
    assert by_layer.scores["held_out"].value < uniform.scores["held_out"].value


def test_the_first_loss_that_is_learned_by_is_the_mean_squared_error_of_the_uniform_soup(tmp_path):
    kitchen = sv.Kitchen.load(regression_kitchen(tmp_path, num_examples=100))
    soup = sv.cook(kitchen, {"method": "learned", "epochs": 1, "learning_rate": 1e-9, "examples": 50})
    rows = torch.randperm(100, generator=torch.Generator().manual_seed(0))[:50].sort().values
    answers = kitchen.scores.logits(tuple((name, 0.25) for name in kitchen.names))[rows.numpy(), 0]
    squared = np.square(answers - kitchen.splits.load("held_out").labels[rows].numpy())
    assert soup.notes["losses"] == [pytest.approx(float(squared.mean()), rel=1e-5)]


@pytest.mark.parametrize("choice", ["uniform", "greedy"])
def test_an_ensemble_of_a_regression_is_the_mean_of_its_members_answers(tmp_path, choice):
    kitchen = sv.Kitchen.load(regression_kitchen(tmp_path))
    soup = sv.cook(kitchen, {"method": "ensemble", "choice": choice})
    members = [np.asarray(kitchen.scores.logits(((name, 1.0),)))[:, 0] * weight for name, weight in soup.mix]
    off = np.sum(members, axis=0) - kitchen.splits.load("held_out").labels.numpy()
    assert soup.scores["held_out"].value == pytest.approx(float(np.sqrt(np.square(off).mean())), rel=1e-5)


def test_an_ensemble_of_several_labels_averages_the_chances_of_each():
    random = np.random.default_rng(0)
    members = [random.normal(0, 3, (5, 4)).astype(np.float32) for _ in range(3)]
    weights = [0.5, 0.3, 0.2]
    found = Multilabel().averaged(members, weights, "probabilities").sigmoid().numpy()
    expected = sum(weight / (1 + np.exp(-one)) for one, weight in zip(members, weights, strict=True))
    assert found == pytest.approx(expected, abs=1e-6)
    logits = Multilabel().averaged(members, weights, "logits").numpy()
    assert logits == pytest.approx(np.tensordot(weights, np.stack(members), 1), abs=1e-5)
    sure = [np.full((1, 2), 200.0, dtype=np.float32)] * 2
    assert Multilabel().averaged(sure, [0.5, 0.5], "probabilities").isfinite().all()
    members[0][2, 1] = np.nan
    bad = Multilabel().averaged(members, weights, "probabilities")
    assert bad.isfinite().all(dim=1).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("make", [regression_kitchen, multilabel_kitchen])
@pytest.mark.parametrize("teacher", ["ensemble", "uniform"])
def test_a_student_learns_the_labels_and_a_teachers_answers(tmp_path, make, teacher):
    kitchen = sv.Kitchen.load(make(tmp_path, train=100))
    recipe = {"method": "distilled", "teacher": teacher, "start": "uniform", "epochs": 4, "learning_rate": 0.01}
    soup = sv.cook(kitchen, recipe)
    losses = [epoch["loss"] for epoch in soup.notes["epochs"]]
    assert losses[-1] < losses[0]
    assert {epoch["accuracy"] for epoch in soup.notes["epochs"]} == {None}


@pytest.mark.parametrize("task", [Regression(), Multilabel(), Classification()], ids=lambda task: task.name)
def test_a_student_that_answers_as_its_teacher_has_no_soft_loss(task):
    answers = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    assert float(task.soft_loss(answers, answers, 3.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(task.soft_loss(answers, answers + torch.randn(6, 4), 3.0)) > 1e-3


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"method": "fisher"}, "the task regression has no probabilities of"),
        ({"method": "ensemble", "output": "logits"}, "expected outputs, what can be averaged of the task regression"),
        ({"method": "greedy", "objective": "loss"}, "objective is 'loss', which regression does not have"),
        ({"method": "greedy", "objective": "worst_class"}, "regression has no classes"),
        ({"method": "weighted", "per": "class"}, "regression has no classes"),
    ],
)
def test_what_a_regression_cannot_do_is_one_sentence(tmp_path, recipe, message):
    with pytest.raises(RecipeError, match=message):
        sv.cook(sv.Kitchen.load(regression_kitchen(tmp_path)), recipe)


@pytest.mark.parametrize("method", ["learned", "distilled", "fisher"])
def test_a_task_without_a_loss_is_named(tmp_path, method):
    kitchen = sv.Kitchen.load(own_kitchen(tmp_path, "ranked.py:Ranked", train=50))
    with pytest.raises(RecipeError, match="the task Ranked has no "):
        sv.cook(kitchen, {"method": method})


def test_a_task_of_ones_own_with_a_loss_is_learned(tmp_path):
    text = """
import soupviz as sv

class Near(sv.Task):
    labels = "numbers"
    metrics = (sv.SumMetric("mae", "error", "", False, ("off",), lambda off, units: off / float(units), {"off": 0}),)

    def outcomes(self, answers, labels):
        return {"off": (answers.flatten().cpu() - labels).abs().numpy()}

    def loss(self, answers, labels):
        return (answers.flatten() - labels).abs().mean()
"""
    kitchen = sv.Kitchen.load(own_kitchen(tmp_path, "near.py:Near", {"near.py": text}))
    soup = sv.cook(kitchen, {"method": "learned", "epochs": 3})
    assert len(soup.notes["losses"]) == 3


def test_several_labels_are_not_called_no_classes(tmp_path):
    kitchen = sv.Kitchen.load(multilabel_kitchen(tmp_path))
    with pytest.raises(RecipeError, match="the task multilabel has any number of classes for an example; look at"):
        sv.cook(kitchen, {"method": "greedy", "objective": "worst_class"})


def test_what_is_asked_for_is_told_in_the_tasks_own_units():
    opened: Any = SimpleNamespace(task=SimpleNamespace(unit="patient"), scores=SimpleNamespace(num_to_start=0))
    assert "2 evaluations of 80 patients in all" in asking.told(Cost(2, 0, 80, None), opened)


def test_a_temperature_needs_logits(tmp_path):
    soup = sv.uniform(sv.Kitchen.load(regression_kitchen(tmp_path)))
    with pytest.raises(RecipeError, match="no confidence that one mends"):
        calibrate(soup)


@pytest.mark.parametrize("method", sorted(set(MENU) - {"fisher", "distilled", "bayesian"}))
def test_every_other_recipe_of_the_menu_cooks_a_regression(tmp_path, method):
    kitchen = sv.Kitchen.load(regression_kitchen(tmp_path, num_examples=40, num_ingredients=3))
    assert not parse({"method": method}).unfit(kitchen.task)
    try:
        soup = sv.cook(kitchen, {"method": method})
    except RecipeError as error:  # checkpoints that are not of one run over time
        assert method in OVER_TIME, error
        return
    assert soup.scores["test"].metric == "rmse"


def test_a_task_says_its_labels_in_its_own_words():
    """Those of varying length as they were, before they were filled up; a number of -1 is a number."""

    class Own(sv.Task):
        def labelled(self, label):
            return f"{len(label)} things"

    filled = np.array([3, 4, -1, -1])
    assert (sv.Task().labelled(filled), Regression().labelled(filled)) == ("3, 4", "3, 4, -1, -1")
    assert Own().labelled(filled) == "4 things"
