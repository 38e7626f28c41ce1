"""A run's folder, and its data, that lie elsewhere: fetched to be recognised."""

from pathlib import Path

from soupviz.addresses import is_remote
from soupviz.remote import trees
from soupviz.remote.listing import Found
from soupviz.types import Progress
from soupviz.weights.containers import without_suffix
from soupviz.weights.vocabulary import is_training_state


def run_at(folder: str, progress: Progress) -> Path:
    """A run's folder; of one elsewhere, no code and nothing that a training keeps beside its weights."""
    return trees.fetched(folder, progress, wanted=_is_of_use) if is_remote(folder) else Path(folder)


def data_at(place: str, progress: Progress) -> Path:
    """A file or a folder of data."""
    return trees.fetched(place, progress, wanted=_is_of_use) if is_remote(place) else Path(place)


def _is_of_use(found: Found) -> bool:
    return not found.name.endswith(".py") and not is_training_state(without_suffix(found.name))
