"""Knowledge distillation: a student is trained on the labels and on what a teacher says of each example."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from soupviz.errors import RecipeError
from soupviz.files import digest
from soupviz.learning.training_state import Epoch, State, due_after, resumed, save
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.task import Task
from soupviz.types import Progress, quiet
from soupviz.weights.ingredients import fingerprint

WEIGHT_DECAY = 0.01
"""Of AdamW, on all parameters."""

Take = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Distillation:
    """How a student is trained.

    temperature: both sides' logits are divided by it in the soft loss. hard: weight of the cross-entropy with the
    labels; 1 - hard is the soft loss's. learning_rate: of the first step, from where it falls to 0 along a cosine.
    """

    temperature: float = 2.0
    hard: float = 0.5
    epochs: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 128
    seed: int = 0


def distillation_loss(
    logits: Tensor, labels: Tensor, teacher: Tensor, temperature: float, hard: float, task: Task | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`hard * loss(student, labels) + (1 - hard) * soft_loss(student, teacher)`, mean over the batch.

    Of a classifier that is `hard * CE(student, labels) + (1 - hard) * T^2 * KL(teacher_T || student_T)`, in nats.

    Args:
        logits: the student's answers; teacher: the teacher's, of the same shape.
        task: whose losses they are; default: classification.
    Returns:
        The loss, its hard part and its soft part, neither weighted.
    """
    task = task or Classification()
    hard_loss = task.loss(logits, labels)
    soft_loss = task.soft_loss(logits, teacher, temperature)
    return hard * hard_loss + (1.0 - hard) * soft_loss, hard_loss, soft_loss


def distill(
    student: nn.Module,
    take: Take,
    labels: Tensor,
    teacher: Tensor,
    parameters: Distillation,
    *,
    device: torch.device,
    task: Task | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], object] = lambda _epoch: None,
    progress: Progress = quiet,
) -> list[Epoch]:
    """Train a student in place, all of its parameters, also those that ask for no gradient; it ends in eval mode.

    What is drawn at a step follows from the seed and the step's number alone, so that a training that goes on from its
    checkpoint ends with the same student bit for bit, on one device whose kernels repeat (the CPU's do). BatchNorm's
    statistics are gathered as training gathers them. The caller's random state is left as it was.

    Args:
        take: gives the inputs of some examples, by their positions (int64, on the CPU), as the model takes them.
        labels: of a classifier int64, shape (num_examples,).
        teacher: its answers, float32, of a classifier logits of shape (num_examples, num_classes), of the examples
            without augmentation.
        task: whose losses are lowered; default: classification.
        checkpoint: a file that is written after each epoch, and every so often within a long one. Where it is there
            already and of the same student, parameters, labels and teacher, training goes on from it; else anew.
        on_epoch: told of each epoch once its checkpoint is written; not again of those before a resumption.
    Returns:
        Every epoch, also those before a resumption.
    Raises:
        RecipeError: a parameter is out of range, shapes do not agree, train is empty, or the student diverged.
        ExportError: the checkpoint cannot be written.
        Cancelled: from the progress callback.
    Source:
        Hinton et al. 2015 (arXiv 1503.02531); AdamW: Loshchilov and Hutter 2019 (arXiv 1711.05101), with the cosine of
        their 2017 (arXiv 1608.03983) without restarts.
    """
    task = task or Classification()
    _check(parameters, labels, teacher, task)
    student.to(device)
    key = _key(student, parameters, labels, teacher) if checkpoint else ""
    num_batches = len(_batches(len(labels), parameters, 0))
    total = parameters.epochs * num_batches
    with _training(student, device):
        optimizer = torch.optim.AdamW(student.parameters(), lr=parameters.learning_rate, weight_decay=WEIGHT_DECAY)
        state = resumed(checkpoint, key, student, optimizer) if checkpoint else State()
        due = due_after(time.monotonic())
        for epoch in range(state.step // num_batches, parameters.epochs):
            for rows in _batches(len(labels), parameters, epoch)[state.step % num_batches :]:
                if checkpoint and time.monotonic() > due:
                    due = save(checkpoint, key, student, optimizer, state)
                progress(state.step, total, f"distilling, epoch {epoch + 1} of {parameters.epochs}")
                started = time.monotonic()
                for group in optimizer.param_groups:
                    group["lr"] = parameters.learning_rate * (1 + math.cos(math.pi * state.step / total)) / 2
                torch.manual_seed(_seed(parameters, "step", state.step))  # of dropout
                answers = labels[rows].to(device), teacher[rows].to(device)
                found = _step(student, optimizer, take(rows), *answers, parameters, task)
                state.sums = [before + value for before, value in zip(state.sums, found, strict=True)]
                state.seconds += time.monotonic() - started
                state.step += 1
            _end_epoch(state, student, len(labels), task)
            if checkpoint:
                due = save(checkpoint, key, student, optimizer, state)
            on_epoch(state.history[-1])
        progress(total, total, "distilled")
    return state.history


def _check(parameters: Distillation, labels: Tensor, teacher: Tensor, task: Task) -> None:
    for name, most in (("temperature", 100), ("learning_rate", 1)):
        if not 0.0 < (value := getattr(parameters, name)) <= most:
            raise RecipeError(f"distill: {name} is {value}; expected above 0 and at most {most}.")
    if not 0.0 <= parameters.hard <= 1.0:
        raise RecipeError(f"distill: hard is {parameters.hard}; expected from 0 (teacher only) to 1 (labels only).")
    if parameters.epochs < 1 or parameters.batch_size < 2:
        raise RecipeError(
            f"distill: epochs is {parameters.epochs} and batch_size {parameters.batch_size}; expected at least 1 and "
            "at least 2 (BatchNorm cannot train on a single example)."
        )
    if not len(labels):
        raise RecipeError("distill: train is empty; a student needs examples to learn from. Check data.train.")
    is_odd = task.has_logits and (labels.ndim != 1 or teacher.ndim != 2)
    if is_odd or len(labels) != len(teacher):
        raise RecipeError(
            f"distill: labels of shape {tuple(labels.shape)} and teacher's logits of shape {tuple(teacher.shape)}; "
            "expected (num_examples,) and (num_examples, num_classes)."
        )
    if task.has_logits and (int(labels.min()) < 0 or int(labels.max()) >= teacher.shape[1]):
        raise RecipeError(
            f"distill: labels run from {int(labels.min())} to {int(labels.max())}, but the teacher has "
            f"{teacher.shape[1]} classes. Check data.train."
        )
    if num_bad := int((~torch.isfinite(teacher.flatten(1)).all(dim=1)).sum()):
        raise RecipeError(
            f"distill: the teacher's logits of {num_bad} examples are not finite; choose a teacher that can judge all."
        )


def _seed(parameters: Distillation, what: str, number: int) -> int:
    return int(digest([parameters.seed, what, number])[:15], 16)


def _batches(num_examples: int, parameters: Distillation, epoch: int) -> list[Tensor]:
    """The positions of an epoch's batches, shuffled."""
    generator = torch.Generator().manual_seed(_seed(parameters, "epoch", epoch))
    batches = list(torch.split(torch.randperm(num_examples, generator=generator), parameters.batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:  # on which BatchNorm cannot train
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@contextmanager
def _training(student: nn.Module, device: torch.device) -> Iterator[None]:
    asked = [(parameter, parameter.requires_grad) for parameter in student.parameters()]
    student.train().requires_grad_(True)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
            yield
    finally:
        student.eval()
        for parameter, flag in asked:
            parameter.requires_grad_(flag)
            parameter.grad = None


def _step(
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Mapping[str, Tensor],
    labels: Tensor,
    teacher: Tensor,
    parameters: Distillation,
    task: Task,
) -> list[float]:
    """One step of the optimizer; what it adds to an epoch's sums."""
    logits = task.answer_batch(student, inputs).float()
    if teacher.ndim == 3:  # what is kept of units of varying length is filled up to the longest of all
        teacher = teacher[:, : logits.shape[1]]
    if logits.shape != teacher.shape:
        raise RecipeError(
            f"distill: the student's logits are of shape {tuple(logits.shape)}, the teacher's of "
            f"{tuple(teacher.shape)}; expected the same classes. Choose a student with the teacher's head."
        )
    losses = distillation_loss(logits, labels, teacher, parameters.temperature, parameters.hard, task)
    optimizer.zero_grad()
    losses[0].backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    right = (logits.argmax(dim=1) == labels).float().mean() if task.has_logits else torch.zeros_like(losses[0])
    means: list[float] = torch.stack([*losses, right]).detach().tolist()
    if not math.isfinite(means[0]):
        raise _diverged(f"its loss is {means[0]}")
    return [mean * len(labels) for mean in means]


def _diverged(how: str) -> RecipeError:
    return RecipeError(f"distill: the student diverged ({how}); lower learning_rate.")


def _end_epoch(state: State, student: nn.Module, num_examples: int, task: Task) -> None:
    if not all(bool(torch.isfinite(parameter).all()) for parameter in student.parameters()):
        raise _diverged("its weights are not finite")  # after the last step, which no loss has seen
    loss, hard_loss, soft_loss, right = (total / num_examples for total in state.sums)
    share = right if task.has_logits else None
    state.history.append(Epoch(len(state.history) + 1, loss, hard_loss, soft_loss, share, state.seconds))
    state.sums, state.seconds = [0.0] * len(state.sums), 0.0


def _key(student: nn.Module, parameters: Distillation, labels: Tensor, teacher: Tensor) -> str:
    """Whose training a checkpoint is: the student's as it begins."""
    tensors = {f"student.{key}": part for key, part in student.state_dict().items() if isinstance(part, Tensor)}
    tensors |= {"labels": labels, "teacher": teacher}
    return digest(["distillation 1", asdict(parameters), fingerprint(tensors)])
