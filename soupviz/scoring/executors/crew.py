"""The driver's side: shares blocks out over workers, and takes up what they find in the order of one worker."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from soupviz.errors import ExecutorError, TooLargeError
from soupviz.scoring.batches import written
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.executors.candidate import Candidate
from soupviz.scoring.executors.executor import Evaluation
from soupviz.scoring.executors.launching import Launch, Start
from soupviz.scoring.executors.messages import Answered, Block, Died, Failed, Ready, Workers
from soupviz.scoring.executors.planning import Plan
from soupviz.scoring.executors.telling import Told
from soupviz.scoring.executors.usage import Share, Usage
from soupviz.tasks.outcomes import Outcomes

WAIT = 0.05
"""Seconds after which whoever asked is heard, who may want to cancel."""

NO_ROOM = ": out of memory, asked no more"
"""Behind the place of a worker that was ended, because it had none for a single unit."""

DEATHS = 3
"""One after the other, after which a worker, or what it died of, is not tried again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """A block under way. batches: of the candidate, by their numbers."""

    candidate: Candidate
    batches: list[int]


class Crew:
    """Evaluates on workers, which are started when something is asked for first."""

    def __init__(self, name: str, num_workers: int, start: Start, evaluator: Evaluator):
        self.name = name
        self.num_workers = num_workers
        # One worker alone gains nothing by beginning what may never be asked for.
        self.num_ahead = 2 * num_workers + 1 if num_workers > 1 else 0
        self._start = start
        self._evaluator = evaluator
        self._numbers = itertools.count()
        self._launch: Launch | None = None
        self._workers: Workers | None = None
        self._reset()

    def _reset(self) -> None:
        self._ready: set[int] = set()
        self._under_way: list[dict[int, _Sent]] = [{} for _ in range(self.num_workers)]
        self._shares = [Share() for _ in range(self.num_workers)]
        self._told = [Told() for _ in range(self.num_workers)]
        self._retired: dict[int, tuple[Candidate, int] | None] = {}  # with the batch for which there was no room
        self._deaths = [0] * self.num_workers
        self._plan = Plan(self.num_workers)
        self._asked: Candidate | None = None
        self._foreseen: list[tuple[Candidate, Outcomes]] = []

    def close(self) -> None:
        launch, self._launch = self._launch, None
        workers, self._workers = self._workers, None
        self._reset()
        if launch is not None:
            launch.give_up()
        if workers is not None:
            workers.close()

    @property
    def is_started(self) -> bool:
        return bool(self._ready)

    def usage(self) -> Usage:
        return Usage(time.monotonic(), tuple(self._shares))

    def evaluate(self, asked: Evaluation, found: Outcomes, on_batch: Callable[[], None]) -> Tensor | None:
        candidate = self._of(asked, found)
        kept: Tensor | None = None
        with self._interruptible(), self._asking(candidate):
            while not asked.is_over(found):
                self._share_out()
                parts = candidate.take_up()
                if parts is None:
                    self._collect()
                    on_batch()
                    continue
                for part in parts:
                    found.write(part.rows, part.columns)
                    if asked.keeps_answers and part.answers is not None:
                        # Copies: what came in may be read only.
                        kept = written(kept, len(asked.split), torch.tensor(part.rows), torch.tensor(part.answers))
                on_batch()
            if asked.gives_up is not None:
                self._plan.ended(candidate.taken, given_up=not found.is_whole)
        return kept

    @contextmanager
    def _asking(self, candidate: Candidate) -> Iterator[None]:
        self._asked = candidate
        try:
            yield
        finally:
            self._asked = None
            self._drop({id(candidate)})

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """An interrupt may come between two messages of a worker: with one all of them end."""
        try:
            yield
        except Exception:
            raise
        except BaseException:
            self.close()
            raise

    def _of(self, asked: Evaluation, found: Outcomes) -> Candidate:
        """The candidate that was foreseen, or a new one where it was not, or some of its units are scored already."""
        for place, (candidate, _) in enumerate(self._foreseen):
            if not found.num_scored and candidate.is_of(asked):
                del self._foreseen[place]
                break
        else:
            candidate = Candidate(asked, found, self._evaluator.batch_size)
        candidate.asked_for(asked)
        return candidate

    def foresee(self, likely: Sequence[Evaluation]) -> None:
        before = self._foreseen
        self._foreseen = []
        for asked in likely:
            if any(one.is_of(asked) for one, _ in self._foreseen):  # the same weights under two names
                continue
            known = next((one for one in before if one[0].is_of(asked)), None)
            self._foreseen.append(known or self._ahead_of(asked))
        kept = {id(one) for one, _ in self._foreseen}
        self._drop({id(one) for one, _ in before} - kept)
        if likely:
            with self._interruptible():
                self._share_out()

    def _ahead_of(self, asked: Evaluation) -> tuple[Candidate, Outcomes]:
        """A candidate before it is asked for, and what is seen of it by then."""
        seen = self._evaluator.blank(asked.split)
        return Candidate(asked, seen, self._evaluator.batch_size), seen

    def _drop(self, candidates: set[int]) -> None:
        """Tell workers that nobody waits for these any more."""
        for worker, sent in enumerate(self._under_way):
            gone = [number for number, one in sent.items() if id(one.candidate) in candidates]
            if gone and self._workers is not None:
                self._workers.drop(worker, gone)

    def _share_out(self) -> None:
        """Give free workers something to do; before there are any, start them."""
        if self._workers is None:
            self._launch = self._launch or Launch(self._start, self._tell)
            return
        candidates = [*([self._asked] if self._asked else []), *(one for one, _ in self._foreseen)]
        for depth in range(self._plan.ahead(self._asked)):
            for worker in sorted(self._ready):
                if len(self._under_way[worker]) <= depth:
                    chosen = self._plan.choose(worker, candidates, self._asked)
                    if chosen is not None:
                        self._send(worker, chosen)

    def _send(self, worker: int, candidate: Candidate) -> None:
        assert self._workers is not None  # it was just given something
        batches = candidate.hand_out(self._plan.num_batches(candidate, self._asked), worker)
        number, asked, told = next(self._numbers), candidate.asked, self._told[worker]
        self._under_way[worker][number] = _Sent(candidate, batches)
        try:
            rows = [candidate.batches[batch] for batch in batches]
            self._workers.send(worker, Block(number, told.mix(asked), told.split(asked), rows, asked.keeps_answers))
        except Exception as error:  # which it is raised with when its turn comes, as what workers tell is
            del self._under_way[worker][number]
            self._told[worker] = Told()
            candidate.bring(batches, [], error)

    def _tell(self, what: str) -> None:
        """Say of all workers what is done before there are any."""
        self._shares = [replace(share, place=what) for share in self._shares]

    def _collect(self) -> None:
        """Take in what workers say, for a moment."""
        if self._workers is None:
            assert self._launch is not None  # what is asked for was shared out before
            self._started(self._launch)
            return
        for worker, said in self._workers.receive(WAIT):
            match said:
                case _ if worker in self._retired:  # said before it was ended
                    pass
                case Ready():
                    self._ready.add(worker)
                    self._shares[worker] = replace(self._shares[worker], place=said.place)
                case Answered():
                    self._answered(worker, said)
                case Failed() if isinstance(said.error, TooLargeError) and self._has_others(worker):
                    self._retire(worker, None)
                case Failed():  # it cannot open the kitchen
                    self.close()
                    raise said.error
                case Died():
                    self._died(worker, said.reason)

    def _started(self, launch: Launch) -> None:
        """Wait a moment for workers; what their start ends in is raised."""
        try:
            self._workers = launch.wait(WAIT)
        except Exception:
            self.close()
            raise
        if self._workers is not None:
            self._launch = None
            self._tell("")

    def _answered(self, worker: int, said: Answered) -> None:
        sent = self._under_way[worker].pop(said.number)
        if isinstance(said.error, TooLargeError) and self._has_others(worker):
            batch = sent.batches[len(said.batches)]
            sent.candidate.bring(sent.batches, said.batches)
            sent.candidate.hand_back(sent.batches[len(said.batches) :])
            self._retire(worker, (sent.candidate, batch))
        else:
            sent.candidate.bring(sent.batches, said.batches, said.error)
            if isinstance(said.error, TooLargeError):  # nobody has room for it: the others lacked none
                self._bring_back((sent.candidate, sent.batches[len(said.batches)]))
        for one, seen in self._foreseen:
            if one is sent.candidate and one.asked.gives_up is not None:
                one.look_ahead(seen)
        self._deaths[worker] = 0
        self._plan.took(said.seconds, len(said.batches))
        share = self._shares[worker]
        scored = sum(len(part.rows) for batch in said.batches for part in batch)
        self._shares[worker] = replace(share, busy=share.busy + said.seconds, num_units=share.num_units + scored)
        if busy := sum(one.busy for one in self._shares):
            self._evaluator.rate = sum(one.num_units for one in self._shares) / busy  # of one, on average

    def _has_others(self, worker: int) -> bool:
        return len(self._retired.keys() | {worker}) < self.num_workers

    def _retire(self, worker: int, lacked: tuple[Candidate, int] | None) -> None:
        """End a worker that has no room for even one unit: what it could not do others may be able to.

        Args:
            lacked: for which batch it had none; None: for the model alone.
        """
        assert self._workers is not None
        self._retired[worker] = lacked
        self._take_back(worker)
        self._workers.end(worker)
        share = self._shares[worker]
        self._shares[worker] = replace(share, place=f"{share.place.removesuffix(NO_ROOM)}{NO_ROOM}")

    def _bring_back(self, lacked: tuple[Candidate, int]) -> None:
        """Start those again that were ended because of one batch."""
        assert self._workers is not None
        for worker in [one for one, why in self._retired.items() if why == lacked]:
            del self._retired[worker]
            self._workers.restart(worker)

    def _take_back(self, worker: int) -> list[_Sent]:
        """What a worker had under way others may do; it knows nothing any more."""
        self._ready.discard(worker)
        self._told[worker] = Told()
        lost = list(self._under_way[worker].values())
        self._under_way[worker] = {}
        for one in lost:
            one.candidate.hand_back(one.batches)
            one.candidate.workers.discard(worker)
        return lost

    def _died(self, worker: int, reason: str) -> None:
        """Start a worker anew, whose blocks others may take; not for ever."""
        self._shares[worker] = replace(self._shares[worker], place="", deaths=self._shares[worker].deaths + 1)
        lost = self._take_back(worker)
        self._deaths[worker] += 1
        deaths = self._deaths[worker]
        if lost:  # of the first, which it computed
            suspect = lost[0]
            suspect.candidate.deaths.update(suspect.batches)
            deaths = max(deaths, *suspect.candidate.deaths.values())
        if deaths >= DEATHS:
            self.close()
            raise ExecutorError(
                f"{self.name}: worker {worker + 1} of {self.num_workers} ended {deaths} times, last with: {reason} "
                "What was scored is kept, and the same run goes on from there. Take fewer workers, or --executor "
                "inline, which says more of what fails."
            )
        assert self._workers is not None
        self._workers.restart(worker)
