"""Whether a split that was read goes with the model that is to answer it, and what there is to tell of the two."""

from dataclasses import replace

from soupviz.data import splits as checks
from soupviz.data.loading import Check
from soupviz.data.split import Split
from soupviz.scoring.batchnorm import padding_told
from soupviz.scoring.evaluator import Evaluator
from soupviz.spec import HELD_OUT, TRAIN


def checked_by(evaluator: Evaluator) -> Check:
    """Whether a split goes with the model's head; train too, which is never scored."""

    def check(split: Split, place: str) -> Split:
        width = evaluator.width(split)
        checks.check_head(split, place, width, evaluator.task.labels)
        notes = [f"data.{split.name}: {one}" for one in evaluator.task.check_split(split, width)]
        if split.name == TRAIN:
            evaluator.try_two(split)
            padding = padding_told(evaluator.model, split, evaluator.batch_size)
            notes += [f"data.{split.name}: {one}" for one in padding]
        if split.name == HELD_OUT and evaluator.task.has_logits:  # of the model, told once
            notes += evaluator.told_of_outputs(split)
        return replace(split, notes=(*split.notes, *notes)) if notes else split

    return check
