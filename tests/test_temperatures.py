"""Temperatures of tasks with likelihoods: of labels by sigmoids, of words, of options; against scipy's plain fit."""

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from digit_labels import multilabel_digits
from kitchens import json_of, run_command, write_yaml
from safetensors.torch import load_file
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from shapes import shapes_kitchen
from tagging import TAGS, tagging_kitchen, toy_tokenizer
from test_choices import questions, write_lines
from test_pages import fresh_server, settle, trusted  # noqa: F401 - a fixture
from test_ui_panels import opened_on
from test_ui_regression import page, said
from torch.nn import functional as F
from writers import POSITIONS, no_library, writers_kitchen  # noqa: F401 - a fixture

import soupviz as sv
from soupviz.errors import ExportError
from soupviz.soups.scaling import calibrate, no_division, no_temperature
from soupviz.tasks.calibration import fit_temperature, measure
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.classes.multilabel import Multilabel
from soupviz.tasks.masks import segmentation
from soupviz.tasks.masks.segmentation import Segmentation
from soupviz.tasks.regression import Regression
from soupviz.tasks.text.entities import Tags
from soupviz.tasks.text.language_model import LanguageModel
from soupviz.tasks.text.multiple_choice import MultipleChoice
from soupviz.tasks.text.token_classification import TokenClassification
from soupviz.ui.soup import panels

Loss = Callable[[float], float]
"""The mean negative log-likelihood of what is right, as written down for one task, at an inverse temperature."""


def by_scipy(loss: Loss) -> float:
    """The temperature, found without a slope and without anything of soupviz."""
    options = {"xatol": 1e-10}
    return math.exp(minimize_scalar(lambda t: loss(math.exp(-t)), bounds=(-8, 8), method="bounded", options=options).x)


def of_labels(logits: np.ndarray, labels: torch.Tensor) -> Loss:
    """Of every class of every example: log(1 + exp(-z)) where it is there, log(1 + exp(z)) where not."""
    signs = np.where(labels.numpy() > 0, -1.0, 1.0)
    return lambda cold: float(np.logaddexp(0, signs * cold * logits.astype(np.float64)).mean())


def of_words(logits: np.ndarray, labels: torch.Tensor) -> Loss:
    known = [
        (logits[row, place].astype(np.float64), tag)
        for row, tags in enumerate(labels.tolist())
        for place, tag in enumerate(tags)
        if tag >= 0
    ]
    return lambda cold: -float(np.mean([log_softmax(cold * one)[tag] for one, tag in known]))


def of_options(likely: np.ndarray, labels: torch.Tensor) -> Loss:
    known = [
        (likely[row, : sum(size >= 0 for size in sizes)].astype(np.float64), right)
        for row, (right, *sizes) in enumerate(labels.tolist())
    ]
    return lambda cold: -float(np.mean([log_softmax(cold * one)[right] for one, right in known]))


def of_pixels(logits: np.ndarray, labels: torch.Tensor) -> Loss:
    size = labels.shape[1:]
    large = F.interpolate(torch.from_numpy(np.array(logits)), size=list(size), mode="bilinear", align_corners=False)
    known = [
        (large[place[0], :, place[1], place[2]].double().numpy(), int(labels[tuple(place)]))
        for place in (labels != 255).nonzero().tolist()
    ]
    logits, right = np.stack([one for one, _ in known]), [right for _, right in known]
    return lambda cold: -float(log_softmax(cold * logits, axis=1)[np.arange(len(right)), right].mean())


OF = {
    "multilabel": of_labels, "token_classification": of_words, "segmentation": of_pixels,
    "multiple_choice": of_options,
}  # fmt: skip


def random_answers(name: str):
    """A task, answers of some units, and their labels, which the answers say something of."""
    random = np.random.default_rng(3)
    if name == "multilabel":
        labels = random.integers(0, 2, (80, 3))
        return Multilabel(), (3 * labels - 1 + 3 * random.normal(size=labels.shape)), torch.tensor(labels)
    if name == "token_classification":
        task = TokenClassification()
        task.tags = Tags.of(TAGS)
        labels = random.integers(0, 4, (60, 7))
        logits = 2 * np.eye(4)[labels] + 2 * random.normal(size=(60, 7, 4))
        labels[random.random(labels.shape) < 0.2] = -4  # the word of tag 2 has no token: it is wrong, by no logit
        for row, length in enumerate(random.integers(2, 8, 60)):
            labels[row, length:] = -1
            logits[row, length:] = 0
        return task, logits, torch.tensor(labels)
    if name == "segmentation":
        labels = random.integers(0, 3, (9, 8, 6)).astype(np.uint8)
        logits = 2 * np.eye(3)[labels].transpose(0, 3, 1, 2)[:, :, ::2, ::2] + random.normal(size=(9, 3, 4, 3))
        labels[random.random(labels.shape) < 0.2] = 255
        return Segmentation(), logits, torch.tensor(labels)
    sizes = random.integers(2, 6, 90)
    rights = random.integers(0, sizes)
    labels = np.full((90, 6), -1)
    labels[:, 0] = rights
    likely = np.zeros((90, 5))
    for row, (size, right) in enumerate(zip(sizes, rights, strict=True)):
        labels[row, 1 : 1 + size] = 4
        likely[row, :size] = 6 * random.normal(size=size) - 80
        likely[row, right] += 5
    return MultipleChoice(), likely, torch.tensor(labels)


# What is decided


@pytest.mark.parametrize("name", OF)
def test_the_temperature_of_answers_is_that_of_a_plain_fit(name):
    task, answers, labels = random_answers(name)
    answers = answers.astype(np.float32)
    loss, found = OF[name](answers, labels), task.decisions(answers, labels)
    assert fit_temperature(found) == pytest.approx(by_scipy(loss), rel=1e-4)
    assert measure(found).nll == pytest.approx(loss(1.0), rel=1e-6)
    assert measure(found, 2.5).nll == pytest.approx(loss(0.4), rel=1e-6)


@pytest.mark.parametrize("name", OF)
def test_what_is_likely_before_a_temperature_is_the_tasks_own_loss(name):
    task, answers, labels = random_answers(name)
    found = task.outcomes(torch.tensor(answers).float(), labels)
    number = next((found[name].sum() for name in ("judged", "pixels") if name in found), len(labels))
    known = found["nats" if "nats" in found else "loss"].sum() / number
    assert measure(task.decisions(answers.astype(np.float32), labels)).nll == pytest.approx(float(known), rel=1e-5)


@pytest.mark.parametrize(("name", "lost"), [("multilabel", 3), ("multiple_choice", 1)])
def test_a_unit_without_a_finite_answer_says_nothing_and_is_wrong(name, lost):
    task, answers, labels = random_answers(name)
    whole = measure(task.decisions(answers, labels))
    answers[4, 0] = np.nan
    rest = np.delete(np.arange(len(labels)), 4)
    found, without = measure(task.decisions(answers, labels)), measure(task.decisions(answers[rest], labels[rest]))
    assert (found.num_examples, found.num_nonfinite) == (whole.num_examples, lost)
    assert (found.nll, found.ece) == (without.nll, without.ece)
    assert found.accuracy == pytest.approx(without.accuracy * without.num_examples / found.num_examples)


def test_of_a_sentence_without_a_finite_answer_no_word_says_anything_and_padding_is_not_looked_at():
    task, answers, labels = random_answers("token_classification")
    whole = measure(task.decisions(answers, labels))
    row, place = (labels < -1).nonzero()[0].tolist()
    answers[row, place] = np.nan  # of a word without a token, as of padding
    assert measure(task.decisions(answers, labels)) == whole
    place = int((labels[row] >= 0).nonzero()[0])
    answers[row, place, 1] = np.inf
    assert measure(task.decisions(answers, labels)).num_nonfinite == int((labels[row] >= 0).sum())


def test_of_an_image_without_a_finite_answer_no_pixel_says_anything():
    task, answers, labels = random_answers("segmentation")
    answers[2, 0, 1, 1] = np.nan
    assert measure(task.decisions(answers, labels)).num_nonfinite == int((labels[2] != 255).sum())


def test_of_very_many_pixels_some_are_taken_from_all_over_the_images(monkeypatch):
    """Logits tell the column: of images whose width divides the share that is taken, all columns have some."""
    number, width = 256, 32
    answers = np.zeros((number, 2, width, width), np.float32)
    answers[:, 1] = np.arange(width)
    labels = torch.zeros(number, width, width, dtype=torch.int64)
    every = Segmentation().decisions(answers, labels)
    monkeypatch.setattr(segmentation, "MOST_PIXELS", len(every) // width)
    found = Segmentation().decisions(answers, labels)
    assert len(every) / width * 0.9 < len(found) <= len(every) / width + number
    counts = np.bincount(found.logits[:, 1].astype(int), minlength=width)
    assert counts.min() > 0.7 * counts.mean()
    assert np.array_equal(Segmentation().decisions(answers, labels).logits, found.logits)


def test_a_question_with_fewer_options_has_no_more_of_them():
    """Two options as likely as each other, of a table of five: each has half."""
    labels = torch.tensor([[0, 3, 3, -1, -1, -1], [4, 1, 1, 1, 1, 1]])
    likely = np.array([[-9.0, -9.0, 0, 0, 0], [-1.0, -1, -1, -1, -1]], np.float32)
    assert measure(MultipleChoice().decisions(likely, labels)).nll == pytest.approx(math.log(10) / 2)


def test_a_class_of_an_example_is_a_decision_between_no_and_yes_by_hand():
    """Chances of 3/4 and 1/10 of classes that are there: 0.75 for right, and 0.9 for wrong."""
    logits = np.array([[math.log(3), -math.log(9)]], np.float32)
    found = measure(Multilabel().decisions(logits, torch.ones(1, 2, dtype=torch.int64)))
    assert (found.num_examples, found.accuracy) == (2, 0.5)
    assert found.nll == pytest.approx(-(math.log(0.75) + math.log(0.1)) / 2, rel=1e-6)
    assert found.ece == pytest.approx((0.25 + 0.9) / 2, rel=1e-5)


def test_a_task_of_ones_own_has_a_temperature_once_it_says_what_is_decided():
    class Own(sv.Task):
        def decisions(self, answers, labels):
            return Classification().decisions(answers, labels)

    assert (Own().has_temperature, sv.Task().has_temperature) == (True, False)


# The journey


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("likely")
    writers_kitchen(folder / "options", num_documents=10)
    data = {}
    for seed, split in enumerate(("held_out", "test")):
        write_lines(folder / "options" / "data" / f"{split}.jsonl", questions(60, seed))
        data[split] = {
            "format": "choices", "path": f"data/{split}.jsonl", "tokenizer": "tokenizer", "max_length": POSITIONS,
        }  # fmt: skip
    options = write_yaml(
        folder / "options", name="choices", task="multiple_choice", model={"factory": "model.py:build"},
        ingredients=["m_*.safetensors"], base="base.safetensors", data=data, device="cpu",
    )  # fmt: skip
    with toy_tokenizer():
        tags = tagging_kitchen(folder / "tags", num_ingredients=3)
    labels = multilabel_digits(folder / "labels", num_ingredients=3)
    masks = shapes_kitchen(folder / "masks", num_ingredients=2)
    return {"multilabel": labels, "segmentation": masks, "token_classification": tags, "multiple_choice": options}


@pytest.fixture(params=list(OF))
def file(request, built: dict[str, Path], tmp_path: Path) -> Iterator[Path]:
    place = trusted(shutil.copytree(built[request.param].parent, tmp_path / "k") / "kitchen.yaml")
    if request.param == "multiple_choice":
        request.getfixturevalue("no_library")
    with toy_tokenizer() if request.param == "token_classification" else nullcontext():
        yield place


@pytest.fixture
def soup(file: Path):
    return sv.uniform(sv.Kitchen.load(file))


def told_of(soup):
    kitchen = soup.kitchen
    return {
        split: OF[kitchen.task.name](kitchen.scores.logits(soup.mix, split), kitchen.splits.load(split).labels)
        for split in ("held_out", "test")
    }


def test_it_is_fitted_on_held_out_and_told_on_test_too(soup):
    scaled, losses = calibrate(soup), told_of(soup)
    assert scaled.temperature == pytest.approx(by_scipy(losses["held_out"]), rel=1e-4)
    assert scaled.reported == "test"
    for split, loss in losses.items():
        assert scaled.before[split].nll == pytest.approx(float(soup.scores[split].shown("loss")), rel=1e-4)
        assert scaled.after[split].nll == pytest.approx(loss(1 / scaled.temperature), rel=1e-6)
        assert scaled.before[split].accuracy == scaled.after[split].accuracy
    assert scaled.after["held_out"].nll <= scaled.before["held_out"].nll


def test_an_ensemble_has_one_too(file):
    soup = sv.cook(sv.Kitchen.load(file), {"method": "ensemble"})
    scaled = calibrate(soup)
    assert scaled.before["test"].nll == pytest.approx(float(soup.scores["test"].shown("loss")), rel=1e-4)


def test_the_command_tells_it_and_the_card_names_it(file, tmp_path, capsys):
    out = tmp_path / "out" / "soup.safetensors"
    out.parent.mkdir()
    found = json_of(capsys, "soup", file, "--recipe", "uniform", "--calibrate", "--out", out)["calibration"]
    task = sv.Kitchen.load(file).task
    card = (out.parent / "README.md").read_text("utf-8")
    assert f"{found['temperature']:.4f}. Divide {task.divides[0]} by it before {task.divides[1]}" in card
    status, shown, _ = run_command(capsys, "soup", file, "--recipe", "uniform", "--calibrate")
    assert status == 0 and f"every {task.decides} of held_out" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("file", "reason"),
    [("multiple_choice", "how likely tokens are"), ("segmentation", "only linear ones are divided")],
    indirect=["file"],
)
def test_what_no_last_layer_can_be_divided_by_is_told_with_the_reason(file, reason, tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    status, _, told = run_command(capsys, "soup", file, "--recipe", "uniform", "--bake-temperature", "--out", out)
    assert status == 2 and reason in told and told.strip().count("\n") == 0
    with pytest.raises(ExportError, match=reason):
        sv.export(sv.uniform(sv.Kitchen.load(file)), out, temperature=1.7, bake_temperature=True)
    assert not out.exists()


@pytest.mark.parametrize("file", ["multilabel", "token_classification"], indirect=True)
def test_in_the_weights_it_divides_the_last_layer_and_changes_no_answer(file, tmp_path):
    soup = sv.uniform(sv.Kitchen.load(file))
    for name, more in {"plain": {}, "scaled": {"temperature": 1.7, "bake_temperature": True}}.items():
        sv.export(soup, tmp_path / f"{name}.safetensors", **more)
    plain, scaled = (load_file(tmp_path / f"{name}.safetensors") for name in ("plain", "scaled"))
    changed = [key for key in plain if not torch.equal(plain[key], scaled[key])]
    assert len(changed) == 2
    for key in changed:
        torch.testing.assert_close(scaled[key] * 1.7, plain[key])


def test_the_soup_page_fits_it_and_the_export_page_offers_what_there_is(file):
    soup = sv.uniform(sv.Kitchen.load(file))
    at = opened_on(file, panels.CALIBRATION)
    task = soup.kitchen.task
    assert f"every {task.decides} of held_out" in said(at)
    next(button for button in at.button if button.label == "Fit a temperature").click().run()
    settle(at)
    assert not at.exception and calibrate(soup).temperature == pytest.approx(
        float(next(one.value for one in at.metric if one.label == "Temperature")), abs=1e-3
    )
    choice = next(one for one in page("export.py", file).get("button_group") if one.label == "Temperature")
    assert len(choice.options) == (2 if task.lacks.get("division") else 3)


def test_a_task_without_likelihoods_says_why():
    for task in (Regression(), LanguageModel()):
        assert not task.has_temperature and "because" in no_temperature(task)
        assert no_division(task) == no_temperature(task)
    assert not no_division(Classification())
