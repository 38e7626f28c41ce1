"""mAP of checkpoints of one run, of their SWA, and of greedy soups of fine-tunes."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soupviz as sv
from examples import common
from examples.blood_cells import model, training


def kitchen_of(order: common.Order, folder: Path, data: Path, name: str) -> sv.Kitchen:
    """Checkpoints with the images that judge them."""
    shutil.copy(str(model.__file__), folder / "model.py")
    images = order.unpacked(training.ARCHIVE) / training.FOLDER / "JPEGImages"

    def split(which: str) -> dict[str, Any]:
        return {"format": "coco", "path": str(images), "annotations": str(data / f"{which}.json")}

    document = {
        "name": name,
        "task": "detection",
        "model": {"factory": "model.py:build"},
        "ingredients": ["*.safetensors"],
        "data": {which: split(which) for which in ("held_out", "test")},
        "batch_size": 8,
    }
    return sv.Kitchen.load(common.write_kitchen(folder, document))


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("blood_cells", __doc__, arguments)
    data = training.write_data(order)
    run, fine_tunes = training.train(order)
    latest = {
        "last checkpoint": {"method": "lawa", "last": 1},
        "SWA of the second half": {"method": "swa", "start": 1 + training.start_of(order)},
    }
    told, values = [], {}
    for folder, name, more in ((run, "one run", latest), (fine_tunes, "fine-tunes", {})):
        kitchen = kitchen_of(order, folder, data, f"Blood cells, {name}")
        rows = common.compare(kitchen, more | common.COMPARED)
        told.append(common.table(kitchen, rows))
        singles = {one: kitchen.scores.score(((one, 1.0),)).values["map"] for one in kitchen.names}
        values[folder.name] = common.found_in(kitchen, rows) | {"singles": singles}
    common.tell(order, "blood_cells", "\n\n".join(told), values)


if __name__ == "__main__":
    main()
