"""kitchen.yaml: its keys, checked by pydantic; an unknown key is refused and the nearest known one named.

Each key's description is what docs/reference/kitchen.md says of it; words after "; default: " are of a default that is
no constant.
"""

from soupviz.spec.base import Spec
from soupviz.spec.data import FORMATS, OF_IMAGES, DataSpec, GroupSpec, PartSpec, SliceSpec, SplitSpec
from soupviz.spec.images import CORRUPTIONS, TransformSpec
from soupviz.spec.kitchen import (
    HELD_OUT,
    ONCE_CALLED,
    SHIFTS,
    TEST,
    TRAIN,
    ExecutorName,
    KitchenSpec,
    ModelSpec,
    Precision,
    RayWeights,
    SweepSpec,
    TaskSpec,
)

__all__ = [
    "CORRUPTIONS", "FORMATS", "HELD_OUT", "OF_IMAGES", "ONCE_CALLED", "SHIFTS", "TEST", "TRAIN",
    "DataSpec", "ExecutorName", "GroupSpec",
    "KitchenSpec", "ModelSpec", "PartSpec", "Precision", "RayWeights", "SliceSpec", "Spec", "SplitSpec",
    "SweepSpec", "TaskSpec", "TransformSpec",
]  # fmt: skip
