"""What checkpoints are called, in which order they come, and what their names tell of time."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path

from soupviz.weights.containers import without_suffix

NUMBER = r"\d+(?:\.\d+)?(?:e[-+]?\d{1,2}(?![0-9a-z]))?"
THOUSANDS = {"k": 1_000, "m": 1_000_000}
SHORT = r"[km](?![0-9a-z])"
"""Behind a number that counts thousands or millions: 10k, 1.5M."""
COUNTERS = ("step", "global_step", "iteration", "iter", "epoch", "ep", "checkpoint", "ckpt")
"""Words beside a number that says when a checkpoint was taken, the finest first."""


def natural_key(text: str) -> list[tuple[int, Decimal | str]]:
    """Sorts ft_2 before ft_10, lr0.05 before lr0.1, and 500 before 10k; of numbers that are equal the text decides."""
    parts = re.split(rf"({NUMBER}(?i:{SHORT})?)", text)
    return [(0, _decimal(part)) if index % 2 else (1, part) for index, part in enumerate(parts)] + [(2, text)]


def _decimal(text: str) -> Decimal:
    factor = THOUSANDS.get(text[-1].lower())
    return Decimal(text[:-1]) * factor if factor else Decimal(text)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Each path's shortest unique ending, without a file's suffix, and without a last part that all share.

    a/model.pt and b/model.pt become a and b; x/1.pt and x/2.pt become 1 and 2.
    """
    stems = [path.parts if path.is_dir() else (*path.parts[:-1], without_suffix(path.name)) for path in paths]
    same = Counter(stems)
    stems = [path.parts if same[parts] > 1 else parts for path, parts in zip(paths, stems, strict=True)]
    while len(stems) > 1 and len({parts[-1] for parts in stems}) == 1 and all(len(parts) > 1 for parts in stems):
        stems = [parts[:-1] for parts in stems]
    return [_shortest(parts, stems[:index] + stems[index + 1 :]) for index, parts in enumerate(stems)]


def _shortest(parts: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    lengths = (n for n in range(1, len(parts)) if all(other[-n:] != parts[-n:] for other in others))
    length = next(lengths, len(parts))  # a whole path may end another: a.pt beside b/a.pt
    return "/".join(parts[-length:])


def names_in(values: Sequence[str], known: Collection[str]) -> list[str]:
    """The names that texts give: a text that is a known name is that one, another is several separated by commas."""
    parts = ([value] if value in known else value.split(",") for value in values)
    return [name.strip() for part in parts for name in part if name.strip()]


def as_values(names: Sequence[str]) -> list[str]:
    """Texts from which `names_in` has these names: one for all, and one for each that has a comma of its own."""
    plain = ",".join(name for name in names if "," not in name)
    return [*([plain] if plain else []), *(name for name in names if "," in name)]


def counters_in(name: str) -> dict[str, int | float]:
    """The numbers that a name gives to steps and epochs, on either side: epoch=3-step=120, 322epoch, checkpoint-500."""
    words = "|".join(sorted(COUNTERS, key=len, reverse=True))
    number = rf"{NUMBER}(?:{SHORT})?"
    after = rf"(?<![a-z])({words})s?[-_= ]?({number})"
    found = {word: _number(count) for word, count in re.findall(after, name.lower())}
    rest = re.sub(after, "/", name.lower())
    for count, word in re.findall(rf"(?<![\d.])({number})[-_ ]?({words})s?(?![a-z0-9_=-])", rest):
        found.setdefault(word, _number(count))
    return found


def _number(text: str) -> int | float:
    if text[-1] in THOUSANDS:
        return int(_decimal(text))
    return int(text) if text.isdecimal() else float(text)
