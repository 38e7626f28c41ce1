"""What one worker was told of mixes and splits, so that it is told once."""

from soupviz.scoring.executors.executor import Evaluation
from soupviz.scoring.executors.messages import MixOf, SplitOf

SPLITS_HELD = 4
"""By a worker beside each other; of those that were asked for longest ago it lets go."""


class Told:
    """One worker's; a worker that is started anew knows nothing."""

    def __init__(self) -> None:
        self._formulas: set[object] = set()
        self._splits: dict[str, None] = {}

    def mix(self, asked: Evaluation) -> MixOf:
        """A mix by name, with what the worker does not know of its names yet."""
        names = [item.name for item, _ in asked.items]
        formulas, files = asked.made_of(names)
        new = {name: text for name, text in formulas.items() if (name, files.get(name)) not in self._formulas}
        self._formulas |= {(name, files.get(name)) for name in formulas}
        parts = tuple((item.name, item.fingerprint, weight) for item, weight in asked.items)
        train = None if asked.aggregation.train is None else asked.aggregation.train.read
        return MixOf(parts, asked.aggregation.name, train, new, {name: files[name] for name in files if name in new})

    def split(self, asked: Evaluation) -> SplitOf:
        """A split as the worker finds it; which examples of it is told once, and which split it may let go."""
        split = asked.split
        assert split.read is not None  # others are evaluated by the driver
        is_new = split.fingerprint not in self._splits
        self._splits.pop(split.fingerprint, None)
        self._splits[split.fingerprint] = None  # the one asked for last is at the end
        rows = split.places.numpy() if is_new and split.places is not None else None
        gone = next(iter(self._splits)) if len(self._splits) > SPLITS_HELD else None
        if gone is not None:
            del self._splits[gone]
        return SplitOf(split.fingerprint, split.read, rows, gone)
