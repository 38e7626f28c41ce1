"""A distilled student: cooked in a kitchen, against a training of the test's own, stopped and taken up again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import BATCHNORM, TIED, build_model, run_command, small_kitchen
from safetensors.torch import load_file
from torch import Tensor, nn

import soupviz as sv
from soupviz.errors import Cancelled, ExportError, RecipeError
from soupviz.kitchen import Kitchen
from soupviz.learning.distilling import Distillation, distill
from soupviz.mixing.averaging import mean_of, mix
from soupviz.mixing.formulas import KEPT
from soupviz.recipes import parse
from soupviz.recipes.distilled import Distilled
from soupviz.recipes.trajectory import Step
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.soups.services import KitchenServices

QUICK = Distilled(epochs=4, learning_rate=0.02, start="best")
TRAIN = 300  # three steps an epoch


def small(folder: Path, **options) -> Kitchen:
    given = {"num_ingredients": 4, "num_examples": 80, "train": TRAIN, "scale": 0.3}
    return Kitchen.load(small_kitchen(folder, **given | options))


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    return small(tmp_path_factory.mktemp("distilled"))


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def own_model(kitchen: Kitchen, weights) -> nn.Module:
    model = build_model((kitchen.folder / "model.py").read_text())
    model.load_state_dict(dict(weights), strict=True)
    return model


def answers(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model(inputs)


def correct(kitchen: Kitchen, weights, split: str) -> int:
    data = kitchen.splits.load(split)
    return int((answers(own_model(kitchen, weights), data.inputs[""]).argmax(1) == data.labels).sum())


def trained(kitchen: Kitchen, recipe: Distilled, start, teacher: Tensor, rows: Tensor | None = None) -> nn.Module:
    """A student by `distill` alone: the kitchen's train split, weights to start from, a teacher's logits."""
    train = kitchen.splits.load("train")
    rows = torch.arange(len(train)) if rows is None else rows
    model = own_model(kitchen, start)
    distill(
        model, lambda part: {"": train.inputs[""][rows[part]]}, train.labels[rows], teacher[rows],
        Distillation(recipe.temperature, recipe.hard, recipe.epochs, recipe.learning_rate, seed=recipe.seed),
        device=torch.device("cpu"),
    )  # fmt: skip
    return model


def ensemble_of(kitchen: Kitchen, names: list[str], split: str) -> Tensor:
    """Logarithms of averaged probabilities."""
    inputs = kitchen.splits.load(split).inputs[""]
    models = [own_model(kitchen, kitchen.weights.resolve(name).tensors) for name in names]
    return torch.stack([answers(model, inputs).double().softmax(1) for model in models]).mean(0).log().float()


def greedy_ensemble(kitchen: Kitchen) -> list[str]:
    """Best first; keep whoever makes more of the averaged probabilities right on held_out."""

    def count(names: list[str]) -> int:
        return int((ensemble_of(kitchen, names, "held_out").argmax(1) == kitchen.splits.load("held_out").labels).sum())

    first, *others = sorted(kitchen.names, key=lambda name: -count([name]))
    chosen = [first]
    for name in others:
        chosen = [*chosen, name] if count([*chosen, name]) > count(chosen) else chosen
    return chosen


def close(found, expected) -> None:
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=1e-4)


def without_cost(soup: sv.Soup) -> dict[str, object]:
    return soup.as_dict() | {"seconds": None, "evaluations": None}


# The student


def test_a_student_is_among_the_finished_runs(tmp_path):
    kitchen = small(tmp_path)
    soup = sv.cook(kitchen, QUICK)
    [run] = kitchen.store.runs()
    assert (run.status, run.name) == ("finished", "student of ensemble (from best, 4 epochs)")
    [(name, weight)] = soup.mix
    assert (name.rpartition("-")[0], weight, soup.coefficients) == ("student", 1.0, None)
    formula = kitchen.weights.formula(name)
    assert (formula.kind, sorted(formula.names)) == (KEPT, kitchen.names)
    assert [path.name for path in (kitchen.store.folder / "made").iterdir()] == [f"{name}.safetensors"]
    for split in ("held_out", "test"):
        assert soup.scores[split].correct == correct(kitchen, soup.state_dict(), split)


def test_its_trajectory_has_the_start_and_a_step_for_each_epoch(kitchen):
    told = []
    soup = sv.cook(kitchen, QUICK, on_step=told.append)
    assert tuple(told) == soup.trajectory
    assert [step.step for step in soup.trajectory] == [0, 1, 2, 3, 4]
    assert [step.ingredient for step in soup.trajectory] == [
        "start: best",
        *(f"epoch {number}" for number in range(1, 5)),
    ]
    assert soup.trajectory[-1].correct == soup.scores["held_out"].correct
    best = soup.trajectory[0].correct
    for step in soup.trajectory[1:]:
        assert step.accepted is (step.correct > best)
        best = max(best, step.correct)
        assert step.best_accuracy == best / 80
    losses = [epoch["loss"] for epoch in soup.notes["epochs"]]
    assert [epoch["number"] for epoch in soup.notes["epochs"]] == [1, 2, 3, 4]
    assert losses[-1] < losses[0]


def test_a_student_repeats(kitchen, tmp_path):
    soup, again = sv.cook(kitchen, QUICK), sv.cook(small(tmp_path), QUICK)
    assert (again.mix, again.key, again.trajectory, again.notes) == (soup.mix, soup.key, soup.trajectory, soup.notes)
    assert equal(again.state_dict(), soup.state_dict())
    assert sv.cook(Kitchen.load(kitchen.file), QUICK).as_dict() == soup.as_dict()
    assert sv.cook(kitchen, QUICK.model_copy(update={"seed": 1})).mix != soup.mix


@pytest.mark.parametrize("start", ["best", "uniform", "greedy"])
def test_it_starts_where_it_is_told(kitchen, start):
    """A step of almost nothing leaves the start."""
    scores = kitchen.scores.of_ingredients()
    best = max(kitchen.names, key=lambda name: scores[name].correct)
    mixtures = {"best": ((best, 1.0),), "uniform": mean_of(kitchen.names), "greedy": sv.greedy(kitchen).mix}
    soup = sv.cook(kitchen, Distilled(start=start, epochs=1, learning_rate=1e-9))
    assert soup.trajectory[0].ingredient == f"start: {start}"
    assert soup.trajectory[0].correct == kitchen.scores.score(mixtures[start]).correct == soup.trajectory[1].correct
    close(soup.state_dict(), mix(kitchen.scores.resolved(mixtures[start])))


@pytest.mark.parametrize("teacher", ["ensemble", "greedy ensemble", "uniform", "greedy"])
def test_it_learns_from_whom_it_is_told(teacher, tmp_path):
    kitchen = small(tmp_path, num_ingredients=5, scale=0.2, train=100)
    recipe = Distilled(teacher=teacher, start="uniform", hard=0.0, temperature=1.5, epochs=2, learning_rate=0.02)
    train = kitchen.splits.load("train").inputs[""]
    greedy = sv.greedy(kitchen)
    average = mix(kitchen.scores.resolved(mean_of(kitchen.names)))
    members = greedy_ensemble(kitchen)
    assert sorted(members) != sorted(name for name, _ in greedy.mix)  # else the two would not be told apart
    logits = {
        "ensemble": ensemble_of(kitchen, kitchen.names, "train"),
        "greedy ensemble": ensemble_of(kitchen, members, "train"),
        "uniform": answers(own_model(kitchen, average), train),
        "greedy": answers(own_model(kitchen, greedy.state_dict()), train),
    }
    expected = trained(kitchen, recipe, average, logits[teacher])
    found = sv.cook(kitchen, recipe).state_dict()
    close(found, expected.state_dict())
    for other in logits.keys() - {teacher}:
        difference = trained(kitchen, recipe, average, logits[other]).state_dict()["0.weight"] - found["0.weight"]
        assert difference.abs().max() > 1e-3


def test_it_learns_from_so_many_examples_of_train(kitchen):
    recipe = Distilled(teacher="uniform", start="uniform", examples=40, epochs=2, learning_rate=0.02, seed=3)
    average = mix(kitchen.scores.resolved(mean_of(kitchen.names)))
    rows = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(3))[:40].sort().values
    teacher = answers(own_model(kitchen, average), kitchen.splits.load("train").inputs[""])
    close(sv.cook(kitchen, recipe).state_dict(), trained(kitchen, recipe, average, teacher, rows).state_dict())
    more = sv.cook(kitchen, recipe.model_copy(update={"examples": 10 * TRAIN}))
    assert equal(more.state_dict(), sv.cook(kitchen, recipe.model_copy(update={"examples": 0})).state_dict())


@pytest.mark.parametrize("batchnorm", ["average", "first", "recalibrate"])
def test_start_and_teacher_have_the_statistics_that_the_recipe_says(batchnorm, tmp_path):
    kitchen = small(tmp_path, source=BATCHNORM, shape=(3, 8, 8), train=60, num_examples=40)
    recipe = Distilled(teacher="uniform", start="uniform", epochs=1, learning_rate=0.01, batchnorm=batchnorm)
    start = sv.uniform(kitchen, batchnorm=batchnorm).state_dict()
    teacher = answers(own_model(kitchen, start), kitchen.splits.load("train").inputs[""])
    expected = trained(kitchen, recipe, start, teacher).state_dict()
    soup = sv.cook(kitchen, recipe)
    kept = dict(kitchen.weights.resolve(soup.mix[0][0]).tensors)
    # Of a bias before BatchNorm the gradient is 0, and what AdamW makes of its rounding is anything.
    close(kept, {key: tensor for key, tensor in expected.items() if key != "0.bias"})
    assert kept["1.num_batches_tracked"] == start["1.num_batches_tracked"] + 1
    assert soup.scores["test"].correct == correct(kitchen, soup.state_dict(), "test")


def test_tied_weights_stay_tied_and_a_dtype_stays_what_it_is(tmp_path):
    weights = sv.cook(small(tmp_path / "tied", source=TIED, train=40), QUICK).state_dict()
    assert torch.equal(weights["first.weight"], weights["second.weight"])
    half = small(tmp_path / "half", train=40, change=lambda t: {key: value.bfloat16() for key, value in t.items()})
    assert {tensor.dtype for tensor in sv.cook(half, QUICK).state_dict().values()} == {torch.bfloat16}


def test_ingredients_are_left_as_they_are(kitchen):
    before = {item.name: {key: t.clone() for key, t in item.tensors.items()} for item in kitchen.ingredients}
    sv.cook(kitchen, QUICK.model_copy(update={"start": "best", "seed": 5}))
    assert all(equal(item.tensors, before[item.name]) for item in kitchen.ingredients)
    assert not any(module.training for module in kitchen.evaluator.model.modules())
    assert not any(parameter.requires_grad for parameter in kitchen.evaluator.model.parameters())


# Stopped, and taken up again


NUM_STEPS = 12


def stop_at(step: int, seen: list[int], begins: int = 0):
    """Cancels before a step. seen: the steps that were begun. begins: with which training goes on."""

    def progress(_done: int, _total: int, what: str) -> None:
        if what.startswith("distilling"):
            seen.append(begins + len(seen))
            if seen[-1] == step:
                raise Cancelled

    return progress


@pytest.mark.parametrize("step", [1, 3, 7, 11])
def test_cancelled_and_cooked_again_it_goes_on_and_is_the_same_student(kitchen, step, tmp_path):
    """In the first epoch of three steps, between two, in the third and in the last; its decisions are all there."""
    other, seen = small(tmp_path), []
    with pytest.raises(Cancelled):
        sv.cook(other, QUICK, progress=stop_at(step, seen))
    [run] = other.store.runs()
    assert run.status == "cancelled"
    assert [kept["step"] for kept in other.store.decisions(run)] == list(range(1 + step // 3))
    seen.clear()
    again = Kitchen.load(other.file)
    soup = sv.cook(again, QUICK, progress=stop_at(-1, seen))
    assert len(seen) == NUM_STEPS - step // 3 * 3
    expected = sv.cook(kitchen, QUICK)
    assert without_cost(soup) == without_cost(expected)
    assert equal(soup.state_dict(), expected.state_dict())
    assert [run.status for run in again.store.runs()] == ["finished"]
    assert [path.suffix for path in (again.store.folder / "made").iterdir()] == [".safetensors"]


def test_cancelled_twice_it_has_all_its_decisions(kitchen, tmp_path):
    """Also where the second time was over before an epoch was."""
    other = small(tmp_path)
    for step, begins in ((7, 0), (7, 6), (10, 6)):
        with pytest.raises(Cancelled):
            sv.cook(other, QUICK, progress=stop_at(step, [], begins))
    assert without_cost(sv.cook(other, QUICK)) == without_cost(sv.cook(kitchen, QUICK))


def test_killed_after_its_training_it_is_scored_and_not_trained_again(kitchen, tmp_path, monkeypatch):
    other, seen = small(tmp_path), []
    score = KitchenServices._score
    with monkeypatch.context() as patch:
        scored = []

        def dies(lab: KitchenServices, tensors):
            scored.append(1)
            if len(scored) == 4:
                raise KeyboardInterrupt
            return score(lab, tensors)

        patch.setattr(KitchenServices, "_score", dies)
        with pytest.raises(KeyboardInterrupt):
            sv.cook(other, QUICK)
    soup = sv.cook(other, QUICK, progress=stop_at(-1, seen))
    assert seen == []
    assert without_cost(soup) == without_cost(sv.cook(kitchen, QUICK))


# Written, and loaded back


def test_a_student_is_restored_from_its_file_into_a_kitchen_that_has_forgotten_it(tmp_path):
    kitchen = small(tmp_path / "kitchen", train=40)
    soup = sv.cook(kitchen, QUICK)
    weights = soup.state_dict()
    [path, recipe, card] = sv.export(soup, tmp_path / "soup.safetensors")
    assert equal(load_file(path), weights)
    assert "made from 4 checkpoints" in card.read_text(encoding="utf-8")
    with pytest.raises(ExportError, match=r"student-.* was trained, or made from data: .* --kitchen"):
        sv.bake(recipe, tmp_path / "again.safetensors")
    kitchen.store.clear()
    opened = Kitchen.load(kitchen.file)
    again = restore(opened, read_record(path), path)
    assert (again.mix, again.key, again.trajectory) == (soup.mix, soup.key, soup.trajectory)
    assert {split: score.correct for split, score in again.scores.items()} == {
        split: score.correct for split, score in soup.scores.items()
    }
    assert equal(again.state_dict(), weights)
    [baked, *_] = sv.bake(path, tmp_path / "again.safetensors", kitchen=opened)
    assert equal(load_file(baked), weights)


# As data


def test_without_train_it_is_refused(tmp_path, capsys):
    file = small_kitchen(tmp_path, num_examples=40)
    status, _, err = run_command(capsys, "soup", file, "--recipe", "distilled")
    assert (status, err.count("\n")) == (2, 1)
    assert "has no train; add `train:` under `data:` to it, or choose another recipe" in err


@pytest.mark.parametrize(
    "values",
    [
        {"teacher": "best"}, {"temperature": 0}, {"temperature": 21}, {"hard": 1.1},
        {"hard": -0.1}, {"epochs": 0}, {"epochs": 201}, {"learning_rate": 0}, {"learning_rate": 2},
        {"examples": -1}, {"seed": -1},
    ],
)  # fmt: skip
def test_a_parameter_out_of_range_is_refused(values):
    with pytest.raises(RecipeError, match=f"distilled.{next(iter(values))}"):
        parse({"method": "distilled"} | values)


def test_it_needs_train_and_says_what_it_does():
    assert Distilled().needs == {"train"}
    assert Distilled().title == "student of ensemble (from greedy, 3 epochs)"
    assert parse({"method": "distilled", "teacher": "greedy", "members": ["a", "b"]}).title == (
        "student of greedy (from greedy, 3 epochs, of 2)"
    )
    assert Distilled(epochs=5).candidates(4) == 9


def test_a_student_that_diverges_is_refused_and_the_run_says_why(tmp_path):
    kitchen = small(tmp_path, train=300)
    tensors = {key: 1e30 * tensor for key, tensor in kitchen.weights.resolve("m_0").tensors.items()}
    assert np.isfinite(tensors["0.weight"].numpy()).all()
    torch.save(tensors, tmp_path / "wild.pt")
    (tmp_path / "kitchen.yaml").write_text(
        (tmp_path / "kitchen.yaml").read_text().replace("m_0.safetensors", "wild.pt"), encoding="utf-8"
    )
    wild = Kitchen.load(tmp_path)
    with pytest.raises(RecipeError, match=r"distill: the teacher's logits of 300 examples are not finite; choose"):
        sv.cook(wild, Distilled(members=("wild",), start="best", epochs=1))
    [run] = wild.store.runs()
    assert (run.status, "not finite" in run.error) == ("failed", True)


def test_cooked_again_a_finished_student_is_not_trained_again(tmp_path, monkeypatch):
    file = small_kitchen(tmp_path, num_ingredients=3, num_examples=60, train=40)
    first = sv.cook(sv.Kitchen.load(file), {"method": "distilled", "epochs": 1})
    monkeypatch.setattr("soupviz.soups.services.distill", lambda *_args, **_more: pytest.fail("trained again"))
    told: list[Step] = []
    again = sv.cook(sv.Kitchen.load(file), {"method": "distilled", "epochs": 1}, on_step=told.append)
    assert again.as_dict() == first.as_dict()
    assert tuple(told) == first.trajectory
    assert again.scores["test"].outcomes is not None


def test_it_starts_at_an_ingredient_by_its_name(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=3, num_examples=60, train=40))
    soup = sv.cook(kitchen, {"method": "distilled", "epochs": 1, "start": "m_2"})
    assert soup.trajectory[0].correct == kitchen.scores.score((("m_2", 1.0),)).correct
    with pytest.raises(RecipeError, match=r"start is 'm_7'; expected greedy, uniform, best, or one of m_0, m_1, m_2\."):
        sv.cook(kitchen, {"method": "distilled", "epochs": 1, "start": "m_7"})


def test_a_finished_student_is_trained_again_when_what_is_in_train_has_changed(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=3, num_examples=60, train=40)
    recipe = {"method": "distilled", "epochs": 1, "learning_rate": 0.01}
    first = sv.cook(sv.Kitchen.load(file), recipe)
    other = small_kitchen(tmp_path / "other", num_ingredients=3, num_examples=60, train=48)
    file.with_name("train.safetensors").write_bytes(other.with_name("train.safetensors").read_bytes())
    again = sv.cook(sv.Kitchen.load(file), recipe)
    assert again.key == first.key
    assert again.mix != first.mix
