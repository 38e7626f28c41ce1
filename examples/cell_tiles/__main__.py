"""Macro F1 of the kinds of cells in a tile, of greedy soups of fine-tunes."""

import shutil
from collections.abc import Sequence
from typing import Any

from examples import common, sweeping
from examples.blood_cells.training import CELLS
from examples.cell_tiles import model, training


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("cell_tiles", __doc__, arguments)
    order.unpacked("blood-cells-detection.tar.xz")
    data = training.write_data(order)
    folder = training.train(order)
    shutil.copy(str(model.__file__), folder / "model.py")

    def split(name: str) -> dict[str, Any]:
        return {"format": "arrays", "path": str(data / f"{name}.npz"), "group": "image"}

    document = {
        "name": "Blood cells, kinds in a tile",
        "task": "multilabel",
        "model": {"factory": "model.py:build"},
        "classes": list(CELLS),
        "data": {one: split(one) for one in ("held_out", "test")},
    }
    sweeping.judged(order, "cell_tiles", folder, document)


if __name__ == "__main__":
    main()
