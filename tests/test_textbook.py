"""The core against the loop that a textbook would write: load, mix, DataLoader, count.

Nothing here but `sv` itself is soupviz's: files are read with safetensors or torch.load, weights are averaged one
state dict after another, pictures are decoded and transformed by torchvision. By rule 5 of DESIGN an example whose
two top logits are closer than 1e-4 may be counted differently; such are counted exactly, and no other may differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from kitchens import BATCHNORM, MLP, TIED, build_model, small_kitchen
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import soupviz as sv
from soupviz.demo.digits import DigitsNet
from soupviz.tasks.score import Score

CLOSE = 1e-4
Weights = dict[str, Tensor]


@dataclass
class Count:
    """How many are right, and which examples are too close to call."""

    predictions: Tensor
    labels: Tensor
    close: Tensor
    loss: float

    @property
    def correct(self) -> int:
        return int((self.predictions == self.labels).sum())


@dataclass
class Textbook:
    """The naive side: a model, its checkpoints' files in kitchen order, data as float tensors."""

    model: nn.Module
    files: dict[str, Path]
    data: dict[str, tuple[Tensor, Tensor]]
    batch_size: int = 128

    @cached_property
    def weights(self) -> dict[str, Weights]:
        return {name: read(file) for name, file in self.files.items()}

    def count(self, weights: Weights, split: str = "held_out") -> Count:
        self.model.load_state_dict(weights, strict=True)
        self.model.eval()
        loader = DataLoader(TensorDataset(*self.data[split]), batch_size=self.batch_size)
        with torch.no_grad():
            logits = torch.cat([self.model(images) for images, _ in loader])
        labels = self.data[split][1]
        top = logits.topk(2, dim=1).values
        loss = nn.functional.cross_entropy(logits, labels).item()
        return Count(logits.argmax(1), labels, top[:, 0] - top[:, 1] < CLOSE, loss)


def read(file: Path) -> Weights:
    if file.suffix == ".safetensors":
        return load_file(file)
    return dict(torch.load(file, weights_only=True))


def add(parts: Sequence[tuple[Weights, float]]) -> Weights:
    """sum of weight * state dict; batch counters take the largest."""
    total: Weights = {}
    for key, first in parts[0][0].items():
        if key.endswith("num_batches_tracked"):
            total[key] = max((weights[key] for weights, _ in parts), key=int)
        else:
            summed = sum(weights[key].float() * share for weights, share in parts)
            total[key] = summed.to(first.dtype)
    return total


def textbook_greedy(book: Textbook, alpha, names: Sequence[str]) -> tuple[list[tuple[str, bool, Count]], Weights]:
    """Both rules as their papers write them: a running mean, or `(1 - alpha) * soup + alpha * newcomer`."""
    singles = {name: book.count(book.weights[name]) for name in names}
    ranked = sorted(names, key=lambda name: singles[name].correct, reverse=True)
    chosen, soup = [ranked[0]], book.weights[ranked[0]]
    best = singles[ranked[0]]
    decisions = [(ranked[0], True, best)]
    for name in ranked[1:]:
        if alpha == "mean":
            share = 1 / (len(chosen) + 1)
            candidate = add([(book.weights[member], share) for member in [*chosen, name]])
        else:
            candidate = add([(soup, 1 - alpha), (book.weights[name], alpha)])
        found = book.count(candidate)
        accepted = found.correct > best.correct
        decisions.append((name, accepted, found))
        if accepted:
            chosen, soup, best = [*chosen, name], candidate, found
    return decisions, soup


def agree(core: Score, book: Count) -> None:
    """The same answer on every example that is not too close to call, and so the same count but for those."""
    differs = torch.tensor(core.outcomes["prediction"].astype(np.int64)) != book.predictions
    assert not (differs & ~book.close).any(), f"{int((differs & ~book.close).sum())} clear examples differ"
    right = torch.tensor(core.outcomes["right"]) != (book.predictions == book.labels)
    assert abs(core.correct - book.correct) <= int(right.sum()) <= int(book.close.sum())
    assert core.num_examples == len(book.labels)
    assert core.loss == pytest.approx(book.loss, rel=1e-4, abs=1e-5)


def agree_on_greedy(kitchen: sv.Kitchen, book: Textbook, alpha, names: Sequence[str] | None = None) -> sv.Soup:
    """Every decision, every count, and the weights of the soup."""
    decisions, weights = textbook_greedy(book, alpha, names or list(book.files))
    early = sv.greedy(kitchen, alpha=alpha, members=names)
    for step, (_, _, found) in zip(early.trajectory, decisions, strict=True):
        assert step.correct is not None or not step.accepted
        assert step.accuracy_at_most * len(found.labels) >= found.correct - int(found.close.sum()) - 1e-6
    soup = sv.greedy(kitchen, alpha=alpha, members=names, complete=True)
    assert soup.mix == early.mix
    assert [step.ingredient for step in soup.trajectory] == [name for name, _, _ in decisions]
    assert [step.accepted for step in soup.trajectory] == [accepted for _, accepted, _ in decisions]
    for step, (_, _, found) in zip(soup.trajectory, decisions, strict=True):
        assert abs(step.correct - found.correct) <= int(found.close.sum())
    for key, tensor in soup.state_dict().items():
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if tensor.dtype != torch.bfloat16 else {"rtol": 2e-2, "atol": 1e-2}
        torch.testing.assert_close(tensor, weights[key], **tolerance)
    return soup


def agree_on_uniform(kitchen: sv.Kitchen, book: Textbook, splits: Sequence[str]) -> sv.Soup:
    soup = sv.uniform(kitchen)
    mean = add([(weights, 1 / len(book.weights)) for weights in book.weights.values()])
    for split in splits:
        agree(soup.scores[split], book.count(mean, split))
    return soup


def agree_on_curve(kitchen: sv.Kitchen, book: Textbook, a: str, b: str, points: int, split: str, **ends) -> None:
    curve = sv.interpolate(kitchen, a, b, points=points, split=split, **ends)
    for alpha in curve["alpha"]:
        mixed = add([(book.weights[a], 1 - alpha), (book.weights[b], alpha)])
        agree(kitchen.scores.score(((a, 1 - alpha), (b, alpha)), split), book.count(mixed, split))
    counts = [kitchen.scores.score(((a, 1 - alpha), (b, alpha)), split).correct for alpha in curve["alpha"]]
    assert curve["correct"].tolist() == counts


def arrays(folder: Path, splits: Sequence[str] = ("held_out", "test")) -> dict[str, tuple[Tensor, Tensor]]:
    loaded = {split: load_file(folder / f"{split}.safetensors") for split in splits}
    return {split: (tensors["inputs"], tensors["labels"]) for split, tensors in loaded.items()}


# The demo kitchen


@pytest.fixture(scope="module")
def digits(demo: Path) -> tuple[sv.Kitchen, Textbook]:
    kitchen = sv.Kitchen.load(demo)
    files = {path.stem: path for path in sorted(demo.parent.glob("digits_*.safetensors"))}
    files["base"] = demo.parent / "base.safetensors"
    data = arrays(demo.parent) | {
        f"shifts.{name}": pair for name, pair in arrays(demo.parent, ("rotated", "noisy")).items()
    }
    return kitchen, Textbook(DigitsNet(), files, data)


@pytest.fixture
def ingredients_only(digits) -> tuple[sv.Kitchen, Textbook]:
    kitchen, book = digits
    return kitchen, Textbook(book.model, {name: book.files[name] for name in kitchen.names}, book.data)


def test_demo_every_ingredient_scores_as_in_the_textbook_on_every_split(ingredients_only):
    kitchen, book = ingredients_only
    for split in kitchen.splits.reporting:
        assert list(kitchen.scores.of_ingredients(split)) == list(book.files)
        for name in kitchen.names:
            agree(kitchen.scores.score(((name, 1.0),), split), book.count(book.weights[name], split))


def test_demo_uniform_is_the_textbooks(ingredients_only):
    soup = agree_on_uniform(*ingredients_only, ["held_out", "test", "shifts.rotated", "shifts.noisy"])
    assert set(soup.coefficients.values()) == {1 / 12}


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, "mean"])
def test_demo_greedy_is_the_textbooks(ingredients_only, alpha):
    soup = agree_on_greedy(*ingredients_only, alpha)
    assert {step.accepted for step in soup.trajectory[1:]} == {True, False}


def test_demo_curve_is_the_textbooks(digits):
    agree_on_curve(*digits, "digits_00", "digits_11", 9, "held_out")
    agree_on_curve(*digits, "base", "digits_06", 4, "test", start=-0.5, stop=1.5)


# Networks and files of other kinds


def small(
    folder: Path,
    source: str,
    shape: Sequence[int],
    change: Callable[[Weights], Weights] = lambda tensors: tensors,
    **keys,
) -> tuple[sv.Kitchen, Textbook]:
    file = small_kitchen(folder, source=source, shape=shape, num_ingredients=6, change=change, **keys)
    names = yaml.safe_load(file.read_text())["ingredients"]
    files = {Path(name).stem: folder / name for name in names}
    return sv.Kitchen.load(file), Textbook(build_model(source), files, arrays(folder))


def agree_on_everything(kitchen: sv.Kitchen, book: Textbook) -> None:
    agree_on_uniform(kitchen, book, ["held_out", "test"])
    soups = [agree_on_greedy(kitchen, book, alpha) for alpha in (0.1, 0.3, 0.5, "mean")]
    decisions = {step.accepted for soup in soups for step in soup.trajectory[1:]}
    assert decisions == {True, False}, "the example decides nothing"
    agree_on_curve(kitchen, book, "m_0", "m_2", 5, "test")


def test_a_batchnorm_network_is_mixed_as_in_the_textbook(tmp_path):
    """Running statistics averaged, batch counters at their maximum."""
    kitchen, book = small(tmp_path, BATCHNORM, (3, 8, 8), scale=0.05)
    agree_on_everything(kitchen, book)
    counters = [int(weights["1.num_batches_tracked"]) for weights in book.weights.values()]
    assert len(set(counters)) == 6
    assert int(sv.uniform(kitchen).state_dict()["1.num_batches_tracked"]) == max(counters)


def test_a_tied_network_is_mixed_as_in_the_textbook(tmp_path):
    kitchen, book = small(tmp_path, TIED, (6,))
    agree_on_everything(kitchen, book)
    soup = sv.greedy(kitchen).state_dict()
    assert torch.equal(soup["first.weight"], soup["second.weight"])


def test_bfloat16_checkpoints_are_mixed_as_in_the_textbook(tmp_path):
    """Accumulated in float32 and rounded once, so greedy with alpha is checked against coefficients multiplied out."""

    def halved(tensors: Weights) -> Weights:
        return {key: tensor.bfloat16() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}

    kitchen, book = small(tmp_path, MLP, (6,), halved)
    agree_on_uniform(kitchen, book, ["held_out", "test"])
    agree_on_greedy(kitchen, book, "mean")
    agree_on_curve(kitchen, book, "m_0", "m_2", 5, "test")
    for alpha in (0.1, 0.3, 0.5):
        soup = sv.greedy(kitchen, alpha=alpha)
        weights, first = {}, soup.trajectory[0].ingredient
        weights[first] = 1.0
        for step in soup.trajectory[1:]:
            tried = {name: share * (1 - alpha) for name, share in weights.items()} | {step.ingredient: alpha}
            found = book.count(add([(book.weights[name], share) for name, share in tried.items()]))
            assert abs(step.correct - found.correct) <= int(found.close.sum())
            weights = tried if step.accepted else weights
        assert dict(soup.mix) == pytest.approx(weights, rel=1e-12)
        assert {tensor.dtype for tensor in soup.state_dict().values()} == {torch.bfloat16}


def test_checkpoints_of_mixed_formats_are_mixed_as_in_the_textbook(tmp_path):
    kitchen, book = small(tmp_path, MLP, (6,), suffix=[".safetensors", ".pt", ".bin"])
    assert {item.path.suffix for item in kitchen.ingredients} == {".safetensors", ".pt", ".bin"}
    agree_on_everything(kitchen, book)


def test_the_comparison_would_notice_one_wrong_weight(tmp_path):
    kitchen, book = small(tmp_path, MLP, (6,))
    book.weights["m_3"]["2.bias"][0] += 0.5
    with pytest.raises(AssertionError):
        agree_on_everything(kitchen, book)


# The real CIFAR-10 kitchen


@pytest.fixture(scope="module")
def pictures(cifar: Path) -> tuple[sv.Kitchen, Textbook]:
    """JPEGs decoded once with PIL and torchvision's own Resize (of uint8 tensors) and Normalize."""
    from torchvision import models, transforms
    from torchvision.datasets import ImageFolder

    document = yaml.safe_load(cifar.read_text())
    spec = document["data"]["held_out"]
    steps = transforms.Compose(
        [
            transforms.PILToTensor(),
            transforms.Resize(spec["transform"]["resize"]),
            transforms.ConvertImageDtype(torch.float32),
            transforms.Normalize(spec["transform"]["mean"], spec["transform"]["std"]),
        ]
    )
    folder = ImageFolder(cifar.parent / spec["path"], steps)
    # PyTorch's own layout for pictures: the same loop in half the time.
    images = torch.stack([image for image, _ in folder]).contiguous(memory_format=torch.channels_last)
    files = {path.stem: path for path in sorted(cifar.parent.glob("ft_*.safetensors"))}
    model = models.shufflenet_v2_x0_5(num_classes=10).to(memory_format=torch.channels_last)
    book = Textbook(model, files, {"held_out": (images, torch.tensor(folder.targets))})
    # The textbook's loop is held against held_out alone.
    document["data"] = {"held_out": spec}
    alone = cifar.with_name("held_out_alone.yaml")
    alone.write_text(yaml.safe_dump(document), encoding="utf-8")
    return sv.Kitchen.load(alone), book


def test_cifar_uniform_is_the_textbooks(pictures):
    soup = agree_on_uniform(*pictures, ["held_out"])
    assert soup.scores["held_out"].accuracy == pytest.approx(0.696, abs=0.001)


@pytest.mark.slow
def test_cifar_greedy_of_three_is_the_textbooks(pictures):
    soup = agree_on_greedy(*pictures, 0.1, ["ft_00", "ft_01", "ft_04"])
    assert [step.accepted for step in soup.trajectory] == [True, True, False]


@pytest.mark.slow
def test_cifar_greedy_of_the_first_seven_is_the_textbooks(pictures):
    kitchen, book = pictures
    soup = agree_on_greedy(kitchen, book, 0.1, [f"ft_{index:02d}" for index in range(7)])
    assert sum(step.accepted for step in soup.trajectory[1:]) == 4
    assert soup.trajectory[0].accuracy == pytest.approx(0.704, abs=0.001)
    assert soup.scores["held_out"].accuracy == pytest.approx(0.709, abs=0.001)


def test_cifar_curve_is_the_textbooks(pictures):
    agree_on_curve(*pictures, "ft_00", "ft_09", 3, "held_out")
