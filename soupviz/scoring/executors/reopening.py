"""How a worker opens the kitchen that the driver has open, and finds that it is the same."""

import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from soupviz import trust
from soupviz.errors import ExecutorError
from soupviz.scoring.executors.worker import differs
from soupviz.scoring.service import Scores
from soupviz.spec import KitchenSpec
from soupviz.store.database import Store
from soupviz.version import __version__
from soupviz.weights.discovery import Gathered
from soupviz.weights.ingredients import Ingredient


class _Opened(Protocol):
    @property
    def model_fingerprint(self) -> str: ...
    @property
    def ingredients(self) -> tuple[Ingredient, ...]: ...
    @property
    def scores(self) -> Scores: ...


@dataclass(frozen=True, slots=True, eq=False)
class Reopening:
    """Plain data that travels to workers.

    open: what opens a kitchen. skips: what it goes on without, by its arguments. model: the fingerprint that it has
    to have. ingredients: by name, the fingerprints that they have to have. places: by name, where they lie. files:
    what the driver's store knows of files, so that those that are the same here are not read whole to be
    fingerprinted again. approved: what somebody said yes to; None: nobody was asked. version: of
    soupviz, which another machine may have otherwise.
    """

    open: Callable[..., _Opened]
    spec: KitchenSpec
    file: Path
    skips: Mapping[str, bool]
    model: str
    ingredients: Mapping[str, str]
    places: Mapping[str, str]
    files: Mapping[str, tuple[str, str | None]]
    approved: trust.Approved | None = None
    version: str = __version__

    def __call__(self, device: str, gathered: Gathered | None = None) -> Scores:
        """Open it on a device, with a store of its own in a temporary folder: only the driver keeps scores.

        Args:
            gathered: the driver's own ingredients; default: they are read from their files.
        Raises:
            KitchenError: a file is not the one that the driver has. ExecutorError: nor is soupviz.
        """
        if self.version != __version__:
            raise ExecutorError(
                f"worker on {socket.gethostname()}: soupviz {__version__}, and {self.version} where the run was begun; "
                "install the same version on all machines."
            )
        folder = Path(tempfile.mkdtemp(prefix="soupviz-worker-"))
        try:
            return self._opened(device, Store(folder / "store.sqlite"), gathered)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _opened(self, device: str, store: Store, gathered: Gathered | None) -> Scores:
        store.keep_files(self.files)
        if self.approved is not None:
            trust.bind_in_worker(self.file.parent, self.approved)
        # Other models are scored by kitchens of their own.
        alone: dict[str, Any] = {"device": device, "executor": "inline", "other_models": {}, "sweep": None}
        alone["ingredients"] = dict(self.places)  # no pattern, which by now may match more
        spec = self.spec.model_copy(update=alone)
        opened = self.open(spec, self.file, store=store, gathered=gathered, **self.skips)
        if opened.model_fingerprint != self.model:
            raise differs("the model", self.spec.model.factory, opened.model_fingerprint, self.model)
        there = {item.name: item for item in opened.ingredients}
        for name, fingerprint in self.ingredients.items():
            if name not in there or there[name].fingerprint != fingerprint:
                found = there[name].fingerprint if name in there else "none"
                raise differs(name, str(there[name].path if name in there else self.file.parent), found, fingerprint)
        return opened.scores
