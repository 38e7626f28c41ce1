"""Is greedy above the best of a sweep, on test? Of a narrow sweep and of a wide one; and what could be told before."""

from collections.abc import Sequence
from typing import Any

import soupviz as sv
from examples import common
from examples.pretrained_sweep import training
from soupviz.analysis import regime


def kitchen_of(order: common.Order, name: str) -> sv.Kitchen:
    """One sweep as a kitchen."""
    folder = training.train(order, name)
    data = order.unpacked("cifar10.tar.xz") / "cifar10"
    part = {"part": {"index": 0, "of": 50}} if order.quick else {}

    def split(which: str) -> dict[str, Any]:
        return {"format": "imagefolder", "path": str(data / which), "transform": training.TRANSFORM, **part}

    document = {
        "name": f"CIFAR-10, a {name} sweep",
        "model": {"factory": f"timm:{training.FACTORY}", "args": {"num_classes": 10}},
        "ingredients": ["ft_*.safetensors"],
        "base": "base.safetensors",
        "data": {which: split(which) for which in ("held_out", "test")},
    }
    return sv.Kitchen.load(common.write_kitchen(folder, document))


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("pretrained_sweep", __doc__, arguments)
    told, values = [], {}
    for name in training.SWEEPS:
        kitchen = kitchen_of(order, name)
        before = regime.measure(kitchen)
        assert before is not None
        common.say(f"before any soup: {before.sentence}")
        rows = common.compare(kitchen, common.COMPARED)
        values[name] = common.found_in(kitchen, rows) | {"before": before.as_dict()}
        told.append(f"{common.table(kitchen, rows)}\n\nBefore: {before.sentence}")
    common.tell(order, "pretrained_sweep", "\n\n".join(told), values)


if __name__ == "__main__":
    main()
