"""Classification: one of several classes for each example, by softmax; a head of one output stands for two classes."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from soupviz.errors import DataError, ModelError
from soupviz.models.building import logits_of
from soupviz.tasks.calibration import Decisions
from soupviz.tasks.classes.class_metrics import ACCURACY, CLOSE_LOGITS, LOSS, TOP5, CalibrationError, MacroF1
from soupviz.tasks.ensembles import combined
from soupviz.tasks.outcomes import FINITE, Column, Outcomes
from soupviz.tasks.right_or_wrong import RightOrWrong
from soupviz.tasks.score import Score
from soupviz.tasks.task import NOTHING
from soupviz.tasks.wording import cell_of

FACTS = (
    "accuracy", "correct", "num_examples", "loss", "macro_f1", "class_correct", "class_count", "top5_correct", "ece",
)  # fmt: skip
"""What a score tells beside its metrics, by the names that the command line's contract has for good."""


def earlier_step(values: Mapping[str, Any], num_units: int) -> Mapping[str, Any]:
    """A decision as versions before tasks kept it, in the layout of today.

    Args:
        num_units: of the split, as far as the decisions beside it tell; one that came early tells it not.
    """
    accuracy, best = values["accuracy"], values["best_accuracy"]
    number = max(num_units, values["num_examples_scored"])
    return {
        **values,
        "value": accuracy,
        "best_value": best,
        "num_scored": values["num_examples_scored"],
        "num_units": number,
        "bound": values["accuracy_at_most"],
        "metrics": {"accuracy": values["accuracy_at_most"]},
        "best_metrics": {"accuracy": best},
    }


class Classification(RightOrWrong):
    """The default task."""

    name = "classification"
    labels = "classes"
    has_classes = True
    in_tables = ("accuracy", "loss", "top5", "macro_f1")
    barrier = "loss"
    has_logits = True
    has_probabilities = True
    metrics = (ACCURACY, LOSS, MacroF1(), TOP5, CalibrationError())

    @property
    def key(self) -> list[Any]:
        return [] if self.version == 1 else super().key

    def carried_over(self, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        if "values" in plain:
            return plain
        number, top5 = plain["num_examples"], plain.get("top5_correct")
        values = {"accuracy": [plain["correct"], number], "loss": plain["loss"], "macro_f1": plain["macro_f1"]}
        values |= {"top5": None if top5 is None else [top5, number], "ece": plain.get("ece")}
        kept = {name: plain[name] for name in ("num_nonfinite", "num_close", "precision", "device") if name in plain}
        facts = {name: plain.get(name) for name in FACTS}
        return {**kept, "num_units": number, "values": values, "facts": facts}

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(answers, labels.to(answers.device))

    def soft_loss(self, answers: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """`T^2 * KL(teacher_T || student_T)`, in nats.

        Source:
            Hinton et al. 2015 (arXiv 1503.02531), section 2. Differs: KL, which is their cross-entropy with the soft
            targets less the teacher's own entropy, so that the gradients are the same and a perfect student has loss 0.
        """
        student_log, teacher_log = (F.log_softmax(one / temperature, dim=1) for one in (answers, teacher))
        # The gradients shrink as 1 / T^2: the factor keeps the weight of the labels meaning the same at each T.
        return temperature**2 * F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)

    def averaged(self, answers: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
        return combined(answers, weights, output)

    def decisions(self, answers: NDArray[np.float32], labels: Tensor) -> Decisions:
        return Decisions(answers, labels.numpy())

    def earlier_columns(self, plain: Mapping[str, Any], columns: Mapping[str, Column]) -> Mapping[str, Column]:
        """Without what an earlier version kept of heads with five classes or fewer, whose best five are all."""
        is_idle = "values" not in plain and plain.get("top5_correct") is None
        return {name: values for name, values in columns.items() if not (is_idle and name == "top5")}

    def answers(self, output: Any) -> Tensor:
        return logits_of(output)

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """Of logits, shape (batch, classes); not finite counts as wrong.

        Raises:
            DataError: a label outside the head's range.
            ModelError: fewer than two classes.
        """
        logits = answers.float().cpu()
        num_classes = logits.shape[1]
        if num_classes < 2:
            raise ModelError(f"the model's head has {num_classes} outputs; expected one per class, at least 2.")
        if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
            raise DataError(
                f"labels run from {int(labels.min())} to {int(labels.max())}, but the model's head has "
                f"{num_classes} outputs (0 to {num_classes - 1}). Check the model's args and the data's classes."
            )
        finite = logits.amax(dim=1).isfinite() & logits.amin(dim=1).isfinite()
        safe = logits if finite.all() else logits.nan_to_num(0.0, 0.0, 0.0)
        top = safe.topk(min(5, num_classes), dim=1)
        best = top.indices[:, 0]
        equal = top.values[:, 0] == top.values[:, 1]
        if equal.any():  # of which the first counts, whatever topk says
            best = best.where(~equal, safe.argmax(dim=1))
        predictions = best.where(finite, -1)
        likelihoods = F.log_softmax(safe, dim=1)
        losses = F.nll_loss(likelihoods, labels, reduction="none").where(finite, torch.nan)
        confidences = likelihoods.gather(1, best[:, None])[:, 0].exp().where(finite, torch.nan)
        in_top5 = {"top5": ((top.indices == labels[:, None]).any(dim=1) & finite).numpy()} if num_classes > 5 else {}
        return {
            FINITE: finite.numpy(),
            "right": (predictions == labels).numpy(),
            "prediction": predictions.to(torch.int32).numpy(),
            "loss": losses.numpy(),
            "margin": (top.values[:, 0] - top.values[:, 1]).where(finite, torch.inf).numpy(),
            "confidence": confidences.numpy(),
            **in_top5,
        }

    def row(self, score: Score) -> Mapping[str, Any]:
        """The columns of 0.1.0, then the objective and what tables show, where they are others."""
        names = ("accuracy", "loss", "macro_f1", "num_examples", "correct")
        row = {"top5_accuracy": score.shown("top5")} | {name: score.facts[name] for name in names}
        others = (name for name in (score.metric, *self.in_tables) if name not in row and name != "top5")
        return row | {name: score.shown(name) for name in others}

    def point(self, score: Score) -> Mapping[str, Any]:
        first = {"accuracy": score.shown("accuracy"), "loss": score.whole(LOSS)}
        return first | {name: score.facts[name] for name in ("correct", "num_examples")}

    def in_words(self, score: Score) -> Mapping[str, str]:
        objective = {metric.label: metric for metric in self.metrics if metric.name == score.metric}
        cells = {label: cell_of(metric, score) for label, metric in objective.items()}
        cells["accuracy"] = cell_of(ACCURACY, score)
        cells["correct"] = f"{score.facts['correct']}/{score.num_units}"
        cells["loss"] = cell_of(LOSS, score)
        return cells

    def step(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        known = values["metrics"].get("accuracy")
        accuracy = known if values["value"] is not None else None
        return {
            "accuracy": accuracy,
            "correct": None if accuracy is None else round(accuracy * values["num_units"]),
            "best_accuracy": values["best_metrics"].get("accuracy"),
            "num_examples_scored": values["num_scored"],
            "accuracy_at_most": known,
        }

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        return classes[int(outcomes["label"][row])]

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        """Right or wrong, the class that is predicted, and how sure the model is."""
        prediction = int(outcomes["prediction"][row])
        if prediction < 0:
            return NOTHING
        mark = "✓" if outcomes["right"][row] else "✗"
        return f"{mark} {classes[prediction]}, {100 * float(outcomes['confidence'][row]):.0f} %"

    def groups(self, labels: Tensor) -> NDArray[np.int64] | None:
        found: NDArray[np.int64] = labels.numpy()
        return found

    def facts(self, outcomes: Outcomes, width: int) -> Mapping[str, Any]:
        labels, right = outcomes["label"], outcomes["right"]
        loss = LOSS.value(outcomes)
        ece = CalibrationError().value(outcomes)
        return {
            "accuracy": float(Fraction(int(right.sum()), len(outcomes))),
            "correct": int(right.sum()),
            "num_examples": len(outcomes),
            "loss": None if loss is None else float(loss),
            "macro_f1": MacroF1().value(outcomes),
            "class_correct": np.bincount(labels[right], minlength=width).tolist(),
            "class_count": np.bincount(labels, minlength=width).tolist(),
            "top5_correct": int(outcomes["top5"].sum()) if "top5" in outcomes else None,
            "ece": ece,
            "num_close": int((outcomes["margin"] < CLOSE_LOGITS).sum()),
        }
