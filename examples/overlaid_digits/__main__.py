"""Mean IoU of digits that lie over each other, of greedy soups of fine-tunes."""

import shutil
from collections.abc import Sequence
from typing import Any

from examples import common, sweeping
from examples.overlaid_digits import model, training


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("overlaid_digits", __doc__, arguments)
    splits = training.divided()
    data = training.write_data(order, splits)
    folder = training.train(order, splits)
    shutil.copy(str(model.__file__), folder / "model.py")

    def split(name: str) -> dict[str, Any]:
        images, masks = (str(data / name / kind) for kind in ("images", "masks"))
        return {"format": "masks", "path": images, "masks": masks, "transform": {"channels": 1}}

    document = {
        "name": "Digits over digits",
        "task": "segmentation",
        "model": {"factory": "model.py:build"},
        "classes": ["ground", *map(str, range(10))],
        "data": {one: split(one) for one in ("held_out", "test")},
    }
    sweeping.judged(order, "overlaid_digits", folder, document)


if __name__ == "__main__":
    main()
