"""Random sequences of operations: after each one the SQLite engine and a model in plain Python tell the same."""

import asyncio
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.properties.model import MAX_STALLS, Model
from toril.engine.ports.jobs import Added, Exchanged, Finish, Lock
from toril.engine.sqlite.engine import SqliteEngine
from toril.jobs.model import NewJob
from toril.jobs.options import Keep
from toril.jobs.outcome import Cancelled, Done, Failed, Outcome, Released, Retry, Snooze
from toril.jobs.states import State
from toril.testing.clock import START_MS

QUEUE = "line"
LOCK_MS = 10_000
REMEMBERED_MS = 10 * 60_000
NAMES = st.sampled_from("abcdefgh")
WORKERS = st.sampled_from(["one", "two"])
DELAYS = st.sampled_from([0, 0, 1_000, 7_000])
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Done("1")),
    st.builds(Retry, st.just("no"), st.just("Error: no"), DELAYS),
    st.just(Failed("no", "Error: no")),
    st.builds(Snooze, DELAYS),
    st.just(Cancelled("late", "ann")),
    st.just(Released()),
)
NEW = st.tuples(NAMES, st.sampled_from([0, 0, 1, 2]), DELAYS, st.booleans())
LISTED = (State.WAITING, State.PRIORITIZED, State.DELAYED, State.COMPLETED, State.FAILED)


class Call(NamedTuple):
    """An exchange that can be repeated."""

    worker: str
    seq: int
    token: str
    finished: tuple[Finish, ...]
    want: int
    at: int


class JobsAgainstModel(RuleBasedStateMachine):
    """One queue of one engine, and its model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.engine = SqliteEngine()
        self.runner.run(self.engine.start())
        self.model = Model(START_MS)
        self.seq = {"one": 0, "two": 0}
        self.batches = 0
        # Every token that was ever given, right or outdated by now.
        self.tokens: dict[str, list[str]] = {}
        self.last_add: tuple[str, list[NewJob], int, Added] | None = None
        self.last_exchange: tuple[Call, Exchanged] | None = None

    def teardown(self) -> None:
        self.runner.run(self.engine.close())
        self.runner.close()

    @rule(new=st.lists(NEW, min_size=1, max_size=4))
    def add(self, new: list[tuple[str, int, int, bool]]) -> None:
        jobs = [NewJob(name, "work", "{}", '{"toril":{"v":1}}', self.model.now, delay, priority, lifo)
                for name, priority, delay, lifo in new]  # fmt: skip
        self.batches += 1
        batch = f"batch-{self.batches}"
        added = self.runner.run(self.engine.jobs.add(QUEUE, jobs, batch=batch, now=self.model.now))
        assert added.created == tuple(self.model.add(*each) for each in new)
        assert added.ids == tuple(each[0] for each in new)
        self.last_add = (batch, jobs, self.model.now, added)

    @precondition(lambda self: self.last_add is not None)
    @rule()
    def repeat_add(self) -> None:
        assert self.last_add is not None
        batch, jobs, at, first = self.last_add
        if self.model.now < at + REMEMBERED_MS:
            again = self.runner.run(self.engine.jobs.add(QUEUE, jobs, batch=batch, now=self.model.now))
            assert again == first

    @rule(worker=WORKERS, want=st.integers(0, 3), ends=st.lists(st.tuples(NAMES, OUTCOMES), max_size=3), data=st.data())
    def exchange(self, worker: str, want: int, ends: list[tuple[str, Outcome]], data: st.DataObject) -> None:
        self.seq[worker] += 1
        token = f"{worker}:{self.seq[worker]}"
        now = self.model.now
        finished = []
        for name, outcome in ends:
            known = ["nobody:0", *self.tokens.get(name, ())]
            # Mostly the newest token, sometimes one that is long outdated.
            held = known[-1] if data.draw(st.integers(0, 4)) else data.draw(st.sampled_from(known))
            finished.append(Finish(name, held, outcome, now, now))
        call = Call(worker, self.seq[worker], token, tuple(finished), want, now)
        answer = self._exchange(call)
        assert answer.applied == tuple(self.model.finish(each.id, each.token, each.outcome) for each in finished)
        taken = self.model.take(want, token, LOCK_MS)
        assert [each.id for each in answer.jobs] == taken
        for each in answer.jobs:
            job = self.model.jobs[each.id]
            self.tokens.setdefault(each.id, []).append(token)
            assert (each.attempts_made, each.starts, each.stalls) == (job.attempts, job.starts, job.stalls)
            assert (each.deferred_failure is not None) is job.deferred
        delayed = [job.due for job in self.model.jobs.values() if job.state is State.DELAYED]
        assert answer.next_due_ms == min(delayed, default=None)
        mine = {name for name, job in self.model.jobs.items() if job.asked and self._runs(name, worker)}
        assert {each.id for each in answer.cancelled} == mine
        if answer.applied or answer.jobs:
            self.last_exchange = (call, answer)

    @precondition(lambda self: self.last_exchange is not None)
    @rule()
    def repeat_exchange(self) -> None:
        assert self.last_exchange is not None
        call, first = self.last_exchange
        if self.model.now >= call.at + 2 * LOCK_MS or not self.runner.run(self.engine.inspect.queues()):
            return
        again = self._exchange(call)
        assert again.applied == first.applied
        held = [each.id for each in first.jobs if self._holds(each.id, call.token)]
        assert [each.id for each in again.jobs] == held

    @rule(name=NAMES)
    def renew(self, name: str) -> None:
        for token in self.tokens.get(name, ["nobody:0"])[-2:]:
            lock = Lock(QUEUE, name, token)
            renewed = self.runner.run(self.engine.jobs.renew([lock], lock_ms=LOCK_MS, now=self.model.now))
            assert (renewed.lost == ()) is self.model.renew(name, token, LOCK_MS)

    @rule()
    def recover(self) -> None:
        recovered = self.runner.run(self.engine.jobs.recover(QUEUE, max_stalls=MAX_STALLS, now=self.model.now))
        assert list(recovered.requeued) == self.model.recover()

    @rule(name=NAMES)
    def cancel(self, name: str) -> None:
        answer = self.runner.run(self.engine.jobs.cancel(QUEUE, name, by="ann", reason="", now=self.model.now))
        assert answer is self.model.cancel(name)

    @rule(names=st.lists(NAMES, min_size=1, max_size=3, unique=True))
    def replay(self, names: list[str]) -> None:
        answers = self.runner.run(self.engine.inspect.retry(QUEUE, names, now=self.model.now))
        assert list(answers) == [self.model.replay(name) for name in names]

    @rule(names=st.lists(NAMES, min_size=1, max_size=3, unique=True))
    def promote(self, names: list[str]) -> None:
        answers = self.runner.run(self.engine.inspect.promote(QUEUE, names, now=self.model.now))
        assert list(answers) == [self.model.promote(name) for name in names]

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        answers = self.runner.run(self.engine.inspect.remove(QUEUE, [name], now=self.model.now))
        assert list(answers) == [self.model.remove(name)]

    @rule(count=st.integers(0, 2))
    def prune(self, count: int) -> None:
        keep = Keep(None, count)
        self.runner.run(self.engine.jobs.prune(QUEUE, completed=keep, failed=keep, events=100, now=self.model.now))
        for state in (State.COMPLETED, State.FAILED):
            names = self.model.ordered(state)
            for name in names[: len(names) - count]:
                del self.model.jobs[name]

    @rule()
    def pause_or_resume(self) -> None:
        change = self.engine.inspect.resume if self.model.paused else self.engine.inspect.pause
        self.runner.run(change(QUEUE, now=self.model.now))
        self.model.paused = not self.model.paused

    @rule(ms=st.sampled_from([1, 999, 1_000, 6_000, LOCK_MS - 1, LOCK_MS, 60_000]))
    def time_passes(self, ms: int) -> None:
        self.model.now += ms

    @invariant()
    def both_tell_the_same(self) -> None:
        self.runner.run(self._compare())

    async def _compare(self) -> None:
        listed = {state: (await self.engine.inspect.list(QUEUE, [state], limit=100)).jobs for state in State}
        shown = {
            job.id: (
                job.state,
                job.attempts_made,
                job.starts,
                job.stalls,
                job.due,
                job.cancel is not None,
                job.deferred_failure is not None,
            )
            for jobs in listed.values()
            for job in jobs
        }
        assert shown == {name: job.shown() for name, job in self.model.jobs.items()}
        for state in LISTED:
            assert [job.id for job in listed[state]] == self.model.ordered(state)
        counts = await self.engine.inspect.counts(QUEUE)
        assert {state: counts.of(state) for state in State} == {state: len(listed[state]) for state in State}
        assert await self.engine.inspect.is_paused(QUEUE) is self.model.paused

    def _exchange(self, call: Call) -> Exchanged:
        return self.runner.run(
            self.engine.jobs.exchange(
                QUEUE,
                worker=call.worker,
                seq=call.seq,
                token=call.token,
                finished=call.finished,
                want=call.want,
                lock_ms=LOCK_MS,
                now=self.model.now,
            )
        )

    def _runs(self, name: str, worker: str) -> bool:
        job = self.model.jobs[name]
        return job.state is State.ACTIVE and job.token.startswith(f"{worker}:")

    def _holds(self, name: str, token: str) -> bool:
        job = self.model.jobs.get(name)
        return job is not None and job.state is State.ACTIVE and job.token == token


JobsAgainstModel.TestCase.settings = settings(max_examples=30, stateful_step_count=40)
TestJobsAgainstModel = JobsAgainstModel.TestCase
