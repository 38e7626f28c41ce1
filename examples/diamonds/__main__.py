"""The error of a diamond's price, of greedy soups of fine-tunes."""

import shutil
from collections.abc import Sequence

from examples import common, sweeping
from examples.diamonds import model, training


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("diamonds", __doc__, arguments)
    splits = training.divided(order.quick)
    data = training.write_data(order, splits)
    folder = training.train(order, splits)
    shutil.copy(str(model.__file__), folder / "model.py")
    document = {
        "name": "Diamonds, logarithms of prices",
        "task": "regression",
        "model": {"factory": "model.py:build"},
        "data": {one: {"format": "arrays", "path": str(data / f"{one}.safetensors")} for one in ("held_out", "test")},
    }
    sweeping.judged(order, "diamonds", folder, document)


if __name__ == "__main__":
    main()
