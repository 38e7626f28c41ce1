"""Word error rates: a run's last checkpoint, its best by loss, averages of it, and greedy soups of fine-tunes."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soupviz as sv
from examples import common
from examples.spoken_digits import model, training

OF_RUN = {
    "last checkpoint": {"method": "lawa", "last": 1},
    "best by loss": {"method": "nbest", "n": 1, "by": "log"},
    "5 best by loss": {"method": "nbest", "n": 5, "by": "log"},
    "5 best by WER": {"method": "nbest", "n": 5},
    "best window": {"method": "windows"},
    **common.COMPARED,
}


def kitchen_of(folder: Path, data: Path, name: str, file: str = "kitchen.yaml", **more: Any) -> sv.Kitchen:
    """Checkpoints with the strings that judge them. more: keys of every split."""
    shutil.copy(str(model.__file__), folder / "model.py")

    def split(which: str) -> dict[str, Any]:
        return {"format": "audio", "path": str(data / f"{which}.csv"), "sample_rate": model.RATE, **more}

    document = {
        "name": name,
        "task": {"name": "transcription", "vocabulary": model.VOCABULARY, "blank": 0},
        "model": {"factory": "model.py:build"},
        "ingredients": ["*.safetensors"],
        "data": {which: split(which) for which in ("held_out", "test")},
    }
    return sv.Kitchen.load(common.write_kitchen(folder, document, file))


def by_speaker(folder: Path, data: Path) -> str:
    """What the same soups are told to be where a speaker's strings are resampled together."""
    kitchen = kitchen_of(folder, data, "Fine-tunes, by speaker", "by_speaker.yaml", group="speaker")
    rows = common.compare(kitchen, common.COMPARED)
    return (
        f"Resampled by speaker: {rows[0].verdict.sentence} What is told above is told of strings like these, by this "
        "speaker."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    order = common.order("spoken_digits", __doc__, arguments)
    recordings = training.read_recordings(order.unpacked("free-spoken-digits.tar.xz") / "fsdd" / "recordings")
    data = training.write_data(order, recordings)
    run, fine_tunes = training.train(order, recordings)
    told, values = [], {}
    for folder, name, recipes in ((run, "one run", OF_RUN), (fine_tunes, "fine-tunes", common.COMPARED)):
        kitchen = kitchen_of(folder, data, f"Spoken digits, {name}")
        rows = common.compare(kitchen, recipes)
        told.append(common.table(kitchen, rows))
        values[folder.name] = common.found_in(kitchen, rows)
    told.append(by_speaker(fine_tunes, data))
    common.tell(order, "spoken_digits", "\n\n".join(told), values)


if __name__ == "__main__":
    main()
