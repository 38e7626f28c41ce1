"""The driver's side: shares blocks out over workers, and takes up what they find in the order of one worker."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from soupviz.errors import ExecutorError, TooLargeError
from soupviz.scoring.batches import written
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.executors.bounds import ToBeat
from soupviz.scoring.executors.candidate import Candidate
from soupviz.scoring.executors.executor import Evaluation
from soupviz.scoring.executors.launching import Launch, Start
from soupviz.scoring.executors.messages import Answered, Block, Died, Failed, Ready, Workers
from soupviz.scoring.executors.planning import Plan
from soupviz.scoring.executors.posts import Post, Sent
from soupviz.scoring.executors.usage import Usage
from soupviz.tasks.outcomes import Outcomes

WAIT = 0.05
"""Seconds after which whoever asked is heard, who may want to cancel."""

BLOCKS_EACH = 2
"""One that a worker computes, and one to begin while what came of the first travels."""

DEATHS = 3
"""One after the other, after which a worker, or what it died of, is not tried again."""


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
        self._posts = [Post(number) for number in range(self.num_workers)]
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
        return any(post.is_ready for post in self._posts)

    def usage(self) -> Usage:
        return Usage(time.monotonic(), tuple(post.share for post in self._posts))

    def evaluate(self, asked: Evaluation, found: Outcomes, on_batch: Callable[[], None]) -> Tensor | None:
        candidate = self._of(asked, found)
        kept: Tensor | None = None
        with self._asking(candidate), self._interruptible():
            while not asked.is_over(found):
                parts = candidate.take_up()
                if parts is None or asked.gives_up is None:  # else what is back is judged before more is handed out
                    self._share_out()
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
        for post in self._posts:
            gone = [number for number, one in post.under_way.items() if id(one.candidate) in candidates]
            if gone and self._workers is not None:
                self._workers.drop(post.number, gone)

    def _share_out(self) -> None:
        """Give free workers something to do; before there are any, start them."""
        if self._workers is None:
            self._launch = self._launch or Launch(self._start, self._tell)
            return
        candidates = [*([self._asked] if self._asked else []), *(one for one, _ in self._foreseen)]
        for depth in range(BLOCKS_EACH):
            for post in self._posts:
                if post.is_ready and len(post.under_way) <= depth:
                    chosen = self._plan.choose(post.number, candidates, self._asked)
                    if chosen is not None:
                        self._send(self._workers, post, chosen)

    def _send(self, workers: Workers, post: Post, candidate: Candidate) -> None:
        batches = candidate.hand_out(self._plan.num_batches(candidate, self._asked), post.number)
        number, asked, told = next(self._numbers), candidate.asked, post.told
        # Who was given all of it knows what the driver will know, and stops after the same batch.
        may_stop = candidate.may_stop and candidate.workers == {post.number}
        to_beat = ToBeat.of(asked.gives_up) if may_stop else None
        post.under_way[number] = Sent(candidate, batches)
        try:
            rows = [candidate.batches[batch] for batch in batches]
            mix, split = told.mix(asked), told.split(asked)
            block = Block(number, candidate.number, mix, split, rows, asked.keeps_answers, to_beat)
            workers.send(post.number, block)
        except Exception as error:  # which it is raised with when its turn comes, as what workers tell is
            del post.under_way[number]
            post.forget()
            candidate.bring(batches, [], error)

    def _tell(self, what: str) -> None:
        """Say of all workers what is done before there are any."""
        for post in self._posts:
            post.is_at(what)

    def _collect(self) -> None:
        """Take in what workers say, for a moment."""
        if self._workers is None:
            assert self._launch is not None  # what is asked for was shared out before
            self._started(self._launch)
            return
        for worker, said in self._workers.receive(WAIT):
            if not (post := self._posts[worker]).is_retired:  # else it was said before that
                self._hear(self._workers, post, said)

    def _hear(self, workers: Workers, post: Post, said: Ready | Answered | Failed | Died) -> None:
        match said:
            case Ready():
                post.ready(said.place)
            case Answered():
                self._answered(workers, post, said)
            case Failed() if isinstance(said.error, TooLargeError) and self._has_others(post):
                post.retire(None)
                workers.end(post.number)
            case Failed():  # it cannot open the kitchen
                self.close()
                raise said.error
            case Died():
                self._died(workers, post, said.reason)

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

    def _answered(self, workers: Workers, post: Post, said: Answered) -> None:
        sent = post.under_way.pop(said.number)
        post.answered(said)
        if isinstance(said.error, TooLargeError):
            self._lacked_room(workers, post, sent, said)
        else:
            sent.candidate.bring(sent.batches, said.batches, said.error)
            if said.error is None:
                sent.candidate.hand_back(sent.batches[len(said.batches) :])
        for one, seen in self._foreseen:
            if one is sent.candidate and one.asked.gives_up is not None:
                one.look_ahead(seen)
        self._plan.took(said.seconds, len(said.batches))
        shares = [one.share for one in self._posts]
        if busy := sum(share.busy for share in shares):
            self._evaluator.rate = sum(share.num_units for share in shares) / busy  # of one, on average

    def _lacked_room(self, workers: Workers, post: Post, sent: Sent, said: Answered) -> None:
        """End a worker that has no room for even one unit: what it could not do others may be able to. If none of them
        is, those that were ended for the same batch lacked none, and come back."""
        done = len(said.batches)
        lacked = sent.candidate, sent.batches[done]
        if self._has_others(post):
            sent.candidate.bring(sent.batches, said.batches)
            sent.candidate.hand_back(sent.batches[done:])
            sent.candidate.workers.discard(post.number)
            post.retire(lacked)
            workers.end(post.number)
            return
        sent.candidate.bring(sent.batches, said.batches, said.error)
        for other in self._posts:
            if other.lacked == lacked:
                other.come_back()
                workers.restart(other.number)

    def _has_others(self, post: Post) -> bool:
        return not all(other.is_retired for other in self._posts if other is not post)

    def _died(self, workers: Workers, post: Post, reason: str) -> None:
        """Start a worker anew, whose blocks others may take; not for ever."""
        lost = post.died()
        deaths = post.deaths
        if lost:  # of the first, which it computed
            suspect = lost[0]
            suspect.candidate.deaths.update(suspect.batches)
            deaths = max(deaths, *suspect.candidate.deaths.values())
        if deaths >= DEATHS:
            self.close()
            raise ExecutorError(
                f"{self.name}: worker {post.number + 1} of {self.num_workers} ended {deaths} times, last with: "
                f"{reason} What was scored is kept, and the same run goes on from there. Take fewer workers, or "
                "--executor inline, which says more of what fails."
            )
        workers.restart(post.number)
