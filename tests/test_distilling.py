import copy
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from kitchens import BATCHNORM, build_model
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch import Tensor, nn
from torch.nn import functional as F

from soupviz.errors import Cancelled, ExportError, RecipeError
from soupviz.learning import distilling, training_state
from soupviz.learning.distilling import Distillation, distill, distillation_loss
from soupviz.learning.training_state import Epoch
from soupviz.tasks.masks.segmentation import Segmentation
from soupviz.tasks.task import Task

CPU = torch.device("cpu")
QUICK = Distillation(epochs=3, batch_size=32, learning_rate=1e-2)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(make, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def network(dropout: float = 0.0) -> nn.Module:
    """Not trained; 3 classes from 6 features."""
    return seeded(lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3)))


def with_everything() -> nn.Module:
    """BatchNorm and dropout: what a training must bring back when it goes on."""
    return seeded(lambda: nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 3)))


class Problem:
    """Inputs, and a teacher whose answers differ from the labels in some."""

    def __init__(self, num_examples: int = 200) -> None:
        self.inputs = random(num_examples, 6, seed=1)
        with torch.no_grad():
            self.teacher = 4 * seeded(lambda: nn.Linear(6, 3), seed=2)(self.inputs)
        self.labels = self.teacher.argmax(dim=1)
        self.labels[::5] = (self.labels[::5] + 1) % 3

    def take(self, rows: Tensor) -> dict[str, Tensor]:
        return {"": self.inputs[rows]}

    def distill(self, student: nn.Module, parameters: Distillation = QUICK, **options) -> list[Epoch]:
        return distill(student, self.take, self.labels, self.teacher, parameters, device=CPU, **options)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def without_seconds(history: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in history]


# The loss


def test_the_loss_by_hand():
    """Student (0, 0), teacher (T ln 3, 0): softened to 1/2, 1/2 and 3/4, 1/4."""
    temperature = 2.0
    teacher = torch.tensor([[temperature * np.log(3.0), 0.0]])
    loss, hard, soft = distillation_loss(torch.zeros(1, 2), torch.tensor([1]), teacher, temperature, 0.25)
    divergence = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert hard.item() == pytest.approx(np.log(2))
    assert soft.item() == pytest.approx(4 * divergence, rel=1e-5)
    assert loss.item() == pytest.approx(0.25 * np.log(2) + 0.75 * 4 * divergence, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("hard", [0.0, 0.3, 1.0])
def test_the_loss_is_scipys(temperature, hard):
    logits, teacher, labels = 3 * random(7, 5), 3 * random(7, 5, seed=1), torch.arange(7) % 5
    found = distillation_loss(logits, labels, teacher, temperature, hard)
    cross_entropy = -log_softmax(logits.double().numpy(), axis=1)[np.arange(7), labels.numpy()].mean()
    sides = [softmax(one.double().numpy() / temperature, axis=1) for one in (teacher, logits)]
    divergence = entropy(*sides, axis=1).mean()
    assert found[1].item() == pytest.approx(cross_entropy, rel=1e-5)
    assert found[2].item() == pytest.approx(temperature**2 * divergence, rel=1e-4)
    expected = hard * cross_entropy + (1 - hard) * temperature**2 * divergence
    assert found[0].item() == pytest.approx(expected, rel=1e-4)


def test_hard_1_is_plain_cross_entropy():
    logits, labels = random(6, 4), torch.arange(6) % 4
    loss, *_ = distillation_loss(logits, labels, random(6, 4, seed=1), 3.0, 1.0)
    assert torch.equal(loss, F.cross_entropy(logits, labels))


def test_hard_0_at_temperature_1_is_the_divergence_from_the_teacher():
    logits, teacher = random(6, 4), random(6, 4, seed=1)
    loss, *_ = distillation_loss(logits, torch.zeros(6, dtype=torch.int64), teacher, 1.0, 0.0)
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=teacher), torch.distributions.Categorical(logits=logits)
    )
    torch.testing.assert_close(loss, divergence.mean())


def test_a_student_that_says_what_the_teacher_says_has_no_soft_loss():
    logits = random(6, 4)
    _, _, soft = distillation_loss(logits, torch.zeros(6, dtype=torch.int64), logits + 7.0, 2.0, 0.0)
    assert soft.item() == pytest.approx(0.0, abs=1e-6)


def test_the_gradients_of_the_soft_loss_are_those_of_hintons_cross_entropy_with_soft_targets():
    logits, teacher = random(6, 4).requires_grad_(), random(6, 4, seed=1)
    _, _, soft = distillation_loss(logits, torch.zeros(6, dtype=torch.int64), teacher, 2.0, 0.0)
    [found] = torch.autograd.grad(soft, logits)
    [expected] = torch.autograd.grad(4.0 * F.cross_entropy(logits / 2.0, (teacher / 2.0).softmax(dim=1)), logits)
    torch.testing.assert_close(found, expected)


def test_the_gradients_hardly_depend_on_a_high_temperature():
    """As section 2.1 has it: for high T they are (student - teacher) / N where both are of zero mean."""
    logits, teacher = (one - one.mean(dim=1, keepdim=True) for one in (random(1, 4), random(1, 4, seed=1)))
    logits.requires_grad_()
    _, _, soft = distillation_loss(logits, torch.tensor([0]), teacher, 1000.0, 0.0)
    [found] = torch.autograd.grad(soft, logits)
    torch.testing.assert_close(found, (logits - teacher).detach() / 4, atol=1e-3, rtol=1e-2)


# Training


def test_an_untrained_student_learns_the_teachers_answers():
    problem, student = Problem(), network()
    history = problem.distill(student, Distillation(hard=0.0, epochs=20, batch_size=32, learning_rate=2e-2))
    with torch.no_grad():
        answers = student(problem.inputs).argmax(dim=1)
    agreement = (answers == problem.teacher.argmax(dim=1)).float().mean().item()
    assert agreement > 0.97
    assert (answers == problem.labels).float().mean().item() < 0.85  # a fifth of the labels is not the teacher's
    assert [epoch.number for epoch in history] == list(range(1, 21))
    assert history[-1].soft_loss < 0.1 * history[0].soft_loss


def test_one_step_is_adamws_by_hand():
    """The first step of AdamW moves each weight by the learning rate against the sign of its gradient."""
    problem, student = Problem(num_examples=32), network()
    before = copy.deepcopy(student)
    loss, *_ = distillation_loss(before(problem.inputs), problem.labels, problem.teacher, 2.0, 0.5)
    loss.backward()
    [epoch] = problem.distill(student, Distillation(epochs=1, batch_size=32, learning_rate=1e-3))
    assert epoch.loss == pytest.approx(loss.item(), rel=1e-5)
    assert epoch.accuracy == pytest.approx((before(problem.inputs).argmax(1) == problem.labels).float().mean().item())
    for new, old in zip(student.parameters(), before.parameters(), strict=True):
        expected = old * (1 - 1e-3 * distilling.WEIGHT_DECAY) - 1e-3 * old.grad.sign()
        moved = old.grad.abs() > 1e-4
        torch.testing.assert_close(new[moved], expected[moved], atol=2e-6, rtol=0)


def test_the_learning_rate_falls_from_the_given_one_along_a_cosine(monkeypatch):
    seen = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: (seen.append(self.param_groups[0]["lr"]), step(self))[1]
    )
    Problem(num_examples=64).distill(network(), Distillation(epochs=2, batch_size=32, learning_rate=0.1))
    assert seen == pytest.approx([0.1, 0.1 * (1 + np.cos(np.pi / 4)) / 2, 0.05, 0.1 * (1 - np.cos(np.pi / 4)) / 2])


def test_the_same_seed_gives_the_same_student_and_another_another():
    problem = Problem()
    one, again, other = (with_everything() for _ in range(3))
    torch.manual_seed(1)
    problem.distill(one)
    torch.manual_seed(2)
    problem.distill(again)
    problem.distill(other, replace(QUICK, seed=1))
    assert same_weights(one, again)
    assert not same_weights(one, other)


def test_every_example_is_seen_once_an_epoch_in_another_order_each_time():
    problem, seen = Problem(num_examples=50), []

    def take(rows: Tensor) -> dict[str, Tensor]:
        seen.append(rows)
        return problem.take(rows)

    distill(network(), take, problem.labels, problem.teacher, replace(QUICK, epochs=2), device=CPU)
    first, second = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(50))
    assert first.tolist() != second.tolist()


def test_a_last_batch_of_one_example_joins_the_one_before_it_for_batchnorm():
    assert len(Problem(num_examples=65).distill(with_everything(), replace(QUICK, epochs=1))) == 1


def test_named_inputs_are_given_by_name():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, *, pixels: Tensor) -> dict[str, Tensor]:
            return {"logits": self.layer(pixels)}

    problem = Problem()
    history = distill(
        Named(), lambda rows: {"pixels": problem.inputs[rows]}, problem.labels, problem.teacher, QUICK, device=CPU
    )
    assert history[-1].loss < history[0].loss


def test_statistics_are_gathered_and_the_student_ends_in_evaluation_mode():
    student = build_model(BATCHNORM)
    before = copy.deepcopy(student.state_dict())
    inputs = 5 + random(40, 3, 8, 8)
    labels = torch.arange(40) % 3
    distill(student, lambda rows: {"": inputs[rows]}, labels, random(40, 3, seed=3), QUICK, device=CPU)
    assert student.state_dict()["1.num_batches_tracked"] == 6
    assert not torch.equal(student.state_dict()["1.running_mean"], before["1.running_mean"])
    assert not any(module.training for module in student.modules())


def test_parameters_that_ask_for_no_gradient_are_trained_and_then_ask_for_none():
    """So it is with the model of a kitchen."""
    student = network().requires_grad_(False)
    before = copy.deepcopy(student)
    Problem().distill(student)
    pairs = zip(student.parameters(), before.parameters(), strict=True)
    assert all(not torch.equal(new, old) for new, old in pairs)
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in student.parameters())


def test_labels_teacher_and_the_random_state_are_left_as_they_were():
    problem = Problem()
    labels, teacher = problem.labels.clone(), problem.teacher.clone()
    state = torch.random.get_rng_state()
    problem.distill(with_everything())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(problem.labels, labels)
    assert torch.equal(problem.teacher, teacher)


def test_progress_is_told_at_every_batch_and_epochs_as_they_end():
    told, ended = [], []
    history = Problem(num_examples=96).distill(
        network(), progress=lambda done, total, what: told.append((done, total, what)), on_epoch=ended.append
    )
    assert [done for done, _, _ in told] == list(range(10))
    assert {total for _, total, _ in told} == {9}
    assert told[3][2] == "distilling, epoch 2 of 3"
    assert ended == history
    assert all(epoch.seconds > 0 for epoch in history)


# Going on


def stop_at(step: int):
    def progress(done: int, _total: int, _what: str) -> None:
        if done == step:
            raise Cancelled

    return progress


@pytest.mark.parametrize("step", [0, 7, 10, 14, 20])
def test_a_resumed_training_gives_the_same_student_bit_for_bit(tmp_path, step):
    """Cancelled before, within and between epochs of 7 steps; dropout, BatchNorm and AdamW's moments included."""
    problem, whole, stopped, resumed = Problem(), with_everything(), with_everything(), with_everything()
    expected = problem.distill(whole)
    with pytest.raises(Cancelled):
        problem.distill(stopped, checkpoint=tmp_path / "state.pt", progress=stop_at(step))
    first = []
    found = problem.distill(resumed, checkpoint=tmp_path / "state.pt", progress=lambda done, *_: first.append(done))
    assert first[0] == step // 7 * 7
    assert same_weights(resumed, whole)
    assert without_seconds(found) == without_seconds(expected)
    assert not stopped.training


def test_within_a_long_epoch_the_state_is_kept_too(tmp_path, monkeypatch):
    for place in (distilling, training_state):
        monkeypatch.setattr(place, "due_after", lambda _started: 0.0)
    problem, whole, resumed = Problem(), with_everything(), with_everything()
    expected = problem.distill(whole)
    with pytest.raises(Cancelled):
        problem.distill(with_everything(), checkpoint=tmp_path / "state.pt", progress=stop_at(11))
    first = []
    found = problem.distill(resumed, checkpoint=tmp_path / "state.pt", progress=lambda done, *_: first.append(done))
    assert first[0] == 11
    assert same_weights(resumed, whole)
    assert without_seconds(found) == without_seconds(expected)


def test_a_training_that_is_over_is_not_trained_again(tmp_path):
    problem, student, again = Problem(), with_everything(), with_everything()
    history = problem.distill(student, checkpoint=tmp_path / "state.pt")
    ended = []
    assert problem.distill(again, checkpoint=tmp_path / "state.pt", on_epoch=ended.append) == history
    assert same_weights(again, student)
    assert ended == []


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_ignored(tmp_path):
    problem, file = Problem(), tmp_path / "state.pt"
    fresh = with_everything()
    problem.distill(fresh)

    def starts(change=lambda _problem: None, parameters=QUICK, student=None) -> int:
        other, told = Problem(), []
        change(other)
        other.distill(
            student or with_everything(), parameters, checkpoint=file, progress=lambda done, *_: told.append(done)
        )
        return told[0]

    def relabel(other: Problem) -> None:
        other.labels[0] = (other.labels[0] + 1) % 3

    def reteach(other: Problem) -> None:
        other.teacher[0, 0] += 1e-3

    assert starts() == 0
    assert starts() == 21
    assert starts(relabel) == 0
    assert starts(reteach) == 0
    assert starts(parameters=replace(QUICK, temperature=3.0)) == 0
    other_start = with_everything()
    nn.init.zeros_(other_start[0].bias)
    assert starts(student=other_start) == 0
    file.write_bytes(file.read_bytes()[:1000])
    again = with_everything()
    problem.distill(again, checkpoint=file)
    assert same_weights(again, fresh)
    torch.save([1, 2], file)
    assert starts() == 0


def test_the_checkpoint_is_read_with_weights_only(tmp_path):
    Problem().distill(network(), checkpoint=tmp_path / "state.pt")
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    assert kept["state"]["step"] == 21
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; expected above 0 and at most 100"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; expected above 0 and at most 1"),
        ({"learning_rate": 1e30}, r"learning_rate is 1e\+30"),
        ({"hard": 1.5}, r"hard is 1.5; expected from 0 \(teacher only\) to 1 \(labels only\)"),
        ({"epochs": 0}, "epochs is 0 and batch_size 32; expected at least 1"),
        ({"batch_size": 1}, "batch_size 1; expected at least 1 and at least 2"),
    ],
)
def test_parameters_out_of_range_are_refused(changes, message):
    with pytest.raises(RecipeError, match=f"distill: .*{message}"):
        Problem().distill(network(), replace(QUICK, **changes))


def change_of(**values):
    problem = Problem()
    for name, value in values.items():
        setattr(problem, name, value(problem))
    return problem


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": lambda p: p.labels[:0], "teacher": lambda p: p.teacher[:0]}, "train is empty; a student needs"),
        ({"labels": lambda p: p.labels[:100]}, r"labels of shape \(100,\) and teacher's logits of shape \(200, 3\)"),
        ({"teacher": lambda p: p.teacher[:, 0]}, r"teacher's logits of shape \(200,\); expected"),
        ({"labels": lambda p: p.labels + 1}, "labels run from 1 to 3, but the teacher has 3 classes"),
        (
            {"teacher": lambda p: F.pad(p.teacher, (0, 1))},
            r"the student's logits are of shape \(32, 3\), the teacher's",
        ),
        ({"teacher": lambda p: p.teacher.where(p.labels[:, None] != 0, torch.inf)}, "logits of .* are not finite"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(RecipeError, match=f"distill: .*{message}"):
        change_of(**changes).distill(network())


def test_a_student_that_diverges_is_told_with_its_remedy_and_not_kept(tmp_path):
    problem = change_of(inputs=lambda p: 1e38 * p.inputs)
    with pytest.raises(RecipeError, match=r"the student diverged \(its loss is (nan|inf)\); lower learning_rate"):
        problem.distill(network(), checkpoint=tmp_path / "state.pt")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_the_last_step_spoilt_are_told_too():
    class Root(nn.Module):
        """Its gradient at 0 is infinite, its value is not."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs[:, :3] + self.weight.sqrt()

    with pytest.raises(RecipeError, match=r"the student diverged \(its weights are not finite\); lower learning_rate"):
        Problem(num_examples=32).distill(Root(), replace(QUICK, epochs=1))


def test_a_checkpoint_that_cannot_be_written_is_one_clear_error(tmp_path):
    with pytest.raises(ExportError, match=r"state.pt: cannot be written .* Free some space"):
        Problem().distill(network(), checkpoint=tmp_path / "nowhere" / "state.pt")


def test_the_records_are_plain_data():
    assert asdict(Distillation()) == {
        "temperature": 2.0, "hard": 0.5, "epochs": 3, "learning_rate": 1e-3, "batch_size": 128, "seed": 0,
    }  # fmt: skip


def test_a_student_with_fewer_classes_of_pixels_than_the_teacher_is_refused():
    inputs, teacher = random(4, 3, 6, 6), random(4, 5, 6, 6)
    labels = torch.zeros(4, 6, 6, dtype=torch.uint8)
    with pytest.raises(RecipeError, match="the same classes"):
        student = seeded(lambda: nn.Conv2d(3, 2, 1))
        distill(student, lambda rows: {"": inputs[rows]}, labels, teacher, QUICK, device=CPU, task=Segmentation())


def test_a_teachers_answers_are_filled_up_to_the_longest_of_all_and_cut_for_a_batch_of_shorter_units():
    """A batch is as long as its own longest; what is kept of the teacher as that of all."""

    class Frames(Task):
        def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
            return answers.square().mean()

        def soft_loss(self, answers: Tensor, teacher: Tensor, temperature: float) -> Tensor:
            return (answers - teacher).square().mean()

    lengths = torch.tensor([2, 3, 5, 2])
    inputs = random(4, 5, 6)
    teacher = random(4, 5, 3) * (torch.arange(5) < lengths[:, None])[:, :, None]

    def take(rows: Tensor) -> dict[str, Tensor]:
        return {"": inputs[rows, : int(lengths[rows].max())]}

    student = seeded(lambda: nn.Linear(6, 3))
    found = distill(student, take, torch.zeros(4), teacher, replace(QUICK, batch_size=2), device=CPU, task=Frames())
    assert found[-1].loss < found[0].loss
