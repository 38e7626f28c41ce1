"""What the examples share: where their data lies, unpacking, seeds, and telling what came of it."""

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor

import soupviz as sv
from soupviz.analysis import decisions
from soupviz.analysis.regime import explained
from soupviz.analysis.significance import Measured
from soupviz.analysis.verdicts import Verdict, best_on_held_out, verdict_of
from soupviz.analysis.wording import apart, between, measure, units
from soupviz.recipes import parse
from soupviz.spec import HELD_OUT, TEST
from soupviz.tasks.significance import chance, holm
from soupviz.tasks.wording import PERCENT, cell, places

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"

GREEDY_SOUP = "greedy soup"
COMPARED = {
    "uniform soup": {"method": "uniform"},
    GREEDY_SOUP: {"method": "greedy"},
    "ensemble of all": {"method": "ensemble"},
}
"""What every example holds against the best single checkpoint."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asked for. folder: where the kitchen is made. data: where the archives lie.

    quick: shortened, to see that everything runs; its figures say nothing.
    """

    folder: Path
    data: Path
    quick: bool = False

    def source(self, name: str) -> Path:
        """A file or folder of the data; where it is not there the program ends with a line that says so."""
        path = self.data / name
        if not path.exists():
            sys.exit(f"{path}: no such data; name the folder that holds {name} with --data.")
        return path

    def unpacked(self, archive: str) -> Path:
        """The folder that an archive was unpacked into, once."""
        target = self.folder / "data" / archive.partition(".")[0]
        if not target.is_dir():
            half = target.with_suffix(".half")
            with tarfile.open(self.source(archive)) as opened:
                opened.extractall(half, filter="data")
            half.rename(target)
        return target


def order(name: str, description: str, arguments: Sequence[str] | None = None) -> Order:
    """What the command line of an example asks for."""
    parser = argparse.ArgumentParser(prog=f"python -m examples.{name}", description=description)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "kitchens" / name, metavar="FOLDER")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the archives (default: ../shared/data)")
    parser.add_argument("--quick", action="store_true", help="shortened, to see that it runs")
    given = parser.parse_args(arguments)
    return Order(given.folder.resolve(), given.data.resolve(), given.quick)


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def soupviz(*arguments: object) -> dict[str, Any]:
    """What one of soupviz's own commands answers; its mistakes end the program as they end the command."""
    command = [sys.executable, "-m", "soupviz", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip())
    answered: dict[str, Any] = json.loads(done.stdout)
    return answered


def fresh(folder: Path) -> Path:
    """An empty folder for a run that is not whole yet, beside the one that it is renamed to when it is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def missing_runs(folder: Path, names: Iterable[str]) -> list[str]:
    """Those that are not trained yet: a command that was stopped goes on with them."""
    return [name for name in names if not (folder / name).exists()]


def write_kitchen(folder: Path, document: Mapping[str, Any], name: str = "kitchen.yaml") -> Path:
    """The kitchen.yaml of a folder."""
    file = folder / name
    file.write_text(yaml.safe_dump(dict(document), sort_keys=False), encoding="utf-8")
    return file


def save(tensors: Mapping[str, Tensor], file: Path, **facts: object) -> None:
    """A checkpoint with what made it, under its name only when it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half, told = file.with_suffix(".half"), {key: str(value) for key, value in facts.items()}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, half, told)
    half.rename(file)


@dataclass(frozen=True, slots=True)
class Row:
    """A soup against the best single checkpoint. used: of how many checkpoints; None where it is no one weighted sum.
    p_value: Holm-corrected over the rows of its kitchen; None where it is the best checkpoint itself. log: of a search,
    what its decisions come to."""

    name: str
    verdict: Verdict
    used: int | None
    p_value: float | None
    seconds: float
    log: str

    def as_dict(self) -> dict[str, Any]:
        best = self.verdict.best
        found = best.differences.get(TEST) if best else None
        return {
            "name": self.name, "used": self.used, "passes": self.verdict.passes, "seconds": round(self.seconds, 1),
            "scores": _plain(self.verdict.values), "p_value": self.p_value,
            "difference": found and {"value": found.difference, "low": found.low, "high": found.high},
            "sentence": self.verdict.sentence, "log": self.log,
        }  # fmt: skip


def _plain(values: Mapping[str, Measured]) -> dict[str, Any]:
    return {
        split: {"value": one.value, "low": one.low, "high": one.high, "num_units": one.num_units}
        for split, one in values.items()
    }


def found_in(kitchen: sv.Kitchen, rows: Sequence[Row]) -> dict[str, Any]:
    """What came of a kitchen, as plain data."""
    best = rows[0].verdict.best
    assert best is not None
    return {
        "kitchen": kitchen.name, "task": kitchen.task.name, "unit": kitchen.task.unit,
        "metric": kitchen.objective.label, "in_percent": kitchen.objective.unit == PERCENT,
        "best": {"name": best.name, "scores": _plain(best.values)}, "rows": [row.as_dict() for row in rows],
    }  # fmt: skip


def compare(kitchen: sv.Kitchen, recipes: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Each recipe that the kitchen's task has, cooked and held against the best single checkpoint."""
    kitchen.scores.of_ingredients(HELD_OUT)
    best = best_on_held_out(kitchen)
    assert best is not None
    kitchen.scores.score(((best, 1.0),), TEST)  # a verdict tells what is known, and computes nothing
    found = []
    for name, values in recipes.items():
        if reason := parse(values).suited(kitchen.task).unfit(kitchen.task):
            say(f"left out: {name}: {reason}")
            continue
        started = time.monotonic()
        soup = sv.cook(kitchen, values)
        found.append((name, soup, verdict_of(kitchen, soup), time.monotonic() - started))
        say(f"cooked {name} in {found[-1][-1]:.0f} s: {soup.made_of}")
    # What is the best checkpoint itself is no second look.
    raw = {
        name: one.best.differences[TEST].p_value
        for name, soup, one, _ in found
        if one.best and soup.mix != one.best.mix
    }
    corrected = dict(zip(raw, holm(list(raw.values())), strict=True))
    return [_row(kitchen, name, soup, one, corrected.get(name), seconds) for name, soup, one, seconds in found]


def _row(kitchen: sv.Kitchen, name: str, soup: sv.Soup, one: Verdict, p_value: float | None, seconds: float) -> Row:
    log = decisions.log(kitchen, soup.recipe, soup.trajectory)
    told = explained(kitchen, soup.recipe, log) if log else ""
    return Row(name, one, None if soup.coefficients is None else len(soup.mix), p_value, seconds, told)


def table(kitchen: sv.Kitchen, rows: Sequence[Row]) -> str:
    """The rows in Markdown, below the best single checkpoint."""
    metric = kitchen.objective
    best, split = rows[0].verdict.best, TEST
    assert best is not None

    def cells(values: Mapping[str, Any]) -> str:
        on_test, around = values[split], between(metric, values[split].low, values[split].high)
        selected, reported = (cell(metric, one.value, places(one.num_units)) for one in (values[HELD_OUT], on_test))
        return f"{selected} | {reported} ({around})"

    lines = [
        f"| {kitchen.name} | of | held_out | {split}, {units(kitchen.task, best.values[split].num_units)} (95 %) | "
        f"against the best, {measure(metric)} | p (Holm) |",
        "|---|---|---|---|---|---|",
        f"| best single: {best.name} | 1 | {cells(best.values)} | | |",
    ]
    for row in rows:
        versus = row.verdict.best.differences[split] if row.verdict.best else None
        used = row.used or "all, layer by layer"
        if row.p_value is None or versus is None:
            lines.append(f"| {row.name} | {used} | {cells(row.verdict.values)} | the best itself | |")
            continue
        told = f"{apart(metric, versus.difference)} ({apart(metric, versus.low)} to {apart(metric, versus.high)})"
        p = chance(row.p_value, versus.is_least).removeprefix("p ").removeprefix("= ")
        lines.append(f"| {row.name} | {used} | {cells(row.verdict.values)} | {told} | {p} |")
    greedy = next(row for row in rows if row.name == GREEDY_SOUP)
    return "\n".join([*lines, "", f"{greedy.name}: {greedy.verdict.sentence} {greedy.log}"])


def tell(place: Order, name: str, told: str, kitchens: Mapping[str, Mapping[str, Any]], **more: Any) -> None:
    """Print what was found, and write it beside the kitchen: results.md for people, results.json for programs."""
    (place.folder / "results.md").write_text(f"{told}\n", encoding="utf-8")
    plain = {"example": name, "quick": place.quick, "kitchens": kitchens, **more}
    (place.folder / "results.json").write_text(json.dumps(plain, indent=1, allow_nan=True), encoding="utf-8")
    say(f"\n{told}\n\nwrote {place.folder / 'results.md'}")
