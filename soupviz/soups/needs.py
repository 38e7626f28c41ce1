"""What a recipe needs and a kitchen lacks."""

from collections.abc import Iterable

from soupviz.kitchen import Kitchen


def lacking_for(kitchen: Kitchen, needs: Iterable[str]) -> str:
    """What of `base`, `train`, `slices`, `shifts` is needed and missing, and where to put it; empty for nothing."""
    data = kitchen.spec.data
    there = {"base": kitchen.weights.base, "train": data.train, "slices": data.held_out.slices, "shifts": data.shifts}
    missing = [name for name in sorted(needs) if not there[name]]
    remedies = {"base": "`base: FILE`", "train": "`train:` under `data:`", "shifts": "`shifts:` under `data:`"}
    remedies["slices"] = "`slices: {file: FILE.csv, column: NAME}` under `held_out:`"
    return f"{kitchen.file} has no {missing[0]}; add {remedies[missing[0]]} to it" if missing else ""
