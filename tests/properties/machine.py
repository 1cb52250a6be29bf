"""Random sequences of operations on one queue of an engine, each done to the model, too."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.properties.comparing import Comparison
from tests.properties.model import MAX_STALLS, QUEUE, End, Model
from tests.properties.model_children import Node
from tests.properties.stores import Store
from tests.properties.wishes import (
    KEEPS,
    NEW,
    OUTCOMES,
    PICKS,
    POLICIES,
    SEVERAL,
    UNIQUE,
    WINDOW_UNITS,
    WORKERS,
    Call,
    Wish,
    opts_of,
)
from toril.engine.ports.jobs import Added, Exchanged, Finish, Lock
from toril.errors import FlowConflict, JobLocked
from toril.jobs.flow import FlowNode, JobRef, OnFailure
from toril.jobs.limits import QueueLimits
from toril.jobs.model import NewJob
from toril.jobs.options import Keep
from toril.jobs.outcome import Limited, Outcome, Retry, Snooze
from toril.jobs.states import State
from toril.jobs.unique import with_key
from toril.kernel.durations import Rate
from toril.testing.clock import START_MS

T = TypeVar("T")
LOCK = 10
"""How long a lock lasts, in the units of the store."""
TICK_MS = 10
"""What passes at every step, so that no two steps have the same time."""
REMEMBERED_MS = 10 * 60_000


class JobsMachine(RuleBasedStateMachine):
    """One queue of one engine, and its model."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.runner = asyncio.Runner()
        self.engine = self.run(store.open())
        self.model = Model(START_MS, self.engine.capabilities.immediate_cancel)
        self.comparison = Comparison(self.engine, self.model)
        self.seq = {"one": 0, "two": 0}
        self.numbers = self.ended = 0
        # Every token that was ever given, right or outdated by now.
        self.tokens: dict[str, list[str]] = {}
        self.last_add: tuple[str, list[NewJob], int, Added] | None = None
        self.last_exchange: tuple[Call, Exchanged] | None = None

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @property
    def now(self) -> int:
        return self.model.now

    @property
    def lock_ms(self) -> int:
        return LOCK * self.store.unit_ms

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    # Adding

    @initialize(new=st.lists(NEW, min_size=3, max_size=6))
    def begin(self, new: list[Wish]) -> None:
        self.add(new)

    @rule(new=st.lists(NEW, min_size=1, max_size=4))
    def add(self, new: list[Wish]) -> None:
        jobs = [self._new(*wish) for wish in new]
        batch = f"batch-{self.number()}"
        added = self.run(self.engine.jobs.add(QUEUE, jobs, batch=batch, now=self.now))
        ids, created = self.model.add(jobs)
        assert added == Added(tuple(ids), tuple(created))
        self.last_add = (batch, jobs, self.now, added)

    @precondition(lambda self: self.last_add is not None)
    @rule()
    def repeat_add(self) -> None:
        assert self.last_add is not None
        batch, jobs, at, first = self.last_add
        if self.now < at + REMEMBERED_MS // 2:
            assert self.run(self.engine.jobs.add(QUEUE, jobs, batch=batch, now=self.now)) == first

    @rule(parent=NEW, children=st.lists(st.tuples(NEW, POLICIES, st.none() | PICKS), min_size=1, max_size=3))
    def grow(self, parent: Wish, children: list[tuple[Wish, OnFailure | None, int | None]]) -> None:
        """A flow over new jobs, and over such as are there and are nobody's child."""
        number = self.number()
        top = self._new(*parent._replace(id=f"P{number}", unique=""))
        if top.delay_ms:
            top = top._replace(delay_ms=self._free_delay(top.delay_ms, 7))
        nodes: list[Node] = [(top, None, OnFailure.FAIL)]
        nodes += [(self._child(wish, n, pick), 0, policy) for n, (wish, policy, pick) in enumerate(children)]
        self._grow(list({node[0].id: node for node in nodes}.values()))

    @rule(pick=PICKS, wish=NEW, policy=POLICIES)
    def grow_under(self, pick: int, wish: Wish, policy: OnFailure | None) -> None:
        """A new child for a job that is there."""
        name = self._name(pick)
        if name in self.model.jobs:
            self._grow([(self._child(wish, self.number(), None), name, policy)])

    def _grow(self, nodes: list[Node]) -> None:
        given = [FlowNode(QUEUE, new, JobRef(QUEUE, above) if isinstance(above, str) else above, policy or None)
                 for new, above, policy in nodes]  # fmt: skip
        conflicts = [new.id for new, above, _ in nodes[1:] if self._is_child(new.id)]
        call = self.engine.flows.add(given, batch=f"batch-{self.number()}", now=self.now)
        if conflicts:
            try:
                self.run(call)
            except FlowConflict:
                return
            raise AssertionError(f"{conflicts} have two parents")
        added = self.run(call)
        assert added.created == tuple(self.model.family.grow(nodes))

    # Working

    @rule(worker=WORKERS, want=st.integers(1, 3), ends=st.lists(st.tuples(OUTCOMES, KEEPS), min_size=1, max_size=4))
    def work(self, worker: str, want: int, ends: list[tuple[Outcome, Keep | None]]) -> None:
        """What a worker does: hand in some of the jobs that it holds, take others."""
        held = [job.id for job in self.model.of(State.ACTIVE) if job.token.startswith(f"{worker}:")]
        given = [(name, self.tokens[name][-1], *end) for name, end in zip(held, ends, strict=False)]
        self._hand_in_and_take(worker, want, given)

    @rule(worker=WORKERS, outcome=OUTCOMES, more=OUTCOMES, keep=KEEPS)
    def work_on(self, worker: str, outcome: Outcome, more: Outcome, keep: Keep | None) -> None:
        """The same twice, in a queue that runs, so that there is more of it than of everything else."""
        if self.model.paused:
            self._set_paused(False)
        self.work(worker, 2, [(outcome, keep)])
        self.work(worker, 2, [(more, None), (outcome, keep)])

    @rule(worker=WORKERS, want=st.integers(0, 1), ends=st.lists(st.tuples(PICKS, PICKS, OUTCOMES), max_size=3))
    def intrude(self, worker: str, want: int, ends: list[tuple[int, int, Outcome]]) -> None:
        """Hand in jobs that may be anybody's, with tokens that may be outdated."""
        given = {}
        for pick, which, outcome in ends:
            name = self._name(pick)
            tokens = ["nobody:0", *self.tokens.get(name, ())]
            given[name] = (name, tokens[which % len(tokens)], outcome, None)
        self._hand_in_and_take(worker, want, list(given.values()))

    @rule(worker=WORKERS, times=st.integers(1, 3))
    def vanish(self, worker: str, times: int) -> None:
        """What becomes of jobs whose worker has died, again and again."""
        for _ in range(times):
            self._hand_in_and_take(worker, 3, [])
            self._elapse(self.lock_ms)
            self.recover()

    def _hand_in_and_take(self, worker: str, want: int, ends: list[tuple[str, str, Outcome, Keep | None]]) -> None:
        # What ends for others happens alone: in which order such things of one exchange happen is left to the engine.
        alone = [end for end in ends if self._concerns_others(end[0])]
        given = [end for end in ends if end not in alone] if len(alone) < len(ends) else alone[:1]
        self.seq[worker] += 1
        token = f"{worker}:{self.seq[worker]}"
        runs = [
            End(name, held, self._scaled(outcome), self._moment(), self._kept(keep))
            for name, held, outcome, keep in given
        ]
        finished = tuple(Finish(end.id, end.token, end.outcome, self.now, end.ended, end.keep) for end in runs)
        call = Call(worker, self.seq[worker], token, finished, want, self.now)
        answer = self._exchange(call)
        assert list(answer.applied) == self.model.finish_all(runs)
        taken = self.model.take(want, token, self.lock_ms)
        assert [each.id for each in answer.jobs] == taken
        for each in answer.jobs:
            job = self.model.jobs[each.id]
            self.tokens.setdefault(each.id, []).append(token)
            assert (each.attempts_made, each.starts, each.stalls) == (job.attempts, job.starts, job.stalls)
            assert (each.deferred_failure is not None) is (job.deferred is not None)
        self.comparison.answer(answer, worker)
        if self.model.born and (answer.applied or answer.jobs):
            self.last_exchange = (call, answer)

    @precondition(lambda self: self.last_exchange is not None)
    @rule()
    def repeat_exchange(self) -> None:
        assert self.last_exchange is not None
        call, first = self.last_exchange
        if self.now >= call.at + 2 * self.lock_ms - 1000:
            return
        again = self._exchange(call)
        assert again.applied == first.applied
        held = [each.id for each in first.jobs if self._holds(each.id, call.token)]
        if self.engine.capabilities.own_clock:  # There a lock that has run out is given anew.
            for job in (self.model.jobs[name] for name in held):
                job.until = job.until if job.until > self.now else self.now + self.lock_ms
        assert [each.id for each in again.jobs] == held

    @rule(pick=PICKS)
    def renew(self, pick: int) -> None:
        name = self._name(pick)
        for token in self.tokens.get(name, ["nobody:0"])[-2:]:
            lock = Lock(QUEUE, name, token)
            renewed = self.run(self.engine.jobs.renew([lock], lock_ms=self.lock_ms, now=self.now))
            assert (renewed.lost == ()) is self.model.renew(name, token, self.lock_ms)

    @rule()
    def recover(self) -> None:
        recovered = self.run(self.engine.jobs.recover(QUEUE, max_stalls=MAX_STALLS, now=self.now))
        expired = [job for job in self.model.of(State.ACTIVE) if job.until <= self.now]
        self.model.recover(self.comparison.recovered(recovered, expired))

    # What operators do

    @rule(pick=PICKS, reason=st.sampled_from(["", "late", "wrong"]))
    def cancel(self, pick: int, reason: str) -> None:
        name = self._name(pick)
        answer = self.run(self.engine.jobs.cancel(QUEUE, name, by="ann", reason=reason, now=self.now))
        assert answer is self.model.cancel(name, reason)

    @rule(operation=st.sampled_from(["retry", "promote", "remove"]), picks=SEVERAL)
    def operate(self, operation: str, picks: list[int]) -> None:
        names = list(dict.fromkeys(self._name(pick) for pick in picks))
        inspect, now = self.engine.inspect, self.now
        if operation == "retry":
            answers, expected = inspect.retry(QUEUE, names, now=now), self.model.replay
        elif operation == "promote":
            answers, expected = inspect.promote(QUEUE, names, now=now), self.model.promote
        else:
            names = names[:1]
            answers, expected = inspect.remove(QUEUE, names, now=now), self.model.remove
        assert list(self.run(answers)) == [expected(name) for name in names]

    @rule(count=st.none() | st.integers(0, 2), age=st.none() | st.integers(0, 9))
    def prune(self, count: int | None, age: int | None) -> None:
        keep = Keep(None if age is None else age * self.store.unit_ms / 1000, count)
        if count is not None and any(job.state.finished and not job.ours for job in self.model.jobs.values()):
            return
        self.run(self.engine.jobs.prune(QUEUE, completed=keep, failed=keep, events=100, now=self.now))
        for state in (State.COMPLETED, State.FAILED):
            self.model.trim(state, keep, ours=True)

    @rule(delayed=st.booleans(), state=st.none() | st.sampled_from(State), units=st.integers(0, 9))
    def sweep(self, delayed: bool, state: State | None, units: int) -> None:
        """Drain the queue, or clean a state."""
        model, inspect, before = self.model, self.engine.inspect, self.now - units * self.store.unit_ms
        if state is None:
            jobs = model.of(State.WAITING, State.PRIORITIZED, *([State.DELAYED] if delayed else []))
            count = self.run(inspect.drain(QUEUE, delayed=delayed, now=self.now))
        else:
            jobs = [job for job in model.of(state) if (job.finished if state.finished else job.created) <= before]
            jobs = [job for job in jobs if state is not State.ACTIVE or job.until <= self.now]
            count = self.run(inspect.clean(QUEUE, state, before=before, now=self.now))
        assert count == len(jobs)
        model.sweep(jobs)

    @rule(force=st.booleans(), sure=st.integers(0, 4))
    def obliterate(self, force: bool, sure: int) -> None:
        if sure or not self.run(self.engine.inspect.queues()):
            return
        try:
            while not self.run(self.engine.inspect.obliterate(QUEUE, force=force, now=self.now)):
                pass
        except JobLocked:
            assert not force
            assert self.model.of(State.ACTIVE)
            self.model.paused = True
            return
        assert force or not self.model.of(State.ACTIVE)
        self.model = Model(self.now, self.model.immediate)
        self.comparison.begin(self.model)
        self.last_exchange = None

    @rule()
    def pause_or_resume(self) -> None:
        self._set_paused(not self.model.paused)

    @rule(
        concurrency=st.none() | st.integers(1, 3),
        rate=st.none() | st.tuples(st.integers(1, 3), st.integers(1, 9)),
        declared=st.booleans(),
    )
    def limit(self, concurrency: int | None, rate: tuple[int, int] | None, declared: bool) -> None:
        limits = QueueLimits(concurrency, None if rate is None else Rate(rate[0], rate[1] * self.store.unit_ms))
        done = self.run(self.engine.inspect.set_limits(QUEUE, limits, now=self.now, declared=declared))
        assert done is self.model.gate.set(self.now, limits, declared)

    @rule(units=st.sampled_from([1, 1, 6, LOCK, 60]), less=st.booleans())
    def time_passes(self, units: int, less: bool) -> None:
        ms = units * self.store.unit_ms
        # One moment before something is due, and with the next tick at that moment.
        self._elapse(ms - TICK_MS if less and not self.engine.capabilities.own_clock else ms)

    @invariant()
    def both_tell_the_same(self) -> None:
        self.run(self.comparison.whole())
        self.ended = 0
        self._elapse(TICK_MS)

    # What the rules are made of

    def _moment(self) -> int:
        """When a run ended: since the last step, and no two at once."""
        self.ended += 1
        return self.now - TICK_MS + self.ended

    def _elapse(self, ms: int) -> None:
        self.model.now += ms
        if ms > TICK_MS:
            self.run(self.store.elapse(ms))

    def _new(self, id: str, priority: int, units: int, lifo: bool, ours: bool, unique: str) -> NewJob:
        delay = self._free_delay(units * self.store.unit_ms, 0)
        key = UNIQUE.get(unique)
        if key is not None and key.window_ms is not None:
            key = key._replace(window_ms=WINDOW_UNITS * self.store.unit_ms)
        text = opts_of(delay, priority, lifo, ours)
        text = text if key is None else with_key(text, key)
        return NewJob(id, "work", "{}", text, self.now, delay, priority, lifo, key)

    def _child(self, wish: Wish, number: int, pick: int | None) -> NewJob:
        names = [name for name in sorted(self.model.jobs) if not name.startswith("P")]
        there = names[pick % len(names)] if pick is not None and names else None
        return self._new(*wish._replace(id=there or f"C{self.numbers}-{number}", unique=""))

    def _free_delay(self, ms: int, digit: int) -> int:
        """A delay to a moment at which nothing else is due: the order of two would be left to the engine."""
        if not ms:
            return 0
        due = {job.due for job in self.model.of(State.DELAYED)}
        ms += digit
        while self.now + ms in due:
            ms += TICK_MS
        return ms

    def _scaled(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Retry | Snooze):
            return outcome._replace(delay_ms=self._free_delay(outcome.delay_ms * self.store.unit_ms, 3))
        return (
            outcome._replace(delay_ms=outcome.delay_ms * self.store.unit_ms)
            if isinstance(outcome, Limited)
            else outcome
        )

    def _kept(self, keep: Keep | None) -> Keep | None:
        return keep if keep is None or keep.age_s is None else Keep(keep.age_s * self.store.unit_ms / 1000, keep.count)

    def _concerns_others(self, name: str) -> bool:
        job = self.model.jobs.get(name)
        return job is not None and (job.parent is not None or bool(job.links) or job.key == "last")

    def _is_child(self, name: str) -> bool:
        job = self.model.jobs.get(name)
        return job is not None and self.model.family.link_to(job) is not None

    def _exchange(self, call: Call) -> Exchanged:
        worker, seq, token, finished, want, _ = call
        return self.run(
            self.engine.jobs.exchange(
                QUEUE,
                worker=worker,
                seq=seq,
                token=token,
                finished=finished,
                want=want,
                lock_ms=self.lock_ms,
                now=self.now,
            )
        )

    def _set_paused(self, paused: bool) -> None:
        change = self.engine.inspect.pause if paused else self.engine.inspect.resume
        self.run(change(QUEUE, now=self.now))
        self.model.paused = paused

    def _name(self, pick: int) -> str:
        """One of the stored jobs, or one that is not stored."""
        names = [*sorted(self.model.jobs), "nobody"]
        return names[pick % len(names)]

    def _holds(self, name: str, token: str) -> bool:
        job = self.model.jobs.get(name)
        return job is not None and job.state is State.ACTIVE and job.token == token
