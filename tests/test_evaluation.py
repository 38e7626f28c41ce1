from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kitchens import BATCHNORM, MLP, build_model, labelled, small_kitchen
from scores import CLASSIFICATION, judged
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional as F

from soupviz.data.split import Split
from soupviz.errors import Cancelled, DataError, KitchenError, ModelError
from soupviz.kitchen import Kitchen
from soupviz.scoring.evaluator import Evaluator, Trial, choose_device
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Score

CPU = torch.device("cpu")


def split_of(inputs: Tensor | dict[str, Tensor], labels: Tensor, normalization=None) -> Split:
    named = inputs if isinstance(inputs, dict) else {"": inputs}
    return Split("held_out", named, labels, None, normalization, "fingerprint")


def evaluator(model: nn.Module, **options) -> Evaluator:
    return Evaluator(model, CPU, **options)


def evaluate(
    used: Evaluator, split: Split, *, found: Outcomes | None = None, **options
) -> tuple[Outcomes, Tensor | None]:
    """Score the weights that the evaluator's model has."""
    trial = Trial(lambda: (), found or used.blank(split))
    logits = used.evaluate(split, trial, **options)
    return trial.found, logits


def same(a: Outcomes, b: Outcomes) -> bool:
    assert np.array_equal(a.scored, b.scored)
    assert a.columns.keys() == b.columns.keys()
    return all(np.array_equal(a[name], b[name], equal_nan=True) for name in a.columns)


class Table(nn.Module):
    """Returns rows of a table of logits: input i gives row i. Remembers the size of each batch."""

    def __init__(self, logits: Tensor, out_of_memory_above: int = 10**9):
        super().__init__()
        self.register_buffer("logits", logits)
        self.limit = out_of_memory_above
        self.batches: list[int] = []

    def forward(self, index: Tensor) -> Tensor:
        self.batches.append(len(index))
        if len(index) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.logits[index]


def table_split(labels: list[int]) -> Split:
    return split_of(torch.arange(len(labels)), torch.tensor(labels))


def scored(logits: Tensor, labels: list[int]) -> Score:
    result, _ = evaluate(evaluator(Table(logits)), table_split(labels))
    return judged(result, width=logits.shape[1])


@pytest.fixture(scope="module")
def mlp() -> nn.Module:
    return build_model(MLP)


@pytest.fixture(scope="module")
def mlp_split(mlp) -> Split:
    return split_of(*labelled(mlp, (6,), 103, seed=1))


# Counts and losses


def test_an_evaluation_computed_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    score = scored(logits, [0, 1, 1])
    assert (score.correct, score.num_examples, score.accuracy) == (2, 3, 2 / 3)
    losses = [np.log(1 + np.exp(-2)), np.log(1 + np.exp(-1)), np.log(1 + np.exp(3))]
    assert score.loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert (score.class_correct, score.class_count) == ((1, 1), (1, 2))
    assert score.outcomes["prediction"].tolist() == [0, 1, 0]
    assert score.outcomes["right"].tolist() == [True, True, False]
    assert score.outcomes["margin"].tolist() == [2.0, 1.0, 3.0]


def test_per_example_losses_are_cross_entropy_in_nats(mlp, mlp_split):
    result, logits = evaluate(evaluator(mlp), mlp_split, keep_logits=True)
    reference = F.cross_entropy(logits, mlp_split.labels, reduction="none")
    np.testing.assert_allclose(result["loss"], reference.numpy(), rtol=1e-5)
    assert np.array_equal(result["right"], (logits.argmax(1) == mlp_split.labels).numpy())


def test_logits_are_kept_only_when_asked_in_float32(mlp, mlp_split):
    assert evaluate(evaluator(mlp), mlp_split)[1] is None
    logits = evaluate(evaluator(mlp, batch_size=10), mlp_split, keep_logits=True)[1]
    with torch.no_grad():
        torch.testing.assert_close(logits, mlp(mlp_split.inputs[""]))


@pytest.mark.parametrize("num_classes", [2, 3, 5, 6, 10])
def test_top5_is_counted_only_for_more_than_five_classes(num_classes):
    generator = torch.Generator().manual_seed(num_classes)
    logits = torch.randn(50, num_classes, generator=generator)
    labels = torch.randint(0, num_classes, (50,), generator=generator)
    score = scored(logits, labels.tolist())
    if num_classes <= 5:
        assert score.top5_correct is None
    else:
        ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
        assert score.top5_correct == int((ranks < 5).sum())
        assert score.correct < score.top5_correct < 50 or num_classes == 6


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_classes", [2, 4, 12])
def test_macro_f1_is_scikit_learns(num_classes, seed):
    """Also where some classes occur only as predictions, only as labels, or not at all."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(15, num_classes, generator=generator)
    labels = torch.randint(0, max(2, num_classes - 2), (15,), generator=generator)
    expected = f1_score(labels.numpy(), logits.argmax(1).numpy(), average="macro", zero_division=0)
    assert scored(logits, labels.tolist()).macro_f1 == pytest.approx(expected, abs=1e-12)


def test_per_class_counts_add_up(mlp, mlp_split):
    result, _ = evaluate(evaluator(mlp), mlp_split)
    score = judged(result, width=3)
    for label in range(3):
        chosen = mlp_split.labels.numpy() == label
        assert score.class_count[label] == chosen.sum()
        assert score.class_correct[label] == result["right"][chosen].sum()
    assert sum(score.class_correct) == score.correct


def test_two_top_logits_that_nearly_tie_are_counted_as_close():
    logits = torch.tensor([[1.0, 1.00001], [1.0, 1.5], [1.0, 1.0]])
    assert scored(logits, [1, 1, 1]).num_close == 2


# Logits that are not finite


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_example_whose_logits_are_not_all_finite_counts_as_wrong_and_is_counted(bad):
    logits = torch.tensor([[bad, 9.0, 0, 0, 0, 0], [0.0, 9.0, 0, 0, 0, 0], [0.0, 9.0, 0, 0, 0, bad]])
    score = scored(logits, [1, 1, 0])
    assert (score.correct, score.num_nonfinite, score.num_examples) == (1, 2, 3)
    assert score.top5_correct == 1
    assert score.outcomes["prediction"].tolist() == [-1, 1, -1]
    assert score.loss == pytest.approx(np.log(1 + 5 * np.exp(-9)), abs=1e-6)
    assert score.num_close == 0


def test_a_model_that_never_gives_finite_logits_has_no_loss_and_no_correct_example():
    score = scored(torch.full((3, 2), torch.nan), [0, 1, 0])
    assert (score.correct, score.loss, score.num_nonfinite, score.macro_f1) == (0, None, 3, 0.0)


# Batches, precision, memory


@pytest.mark.parametrize("source", [MLP, BATCHNORM])
@pytest.mark.parametrize("batch_size", [1, 7, 103, 1000])
def test_the_batch_size_changes_no_decision_and_no_loss_beyond_rounding(source, batch_size):
    model = build_model(source)
    split = split_of(*labelled(model, (6,) if source == MLP else (3, 8, 8), 103, seed=1))
    reference, _ = evaluate(evaluator(model, batch_size=50), split)
    result, _ = evaluate(evaluator(model, batch_size=batch_size), split)
    decided = reference["margin"] > 1e-4
    assert decided.sum() >= 100
    assert np.array_equal(result["prediction"][decided], reference["prediction"][decided])
    np.testing.assert_allclose(result["loss"], reference["loss"], atol=1e-5)


def test_channels_last_is_for_convolutional_networks():
    assert evaluator(build_model(BATCHNORM)).is_channels_last
    assert not evaluator(build_model(MLP)).is_channels_last


def test_an_evaluation_computes_no_gradients_and_leaves_running_statistics_alone():
    model = build_model(BATCHNORM)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.train()
    evaluate(evaluator(model), split_of(*labelled(build_model(BATCHNORM), (3, 8, 8), 20, seed=1)))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_load_swaps_every_weight_in_place(mlp_split):
    first, second = build_model(MLP), build_model(MLP)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    shared = evaluator(first)
    places = [parameter.data_ptr() for parameter in first.parameters()]
    shared.load(second.state_dict().items())
    assert [parameter.data_ptr() for parameter in first.parameters()] == places
    assert same(evaluate(shared, mlp_split)[0], evaluate(evaluator(second), mlp_split)[0])


def test_uint8_images_are_normalized_on_the_way():
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return images.mean(dim=(2, 3))

    images = torch.full((4, 3, 2, 2), 255, dtype=torch.uint8)
    split = split_of(images, torch.zeros(4, dtype=torch.int64), ((0.5, 0.5, 0.5), (0.5, 0.25, 0.125)))
    evaluate(evaluator(Spy()), split)
    assert seen[-1].dtype == torch.float32
    assert seen[-1][0, :, 0, 0].tolist() == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_a_reduced_precision_computes_in_it_and_is_recorded(tmp_path, precision, dtype):
    full = Kitchen.load(small_kitchen(tmp_path / "full"))
    reduced = Kitchen.load(small_kitchen(tmp_path / "reduced", precision=precision))
    scores = [kitchen.scores.score((("m_0", 1.0),)) for kitchen in (full, reduced)]
    assert [score.precision for score in scores] == ["float32", precision]
    losses = [score.outcomes["loss"] for score in scores]
    assert not np.array_equal(*losses)
    np.testing.assert_allclose(losses[1], losses[0], atol=0.1)
    outputs = []
    reduced.evaluator.model[-1].register_forward_hook(lambda *call: outputs.append(call[2].dtype))
    evaluate(reduced.evaluator, reduced.splits.load("held_out"))
    assert set(outputs) == {dtype}
    assert {item.dtype for item in reduced.evaluator.model.parameters()} == {torch.float32}


def test_scores_of_another_precision_are_not_taken_from_the_store(tmp_path):
    small_kitchen(tmp_path)
    first = Kitchen.load(tmp_path).scores.score((("m_0", 1.0),))
    small_kitchen(tmp_path, precision="bfloat16")
    assert Kitchen.load(tmp_path).scores.score((("m_0", 1.0),)).precision == "bfloat16" != first.precision


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_the_work_goes_on():
    labels = [index % 2 for index in range(50)]
    logits = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    model = Table(logits, out_of_memory_above=5)
    small = evaluator(model, batch_size=32)
    result, _ = evaluate(small, table_split(labels))
    assert model.batches[:4] == [32, 16, 8, 4]
    assert set(model.batches[3:]) == {4, 2}
    assert small.batch_size == 4
    assert same(result, evaluate(evaluator(Table(logits)), table_split(labels))[0])


def test_one_example_that_does_not_fit_into_memory_is_an_error():
    with pytest.raises(DataError, match="one example alone needs too much memory: OutOfMemoryError"):
        evaluate(evaluator(Table(torch.zeros(4, 2), out_of_memory_above=0), batch_size=4), table_split([0, 1, 0, 1]))


def test_the_cpus_own_out_of_memory_message_is_understood():
    class Full(Table):
        def forward(self, index: Tensor) -> Tensor:
            if len(index) > 3:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: ...")
            return super().forward(index)

    small = evaluator(Full(torch.zeros(8, 2)), batch_size=8)
    assert len(evaluate(small, table_split([0] * 8))[0]) == 8
    assert small.batch_size == 2


# What models take and return


class TwoInputs(nn.Module):
    def forward(self, ids: Tensor, weights: Tensor) -> Tensor:
        assert ids.dtype == torch.int64
        return F.one_hot(ids, 3) * weights[:, None]


def test_dict_inputs_are_passed_by_name():
    inputs = {"weights": torch.tensor([1.0, -1.0, 1.0]), "ids": torch.tensor([0, 1, 2])}
    result, _ = evaluate(evaluator(TwoInputs(), batch_size=2), split_of(inputs, torch.tensor([0, 1, 2])))
    assert result["right"].tolist() == [True, False, True]


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: SimpleNamespace(logits=x), lambda x: {"logits": x, "loss": None}]
)
def test_logits_are_found_in_what_the_model_returns(wrap):
    class Wrapped(Table):
        def forward(self, index: Tensor):
            return wrap(super().forward(index))

    result, _ = evaluate(evaluator(Wrapped(torch.eye(3))), table_split([0, 1, 0]))
    assert result["right"].tolist() == [True, True, False]


def test_inputs_that_the_model_does_not_take_are_named_by_shape(mlp):
    split = split_of(torch.zeros(4, 7), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(DataError, match=r"data\.held_out: the model does not take its examples \(shapes \[\(7,\)\]\)"):
        evaluate(evaluator(mlp), split)


class Picky(nn.Module):
    """Raises what it is told to."""

    def __init__(self, error: BaseException):
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AssertionError("wants 9"), "AssertionError: wants 9"),
        (KeyError("logits"), "KeyError: 'logits'"),
        (AttributeError("no attribute"), "AttributeError: no attribute"),
        (NotImplementedError(), r"NotImplementedError in .*test_evaluation\.py, line \d+: raise self\.error"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_whatever_a_model_raises_is_one_clear_error(mlp_split, error, said):
    with pytest.raises(DataError, match=rf"data\.held_out: the model does not take its examples .*: {said}"):
        evaluate(evaluator(Picky(error)), mlp_split)


def test_our_own_bugs_are_not_taken_for_the_models(mlp, mlp_split, monkeypatch):
    monkeypatch.setattr(Classification, "outcomes", None)
    with pytest.raises(TypeError):
        evaluate(evaluator(mlp), mlp_split)


def test_images_of_another_size_than_the_models_name_both_and_the_remedy():
    model = Picky(AssertionError("wrong height"))
    model.image_size = 32
    pixels = torch.zeros(2, 3, 224, 224, dtype=torch.uint8)
    split = split_of(pixels, torch.tensor([0, 1]), normalization=((0.0,) * 3, (1.0,) * 3))
    with pytest.raises(
        DataError, match=r"wrong height.*images of 224 pixels, the model says it is built for 32: give it `resize`"
    ):
        evaluate(evaluator(model), split)


def test_a_head_of_one_output_answers_with_class_0_or_1():
    result, logits = evaluate(
        evaluator(Table(torch.tensor([[-1.0], [2.0], [-1.0]]))), table_split([0, 1, 1]), keep_logits=True
    )
    assert result["prediction"].tolist() == [0, 1, 0]
    assert result["right"].tolist() == [True, True, False]
    assert logits.tolist() == [[0, -1], [0, 2], [0, -1]]
    with pytest.raises(DataError, match=r"labels run from 0 to 2, but the model's head has 2 outputs"):
        evaluate(evaluator(Table(torch.zeros(3, 1))), table_split([0, 1, 2]))


def test_only_allowed_classes_are_predicted_and_kept_as_logits():
    table = torch.tensor([[5.0, 1.0, 2.0], [5.0, 4.0, 3.0]])
    split = replace(table_split([2, 1]), allowed=(1, 2))
    result, logits = evaluate(evaluator(Table(table)), split, keep_logits=True)
    assert result["prediction"].tolist() == [2, 1]
    expected = nn.functional.cross_entropy(table[:, 1:], torch.tensor([1, 0]), reduction="none")
    np.testing.assert_allclose(result["loss"], expected, rtol=1e-6)
    assert logits.argmax(1).tolist() == [2, 1]
    assert torch.isfinite(logits).all()


def test_labels_outside_the_head_are_refused(mlp):
    split = split_of(torch.zeros(4, 6), torch.tensor([0, 1, 2, 3]))
    with pytest.raises(DataError, match=r"labels run from 0 to 3, but the model's head has 3 outputs \(0 to 2\)"):
        evaluate(evaluator(mlp), split)
    with pytest.raises(DataError, match="labels run from -1 to 0"):
        CLASSIFICATION.outcomes(torch.zeros(2, 3), torch.tensor([-1, 0]))


def test_a_head_of_one_output_is_refused():
    with pytest.raises(ModelError, match="the model's head has 1 outputs; expected one per class, at least 2"):
        CLASSIFICATION.outcomes(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))


def test_the_width_is_that_of_the_head(mlp, mlp_split):
    assert evaluator(mlp).width(mlp_split) == 3


# Cancelling and resuming


def test_a_cancel_is_honoured_within_one_batch():
    model = Table(torch.eye(40))

    def stop() -> None:
        if len(model.batches) >= 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate(evaluator(model, batch_size=10), table_split(list(range(40))), on_batch=stop)
    assert model.batches == [10, 10]


def test_progress_is_told_after_every_batch():
    told: list[int] = []
    used, split = evaluator(Table(torch.eye(25)), batch_size=10), table_split(list(range(25)))
    found = used.blank(split)
    evaluate(used, split, found=found, on_batch=lambda: told.append(found.num_scored))
    assert told == [10, 20, 25]


@pytest.mark.parametrize("already", [1, 10, 39, 40])
def test_an_evaluation_that_goes_on_from_a_part_equals_the_whole(already):
    logits = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    labels = [index % 4 for index in range(40)]
    whole, _ = evaluate(evaluator(Table(logits), batch_size=10), table_split(labels))
    part = evaluator(Table(logits)).blank(table_split(labels))
    part.write(np.arange(already), whole.take(np.arange(already)).columns)
    model = Table(logits)
    result, _ = evaluate(evaluator(model, batch_size=10), table_split(labels), found=part)
    assert same(result, whole)
    assert sum(model.batches) == 40 - already


def test_a_cancelled_score_goes_on_where_it_stopped(tmp_path):
    small_kitchen(tmp_path, batch_size=20)
    whole = Kitchen.load(small_kitchen(tmp_path / "other", batch_size=20)).scores.score((("m_1", 1.0),))
    kitchen = Kitchen.load(tmp_path)
    kitchen.splits.load("held_out")

    def stop(done: int, total: int, what: str) -> None:
        assert (total, what) == (200, "scoring held_out")
        if done >= 60:
            raise Cancelled

    with pytest.raises(Cancelled):
        kitchen.scores.score((("m_1", 1.0),), progress=stop)
    told: list[int] = []
    again = Kitchen.load(tmp_path)
    score = again.scores.score((("m_1", 1.0),), progress=lambda done, _total, what: told.append(done))
    assert [done for done in told if done > 1][:2] == [80, 100]
    assert score == whole
    assert same(score.outcomes, whole.outcomes)


# Devices


def test_auto_is_the_best_device_and_a_missing_one_is_refused():
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == best
    assert choose_device("cpu") == CPU
    with pytest.raises(KitchenError, match="device is 'cuda:99', which this machine does not have; use device: auto"):
        choose_device("cuda:99")
