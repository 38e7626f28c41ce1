"""python tests/storm.py FOLDER: what is killed at any moment goes on, and comes to what it would have come to.

A process that has imported everything forks for each run, so that a kill costs no start of Python. Runs are killed at
random moments of the time that they take, up to four times, and then let go on with the same store and cache: answers,
files that were written, decoded data and scores must be those of a run that was never killed, bit for bit, nothing else
may lie there, and the store must be whole.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

MOST_KILLS = 4
"""Of one run, before it is let go on to its end."""

NOT_COMPARED = frozenset({"seconds", "created", "updated", "usage"})
"""Keys of an answer that tell of times."""

STORES = ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm")
VIEWS = "views"
"""A folder in the cache: of a process that was killed what it has there goes a day later."""

SUFFIXES = (".lock", ".content")
"""Of files that stay and are no result: what processes wait for one another with, and what is known of files that have
not changed for a while."""

LIBRARIES = ("soupviz", "torch", "torchvision", "PIL", "scipy", "numpy", "pandas", "safetensors", "fsspec", "aiohttp")
"""What takes time to import: a run says what of it, and its parent imports that before the next."""

NUM_IMAGES = 600


@dataclass(frozen=True, slots=True)
class Case:
    """What is killed: a command on a kitchen, whose folder, cache and output are its own."""

    name: str
    folder: Path
    arguments: tuple[str, ...]

    @property
    def kitchen(self) -> Path:
        return self.folder / "kitchen"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


@dataclass
class Told:
    """What came of it."""

    kills: dict[str, int] = field(default_factory=dict)
    runs: int = 0
    problems: list[str] = field(default_factory=list)


def main(
    folder: Annotated[Path, typer.Argument(help="an empty one, for kitchens and caches")],
    kills: Annotated[int, typer.Option(min=1)] = 200,
    seed: Annotated[int, typer.Option()] = 0,
    only: Annotated[str, typer.Option(help="cases, separated by commas")] = "",
) -> None:
    """Kill so many runs; exit 1 where one came to something else. One line of JSON tells what was done."""
    cases = prepared(folder.resolve(), [name for name in CASES if not only or name in only.split(",")])
    told, chance = Told({one.name: 0 for one in cases}), random.Random(seed)
    usual = {one.name: usual_run(one, told) for one in cases}
    turn = 0
    while sum(told.kills.values()) < kills and len(told.problems) < 10:
        one = cases[turn % len(cases)]
        left = kills - sum(told.kills.values())
        storm(one, *usual[one.name], min(left, chance.randint(1, MOST_KILLS)), chance, told)
        turn += 1
    sys.stdout.write(json.dumps({"kills": told.kills, "runs": told.runs, "problems": told.problems}) + "\n")
    raise typer.Exit(1 if told.problems else 0)


def storm(
    case: Case, seconds: float, expected: Mapping[str, Any], kills: int, chance: random.Random, told: Told
) -> None:
    """Kill a run so many times, let it end, and compare."""
    clear(case)
    moments = []
    for _ in range(kills):
        moment = chance.uniform(0, seconds)
        child = begin(case)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):  # it was done already
            break
        moments.append(round(moment, 3))
        told.kills[case.name] += 1
    where = f"{case.name}, killed after {moments} s"
    told.runs += 1
    code = ended(begin(case))
    if code:
        told.problems.append(f"{where}: exit {code}: {(case.folder / 'stderr').read_text(encoding='utf-8')[-500:]}")
        return
    told.problems += [f"{where}: {one}" for one in different(expected, state(case))]


def usual_run(case: Case, told: Told) -> tuple[float, dict[str, Any]]:
    """How long a run takes that nobody kills, and what it comes to; two of them come to the same."""
    clear(case)
    if ended(begin(case)):
        raise RuntimeError((case.folder / "stderr").read_text(encoding="utf-8"))
    for name in (case.folder / "modules").read_text(encoding="utf-8").split():
        if name not in sys.modules:
            import_module(name)
    first = state(case)
    clear(case)
    started = time.monotonic()
    ended(begin(case))
    seconds = time.monotonic() - started
    told.problems += [f"{case.name}, twice without a kill: {one}" for one in different(first, state(case))]
    return seconds, first


def begin(case: Case) -> int:
    """Run the command in a child, which has imported all that its parent has; its process."""
    child = os.fork()
    if child:
        return child
    os.environ["SOUPVIZ_CACHE"] = str(case.cache)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(case.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    from soupviz.cli.run import main as command

    code: Any = 0
    try:
        command(list(case.arguments))
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    names = [name for name, module in sys.modules.items() if name.partition(".")[0] in LIBRARIES]
    (case.folder / "modules").write_text("\n".join(names), encoding="utf-8")
    sys.exit(code)  # through a Python that ends as usual


def ended(child: int) -> int:
    """How a child ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def clear(case: Case) -> None:
    """As if nothing had ever run."""
    for place in (case.cache, case.out, case.kitchen / ".soupviz"):
        shutil.rmtree(place, ignore_errors=True)
    for place in (case.cache, case.out):
        place.mkdir()


# What a run comes to


def state(case: Case) -> dict[str, Any]:
    """Its answer, every file that lies there, and what is in its store."""
    found: dict[str, Any] = {"answer": timeless(json.loads((case.folder / "stdout").read_text(encoding="utf-8")))}
    for root in (case.kitchen, case.out, case.cache):
        for file in sorted(root.rglob("*")):
            if (
                file.is_file()
                and file.name not in STORES
                and not file.name.endswith(SUFFIXES)
                and VIEWS not in file.parts
            ):
                content = file.read_bytes()
                found[str(file.relative_to(case.folder))] = _plain(file, content)
    store = case.kitchen / ".soupviz" / "store.sqlite"
    if store.is_file():
        found["store"] = stored(store)
    return found


def _plain(file: Path, content: bytes) -> Any:
    return timeless(json.loads(content)) if file.suffix == ".json" else content


def timeless(value: Any) -> Any:
    """An answer without what tells of times."""
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in NOT_COMPARED}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def stored(store: Path) -> dict[str, Any]:
    """What a store holds, and whether it is whole."""
    with sqlite3.connect(store) as connection:
        found: dict[str, Any] = {"check": connection.execute("PRAGMA integrity_check").fetchone()[0]}
        columns = "key, split, metric, value, num_units, precision, device, data, summary"
        for name, what in (("results", columns), ("outcomes", "key, columns"), ("findings", "key, value")):
            rows = connection.execute(f"SELECT {what} FROM {name}").fetchall()
            found |= {f"{name} {row[0][:12]}": _told(row[1:]) for row in rows}
        for key, status, result in connection.execute("SELECT key, status, result FROM runs"):
            found[f"run {key[:12]}"] = status, timeless(json.loads(result)) if result else None
    connection.close()
    return found


def _told(row: tuple[Any, ...]) -> list[Any]:
    return [timeless(json.loads(one)) if isinstance(one, str) and one[:1] in "{[" else one for one in row]


def different(expected: Mapping[str, Any], came: Mapping[str, Any]) -> list[str]:
    """Where what came is not what was expected, in words."""
    told = [f"{name} is missing" for name in expected.keys() - came.keys()]
    told += [f"{name} was left over" for name in came.keys() - expected.keys()]
    for name in sorted(expected.keys() & came.keys()):
        one, other = expected[name], came[name]
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            told += [f"{name}: {problem}" for problem in different(one, other)]
        elif isinstance(one, bytes):
            told.append(f"{name}: {len(one)} bytes, and others, were to be {len(other)}")
        else:
            told.append(f"{name}: {str(one)[:120]} became {str(other)[:120]}")
    return told


# What is run


def prepared(folder: Path, names: Sequence[str]) -> list[Case]:
    """The cases of these names, each with its kitchen made; what makes them ends before anything is forked from."""
    torch = import_module("torch")
    torch.set_num_threads(1)
    for name in (
        "soupviz.cli.run",
        "soupviz.cli.cooking",
        "soupviz.cli.measuring",
        "soupviz.soups.exports",
        "scipy.stats",
    ):
        import_module(name)  # what every case takes; what else one takes it says
    cases = []
    for name in names:
        make, arguments = CASES[name]
        place = folder / name
        (place / "kitchen").mkdir(parents=True)
        made = os.fork()
        if not made:
            make(place / "kitchen")
            sys.exit(0)
        if ended(made):
            raise RuntimeError(f"the kitchen of {name} cannot be made")
        filled = [one.format(kitchen=place / "kitchen", out=place / "out") for one in arguments]
        cases.append(Case(name, place, tuple(filled)))
    return cases


def _small(folder: Path, **options: Any) -> None:
    from kitchens import BATCHNORM, small_kitchen

    usual = {"num_ingredients": 5, "num_examples": 400, "train": 200, "batch_size": 20}
    small_kitchen(folder, source=BATCHNORM, shape=(3, 16, 16), **usual | options)


def _large(folder: Path) -> None:
    """Checkpoints whose writing takes a while."""
    from kitchens import small_kitchen

    source = (
        "from torch import nn\n\n\ndef build(features=6, classes=3):\n"
        "    return nn.Sequential(nn.Linear(features, 150000), nn.ReLU(), nn.Linear(150000, classes))\n"
    )
    small_kitchen(folder, source=source, num_ingredients=3, num_examples=30)


def _images(folder: Path) -> None:
    import numpy as np
    from kitchens import small_kitchen
    from PIL import Image

    source = (
        "from torch import nn\n\n\ndef build(classes=2):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, classes))\n"
    )
    generator = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        place = folder / "data" / ("ant", "bee")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture = generator.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(picture).resize((192, 160)).save(place / f"{number}.jpg")
    split = {"format": "imagefolder", "path": "data", "transform": {"resize": 32}}
    small_kitchen(
        folder, source=source, args={"classes": 2}, shape=(3, 8, 8), num_ingredients=2, data={"held_out": split}
    )


def _elsewhere(folder: Path) -> None:
    """Its checkpoints and data lie on a web server of this machine, which ends with the process that asked for it."""
    import yaml
    from elsewhere import serving
    from kitchens import small_kitchen

    here = folder.parent / "elsewhere"
    here.mkdir()
    source = (
        "from torch import nn\n\n\ndef build(features=6, classes=3):\n"
        "    return nn.Sequential(nn.Linear(features, 20000), nn.Linear(20000, classes))\n"
    )
    file = small_kitchen(here, source=source, num_ingredients=3, num_examples=40)
    told, tell = os.pipe()
    parent = os.getppid()
    if not os.fork():
        for descriptor in (1, 2):  # whoever reads the storm's answer does not wait for this process
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        with serving() as web:
            web.files = {path.name: path.read_bytes() for path in here.glob("*.safetensors")}
            web.pause = 0.005
            os.write(tell, web.address.encode())
            os.close(tell)
            while _is_alive(parent):
                time.sleep(0.5)
        os._exit(0)
    os.close(tell)
    address = os.read(told, 100).decode()
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    document["ingredients"] = [f"{address}/{name}" for name in document["ingredients"]]
    document["base"] = f"{address}/{document['base']}"
    for split in document["data"].values():
        split["path"] = f"{address}/{split['path']}"
    (folder / "model.py").write_text((here / "model.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "kitchen.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


CASES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "score": (_small, ["score", "{kitchen}", "--json"]),
    "greedy": (_small, ["soup", "{kitchen}", "--recipe", "greedy", "--json"]),
    "learned": (_small, ["soup", "{kitchen}", "--recipe", "learned", "--epochs", "3", "--json"]),
    "distilled": (_small, ["soup", "{kitchen}", "--recipe", "distilled", "--epochs", "3", "--json"]),
    "export": (
        _large, ["soup", "{kitchen}", "--recipe", "uniform", "--out", "{out}/soup.safetensors", "--json"],
    ),
    "decode": (_images, ["score", "{kitchen}", "--json"]),
    "download": (_elsewhere, ["score", "{kitchen}", "--json"]),
}  # fmt: skip
"""What is killed, by name: what makes its kitchen, and its command."""


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    typer.run(main)
