"""How the keys of a state dict are laid out: prefixes, wrappers, ties, and averages among the raw weights."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from soupviz.models.architecture import Architecture, Loading
from soupviz.weights.states import Candidate
from soupviz.weights.vocabulary import PARALLEL, WRAPPED, says_average, without_wrappers

SPELLINGS: tuple[Sequence[str], ...] = ((), WRAPPED, (*WRAPPED, PARALLEL))
"""What is left out of keys: nothing, wrappers, and what DataParallel adds wherever it stands."""

MOST_PREFIXES = 8
"""Prefixes that are tried, those under which most of the model's keys occur first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A candidate's tensors under a prefix, called as the model calls them.

    outside: the keys left over. twin: how the keys begin of an average whose own names have lost their dots.
    """

    candidate: Candidate
    prefix: str
    tensors: Mapping[str, Tensor]
    outside: tuple[str, ...] = ()
    twin: str = ""

    @property
    def place(self) -> str:
        return "/".join(filter(None, (self.candidate.place, self.prefix.rstrip("."), self.twin)))

    @property
    def is_apart(self) -> bool:
        """Whether its keys say that it is an average, beside raw weights among the same keys."""
        return bool(self.twin or says_average(self.prefix))

    @property
    def is_average(self) -> bool:
        return self.candidate.is_average or self.is_apart

    def loaded(self, architecture: Architecture) -> Loading:
        """What a fresh model holds after loading it."""
        versions = self.candidate.versions and {
            without_prefix: version
            for module, version in self.candidate.versions.items()
            if (without_prefix := _module(module, self.prefix)) is not None
        }
        return architecture.load(fill_ties(self.tensors, architecture.ties), versions)


def _module(name: str, prefix: str) -> str | None:
    """A module's name under a prefix, wrappers left out; None where it lies outside."""
    plain = without_wrappers(name, leading=False)
    if not prefix:
        return plain
    return f"{plain}.".removeprefix(prefix).rstrip(".") if f"{plain}.".startswith(prefix) else None


def readings_of(candidate: Candidate, architecture: Architecture | None, wrappers: Sequence[str]) -> Iterator[Reading]:
    """A state dict under every prefix under which some of the model's keys occur, most of them first.

    Args:
        architecture: None where there is no model to ask: any of the keys may be the model's.
    """
    state = architecture.state if architecture else {}
    model_keys = {without_wrappers(key, wrappers, leading=True): key for key in state}
    keys = {without_wrappers(key, wrappers, leading=False): key for key in candidate.tensors}
    if len(model_keys) < len(state) or len(keys) < len(candidate.tensors):
        return  # two keys would become one
    prefixes: Counter[str] = Counter()
    for key in keys:
        prefixes.update(prefix for prefix in _prefixes(key) if not state or key.removeprefix(prefix) in model_keys)
    for prefix, _ in prefixes.most_common(MOST_PREFIXES if state else None) or [("", 0)]:
        inside = {key.removeprefix(prefix): name for key, name in keys.items() if key.startswith(prefix)}
        tensors = {model_keys.get(key, key): candidate.tensors[name] for key, name in inside.items()}
        outside = tuple(name for key, name in keys.items() if not key.startswith(prefix))
        reading = Reading(candidate, prefix, tensors, outside)
        yield from _with_twin(reading, architecture) if architecture else [reading]


def _with_twin(reading: Reading, architecture: Architecture) -> list[Reading]:
    """The reading; where an average lies among its keys whose names have lost their dots, two.

    mmcv's EMAHook keeps `ema_` + the key with underscores, latent diffusion's LitEma `model_ema.` + the key without
    dots; buffers that they do not average are the raw ones.
    """
    own = [key for key in architecture.state if key in reading.tensors]
    by_letters = {_letters(start + key): key for start in ("", reading.prefix) for key in own}
    if len({_letters(key) for key in own}) < len(architecture.state):
        return [reading]
    apart = {key: reading.candidate.tensors[key] for key in reading.outside}
    others = {key: tensor for key, tensor in {**reading.tensors, **apart}.items() if key not in own}
    for start in _starts(others):
        around = {key: tensor for key, tensor in others.items() if key.startswith(start)}
        if all(key in around for key in (start + own_key for own_key in own)):
            continue  # its keys are whole: it is read under this prefix
        there = {key: by_letters.get(_letters(key.removeprefix(start))) for key in around}
        twin = {name: around[key] for key, name in there.items() if name}
        if 2 * len(twin) > len(architecture.parameters):
            rest = {key: tensor for key, tensor in reading.tensors.items() if key not in around}
            outside = tuple(key for key in reading.outside if key not in around)
            state = {key: twin.get(key, rest[key]) for key in architecture.state}
            average = replace(reading, tensors=state, outside=outside, twin=start.rstrip("._"))
            return [average, replace(reading, tensors=rest, outside=outside)]
    return [reading]


def _starts(keys: Iterable[str]) -> list[str]:
    """How keys begin that say of an average, the commonest first; the shortest of those that are as common."""
    counted: Counter[str] = Counter()
    for key in keys:
        ends = [at + 1 for at, sign in enumerate(key) if sign in "._"]
        counted.update(key[:end] for end in ends if says_average(key[:end]))
    return [start for start, _ in counted.most_common(MOST_PREFIXES)]


def _letters(key: str) -> str:
    """A key without its dots and underscores."""
    return re.sub(r"[._]", "", key)


def fill_ties(tensors: Mapping[str, Tensor], ties: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors with those that a file holds under only one of their names under each of them."""
    filled = dict(tensors)
    for key, first in ties.items():
        if key not in filled and first in filled:
            filled[key] = filled[first]
        elif first not in filled and key in filled:
            filled[first] = filled[key]
    return filled


def _prefixes(key: str) -> list[str]:
    """ "", "a." and "a.b." for a.b.c."""
    parts = key.split(".")
    return ["".join(f"{part}." for part in parts[:end]) for end in range(len(parts))]
