"""Random sequences of operations: after each one the SQLite engine and a model in plain Python tell the same."""

import asyncio
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
PICKS = st.integers(0, 30)
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
SEVERAL = st.lists(PICKS, min_size=1, max_size=3)
NEW = st.tuples(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.sampled_from([0, 0, 1, 2]), DELAYS, st.booleans())
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

    # A02

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

    @initialize(new=st.lists(NEW, min_size=3, max_size=6))
    def begin(self, new: list[tuple[str, int, int, bool]]) -> None:
        self.add(new)

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

    @rule(worker=WORKERS, want=st.integers(1, 3), outcomes=st.lists(OUTCOMES, min_size=1, max_size=4))
    def work(self, worker: str, want: int, outcomes: list[Outcome]) -> None:
        """What a worker does: hand in some of the jobs that it holds, take others."""
        held = [name for name in self.model.ordered(State.ACTIVE) if self._runs(name, worker)]
        ends = [(name, self.tokens[name][-1], outcome) for name, outcome in zip(held, outcomes, strict=False)]
        self._hand_in_and_take(worker, want, ends)

    @rule(worker=WORKERS, outcome=OUTCOMES, more=OUTCOMES)
    def work_on(self, worker: str, outcome: Outcome, more: Outcome) -> None:
        """The same twice, in a queue that runs, so that there is more of it than of everything else."""
        if self.model.paused:
            self._set_paused(False)
        self.work(worker, 2, [outcome])
        self.work(worker, 2, [more, outcome])

    @rule(worker=WORKERS, want=st.integers(0, 1), ends=st.lists(st.tuples(PICKS, PICKS, OUTCOMES), max_size=3))
    def intrude(self, worker: str, want: int, ends: list[tuple[int, int, Outcome]]) -> None:
        """Hand in jobs that may be anybody's, with tokens that may be outdated."""
        given = []
        for pick, which, outcome in ends:
            name = self._name(pick)
            tokens = ["nobody:0", *self.tokens.get(name, ())]
            given.append((name, tokens[which % len(tokens)], outcome))
        self._hand_in_and_take(worker, want, given)

    @rule(worker=WORKERS, times=st.integers(1, 3))
    def vanish(self, worker: str, times: int) -> None:
        """What becomes of jobs whose worker has died, again and again."""
        for _ in range(times):
            self._hand_in_and_take(worker, 3, [])
            self.model.now += LOCK_MS
            self.recover()

    def _hand_in_and_take(self, worker: str, want: int, ends: list[tuple[str, str, Outcome]]) -> None:
        self.seq[worker] += 1
        token = f"{worker}:{self.seq[worker]}"
        now = self.model.now
        finished = [Finish(name, held, outcome, now, now) for name, held, outcome in ends]
        call = Call(worker, self.seq[worker], token, tuple(finished), want, now)
        answer = self._exchange(call)
        assert list(answer.applied) == self.model.finish_all(ends)
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

    @rule(pick=PICKS)
    def renew(self, pick: int) -> None:
        name = self._name(pick)
        for token in self.tokens.get(name, ["nobody:0"])[-2:]:
            lock = Lock(QUEUE, name, token)
            renewed = self.runner.run(self.engine.jobs.renew([lock], lock_ms=LOCK_MS, now=self.model.now))
            assert (renewed.lost == ()) is self.model.renew(name, token, LOCK_MS)

    @rule()
    def recover(self) -> None:
        recovered = self.runner.run(self.engine.jobs.recover(QUEUE, max_stalls=MAX_STALLS, now=self.model.now))
        assert list(recovered.requeued) == self.model.recover()

    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        name = self._name(pick)
        answer = self.runner.run(self.engine.jobs.cancel(QUEUE, name, by="ann", reason="", now=self.model.now))
        assert answer is self.model.cancel(name)

    @rule(operation=st.sampled_from(["retry", "promote", "remove"]), picks=SEVERAL)
    def operate(self, operation: str, picks: list[int]) -> None:
        names = list(dict.fromkeys(self._name(pick) for pick in picks))
        inspect, now = self.engine.inspect, self.model.now
        if operation == "retry":
            answers, expected = inspect.retry(QUEUE, names, now=now), self.model.replay
        elif operation == "promote":
            answers, expected = inspect.promote(QUEUE, names, now=now), self.model.promote
        else:
            answers, expected = inspect.remove(QUEUE, names[:1], now=now), self.model.remove
            names = names[:1]
        assert list(self.runner.run(answers)) == [expected(name) for name in names]

    @rule(count=st.integers(0, 2), pause=st.booleans())
    def maintain(self, count: int, pause: bool) -> None:
        if pause:
            self._set_paused(not self.model.paused)
            return
        keep = Keep(None, count)
        self.runner.run(self.engine.jobs.prune(QUEUE, completed=keep, failed=keep, events=100, now=self.model.now))
        for state in (State.COMPLETED, State.FAILED):
            names = self.model.ordered(state)
            for name in names[: len(names) - count]:
                del self.model.jobs[name]

    def _set_paused(self, paused: bool) -> None:
        change = self.engine.inspect.pause if paused else self.engine.inspect.resume
        self.runner.run(change(QUEUE, now=self.model.now))
        self.model.paused = paused

    @rule(ms=st.sampled_from([1, 1, 999, 1_000, 1_000, 6_000, LOCK_MS - 1, LOCK_MS, 60_000]))
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

    def _name(self, pick: int) -> str:
        """One of the stored jobs, or one that is not stored."""
        names = [*sorted(self.model.jobs), "nobody"]
        return names[pick % len(names)]

    def _runs(self, name: str, worker: str) -> bool:
        job = self.model.jobs[name]
        return job.state is State.ACTIVE and job.token.startswith(f"{worker}:")

    def _holds(self, name: str, token: str) -> bool:
        job = self.model.jobs.get(name)
        return job is not None and job.state is State.ACTIVE and job.token == token


JobsAgainstModel.TestCase.settings = settings(max_examples=25, stateful_step_count=40)
TestJobsAgainstModel = JobsAgainstModel.TestCase
