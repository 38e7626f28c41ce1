"""The driver's side: shares blocks out over workers, and takes up what they find in the order of one worker."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from soupviz.errors import ExecutorError
from soupviz.scoring.batches import written
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.executors.candidate import Candidate
from soupviz.scoring.executors.executor import Evaluation
from soupviz.scoring.executors.messages import Answered, Block, Died, Failed, MixOf, Ready, SplitOf, Workers
from soupviz.scoring.executors.planning import Plan
from soupviz.scoring.executors.usage import Share, Usage
from soupviz.tasks.outcomes import Outcomes

WAIT = 0.05
"""Seconds after which whoever asked is heard, who may want to cancel."""

AHEAD = 2
"""Blocks that a worker has: one that it computes, and one that it begins while the outcomes of the first travel."""

DEATHS = 3
"""After which a worker, or what it died of, is not tried again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """A block under way. batches: of the candidate, by their numbers."""

    candidate: Candidate
    batches: list[int]


class Crew:
    """Evaluates on workers, which are started when something is asked for first."""

    def __init__(self, name: str, num_workers: int, start: Callable[[], Workers], evaluator: Evaluator):
        self.name = name
        self.num_workers = num_workers
        self.num_ahead = 2 * num_workers + 1
        self._start = start
        self._evaluator = evaluator
        self._numbers = itertools.count()
        self._workers: Workers | None = None
        self._reset()

    def _reset(self) -> None:
        self._ready: set[int] = set()
        self._under_way: list[dict[int, _Sent]] = [{} for _ in range(self.num_workers)]
        self._shares = [Share() for _ in range(self.num_workers)]
        self._told: list[set[str]] = [set() for _ in range(self.num_workers)]
        self._plan = Plan(self.num_workers)
        self._asked: Candidate | None = None
        self._foreseen: list[tuple[Candidate, Outcomes]] = []

    def close(self) -> None:
        workers, self._workers = self._workers, None
        self._reset()
        if workers is not None:
            workers.close()

    def usage(self) -> Usage:
        busy = zip(self._shares, self._under_way, strict=True)
        return Usage(time.monotonic(), tuple(replace(share, is_busy=bool(sent)) for share, sent in busy))

    def evaluate(self, asked: Evaluation, found: Outcomes, on_batch: Callable[[], None]) -> Tensor | None:
        candidate = self._asked = self._of(asked, found)
        kept: Tensor | None = None
        try:
            while not asked.is_over(found):
                self._share_out()
                parts = candidate.take_up()
                if parts is None:
                    self._collect()
                    if candidate.error:
                        raise candidate.error
                    on_batch()
                    continue
                for part in parts:
                    found.write(part.rows, part.columns)
                    if asked.keeps_answers and part.answers is not None:
                        rows, answers = (
                            torch.tensor(part.rows),
                            torch.tensor(part.answers),
                        )  # what came in may be read only
                        kept = written(kept, len(asked.split), rows, answers)
                on_batch()
            if not found.is_whole:
                self._plan.gave_up(candidate.taken)
            return kept
        finally:
            self._asked = None
            self._drop({id(candidate)})

    def _of(self, asked: Evaluation, found: Outcomes) -> Candidate:
        """The candidate that was foreseen, or a new one."""
        for place, (candidate, _) in enumerate(self._foreseen):
            if not found.num_scored and candidate.is_of(asked):
                del self._foreseen[place]
                candidate.asked_for(asked)
                return candidate
        return Candidate(asked, found, self._evaluator.batch_size)

    def foresee(self, likely: Sequence[Evaluation]) -> None:
        before = self._foreseen
        self._foreseen = []
        for asked in likely:
            known = next((one for one in before if one[0].is_of(asked)), None)
            blank = self._evaluator.blank(asked.split)
            self._foreseen.append(known or (Candidate(asked, blank, self._evaluator.batch_size), blank))
        kept = {id(one) for one, _ in self._foreseen}
        self._drop({id(one) for one, _ in before} - kept)
        if likely:
            self._share_out()

    def _drop(self, candidates: set[int]) -> None:
        """Tell workers that nobody waits for these any more."""
        for worker, sent in enumerate(self._under_way):
            gone = [number for number, one in sent.items() if id(one.candidate) in candidates]
            if gone and self._workers is not None:
                self._workers.drop(worker, gone)

    def _share_out(self) -> None:
        """Give free workers something to do."""
        if self._workers is None:
            self._workers = self._start()
        candidates = [*([self._asked] if self._asked else []), *(one for one, _ in self._foreseen)]
        for depth in range(AHEAD):
            for worker in sorted(self._ready):
                if len(self._under_way[worker]) <= depth:
                    chosen = self._plan.choose(worker, candidates, self._asked)
                    if chosen is not None:
                        self._send(worker, chosen)

    def _send(self, worker: int, candidate: Candidate) -> None:
        assert self._workers is not None  # it was just given something
        batches = candidate.hand_out(self._plan.num_batches(candidate, self._asked), worker)
        number, asked = next(self._numbers), candidate.asked
        block = Block(
            number,
            self._mix_for(worker, asked),
            split_of(asked),
            [candidate.batches[batch] for batch in batches],
            asked.keeps_answers,
        )
        self._under_way[worker][number] = _Sent(candidate, batches)
        self._workers.send(worker, block)

    def _mix_for(self, worker: int, asked: Evaluation) -> MixOf:
        """A mix by name, with what the worker does not know of its names yet."""
        names = [item.name for item, _ in asked.items]
        formulas, files = asked.made_of(names)
        told = self._told[worker]
        new = {name: text for name, text in formulas.items() if name not in told}
        told |= formulas.keys()
        parts = tuple((item.name, item.fingerprint, weight) for item, weight in asked.items)
        return MixOf(parts, asked.aggregation.name, new, {name: files[name] for name in files if name in new})

    def _collect(self) -> None:
        """Take in what workers say, for a moment."""
        assert self._workers is not None
        for worker, said in self._workers.receive(WAIT):
            match said:
                case Ready():
                    self._ready.add(worker)
                    self._shares[worker] = replace(self._shares[worker], place=said.place)
                case Answered():
                    self._answered(worker, said)
                case Failed(number=None):  # it cannot open the kitchen
                    self.close()
                    raise said.error
                case Failed(number=int(number)):
                    self._under_way[worker].pop(number).candidate.error = said.error
                case Died():
                    self._died(worker, said.reason)
                    return

    def _answered(self, worker: int, said: Answered) -> None:
        sent = self._under_way[worker].pop(said.number)
        sent.candidate.bring(sent.batches, said.batches)
        for one, seen in self._foreseen:
            if one is sent.candidate and one.asked.gives_up is not None:
                one.look_ahead(seen)
        self._plan.took(said.seconds, len(said.batches))
        share = self._shares[worker]
        scored = sum(len(part.rows) for batch in said.batches for part in batch)
        self._shares[worker] = replace(share, busy=share.busy + said.seconds, num_units=share.num_units + scored)
        if self._shares[worker].busy:
            self._evaluator.rate = self._shares[worker].num_units / self._shares[worker].busy

    def _died(self, worker: int, reason: str) -> None:
        """Start a worker anew, whose blocks others may take; not for ever."""
        share = self._shares[worker] = replace(self._shares[worker], deaths=self._shares[worker].deaths + 1)
        self._ready.discard(worker)
        self._told[worker] = set()
        lost = list(self._under_way[worker].values())
        self._under_way[worker] = {}
        for one in lost:
            one.candidate.hand_back(one.batches)
            one.candidate.workers.discard(worker)
        deaths = share.deaths
        if lost:  # of the first, which it computed
            suspect = lost[0]
            suspect.candidate.deaths.update(suspect.batches)
            deaths = max(deaths, *suspect.candidate.deaths.values())
        if deaths >= DEATHS:
            self.close()
            raise ExecutorError(
                f"{self.name}: worker {worker + 1} of {self.num_workers} ended {deaths} times, last with: {reason} "
                "What was scored is kept, and the same run goes on from there: give the workers more memory, take "
                "fewer of them, or take --executor inline."
            )
        assert self._workers is not None
        self._workers.restart(worker)


def split_of(asked: Evaluation) -> SplitOf:
    """A split as a worker finds it."""
    split = asked.split
    assert split.read is not None  # others are evaluated by this process
    return SplitOf(split.fingerprint, split.read, None if split.places is None else split.places.numpy())
