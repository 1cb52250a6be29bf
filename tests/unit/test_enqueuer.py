"""How calls become stored jobs: joined, cut into chunks, sent again when an answer is lost."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import pytest

from toril.engine.ports.jobs import Added
from toril.engine.protocol import Engine
from toril.errors import EngineUnavailable, InvalidArguments, PayloadTooLarge, StoreFull
from toril.jobs.model import NewJob
from toril.jobs.options import JobOptions
from toril.kernel.blocking import BlockingLoop
from toril.kernel.ids import JobIds
from toril.tasks.decorator import TaskDecorator
from toril.tasks.enqueue import MOST_BYTES, MOST_JOBS, Enqueuer, Limits
from toril.tasks.handle import Desk
from toril.tasks.middleware import EnqueueNext
from toril.tasks.registry import Registry
from toril.tasks.watch import Watcher
from toril.testing.clock import ManualClock


class Sent(NamedTuple):
    queue: str
    jobs: tuple[NewJob, ...]
    batch: str
    now: int


class FakeStore:
    """A `JobStore` that remembers what it was sent and raises what it was told to, one per call."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.errors: list[Exception | None] = []
        self.gate: asyncio.Event | None = None
        self.jobs = self

    async def add(self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int) -> Added:
        self.sent.append(Sent(queue, tuple(jobs), batch, now))
        if self.gate is not None:
            await self.gate.wait()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return Added(tuple(job.id for job in jobs), tuple(True for _ in jobs))


class Bench:
    def __init__(self, *, payload: int = 1000, deadline_s: float = 5.0) -> None:
        self.store, self.registry, self.clock = FakeStore(), Registry(), ManualClock()
        desk = Desk(self.open, Watcher(self.open), BlockingLoop(), self.clock, lambda name: None)
        self.enqueuer = Enqueuer(self.open, JobIds(self.clock), Limits(payload, deadline_s), desk)
        self.task = TaskDecorator(self.registry, self.enqueuer, default_queue="default", defaults=JobOptions())

    async def open(self) -> Engine:
        return cast(Engine, self.store)


def write(text: str, copies: int = 1) -> str:
    return text * copies


def lost(*, ambiguous: bool = True) -> EngineUnavailable:
    return EngineUnavailable("gone", ambiguous=ambiguous)


async def test_enqueues_of_one_turn_become_one_add_per_queue() -> None:
    bench = Bench()
    one, two = bench.task(queue="one", name="one")(write), bench.task(queue="two", name="two")(write)
    handles = await asyncio.gather(*(task.enqueue(str(n)) for n in range(10) for task in (one, two)))
    assert [(sent.queue, len(sent.jobs)) for sent in bench.store.sent] == [("one", 10), ("two", 10)]
    assert [json.loads(job.data)["text"] for job in bench.store.sent[0].jobs] == [str(n) for n in range(10)]
    assert [handle.queue for handle in handles] == ["one", "two"] * 10
    assert len({handle.id for handle in handles}) == 20
    await one.enqueue("later")
    assert len(bench.store.sent) == 3


async def test_a_bad_call_does_not_touch_its_neighbours() -> None:
    bench = Bench(payload=100)
    task = bench.task(write)
    answers = await asyncio.gather(
        task.enqueue("a"),
        task.enqueue("b", copies=cast(int, "many")),
        task.enqueue("c" * 200),
        task.enqueue("d"),
        return_exceptions=True,
    )
    assert [type(answer).__name__ for answer in answers] == [
        "JobHandle",
        "InvalidArguments",
        "PayloadTooLarge",
        "JobHandle",
    ]
    assert [len(sent.jobs) for sent in bench.store.sent] == [2]


async def test_a_payload_over_the_limit_says_what_to_do() -> None:
    bench = Bench(payload=100)
    task = bench.task(write)
    frame = len('{"text":""}')
    await task.enqueue("x" * (100 - frame))
    await task.enqueue("é" * ((100 - frame) // 2))
    with pytest.raises(PayloadTooLarge, match=r"take 101 bytes .* limit is 100\. .*TORIL_JOBS_PAYLOAD_LIMIT") as caught:
        await task.enqueue("x" * (101 - frame))
    assert (caught.value.size, caught.value.limit) == (101, 100)
    with pytest.raises(PayloadTooLarge):
        await task.enqueue("é" * 60)
    with pytest.raises(PayloadTooLarge):
        await bench.enqueuer.enqueue_many([task.call("a"), task.call("x" * 200)])
    assert len(bench.store.sent) == 2


async def test_a_lost_answer_is_asked_for_with_the_same_batch() -> None:
    bench = Bench()
    bench.store.errors = [lost(), lost(ambiguous=False)]
    bench.clock.advance("1s")
    handle = await bench.task(write).enqueue("a")
    assert len(bench.store.sent) == 3
    assert len(set(bench.store.sent)) == 1
    assert bench.store.sent[0].jobs[0].id == handle.id


async def test_what_was_surely_not_stored_is_told_at_once() -> None:
    bench = Bench()
    bench.store.errors = [lost(ambiguous=False)]
    with pytest.raises(EngineUnavailable) as caught:
        await bench.task(write).enqueue("a")
    assert not caught.value.ambiguous
    assert len(bench.store.sent) == 1


async def test_after_the_deadline_each_caller_learns_its_own_id() -> None:
    bench = Bench(deadline_s=0.0)
    task = bench.task(write)
    bench.store.errors = [lost()]
    answers = await asyncio.gather(*(task.enqueue(str(n)) for n in range(3)), return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, EngineUnavailable)]
    assert [(error.ambiguous, error.id) for error in errors] == [(True, job.id) for job in bench.store.sent[0].jobs]
    assert len(errors) == 3
    assert "may or may not be stored" in str(errors[0])


async def test_a_cancelled_caller_takes_nobody_along() -> None:
    bench = Bench()
    task = bench.task(write)
    early, late, other = (asyncio.create_task(task.enqueue(text)) for text in ("early", "late", "other"))
    bench.store.gate = asyncio.Event()
    early.cancel()
    while not bench.store.sent:
        await asyncio.sleep(0)
    late.cancel()
    bench.store.gate.set()
    handle = await other
    await asyncio.gather(early, late, return_exceptions=True)
    assert early.cancelled()
    assert late.cancelled()
    assert [json.loads(job.data)["text"] for job in bench.store.sent[0].jobs] == ["late", "other"]
    assert handle.id == bench.store.sent[0].jobs[1].id


async def test_bulk_is_cut_by_number_and_by_size_and_grouped_by_queue() -> None:
    bench = Bench(payload=2 * MOST_BYTES)
    one, two = bench.task(queue="one", name="one")(write), bench.task(queue="two", name="two")(write)
    calls = [task.call(str(n)) for n in range(1100) for task in (one, two)]
    handles = await bench.enqueuer.enqueue_many(calls)
    assert [(sent.queue, len(sent.jobs)) for sent in bench.store.sent] == [
        ("one", 500), ("two", 500), ("one", 500), ("two", 500), ("one", 100), ("two", 100),
    ]  # fmt: skip
    assert len({sent.batch for sent in bench.store.sent}) == 6
    data = {job.id: job.data for sent in bench.store.sent for job in sent.jobs}
    assert [data[handle.id] for handle in handles] == [call.data for call in calls]

    bench.store.sent.clear()
    await bench.enqueuer.enqueue_many(one.call("é" * 200_000) for _ in range(7))
    await bench.enqueuer.enqueue_many([one.call("x" * (MOST_BYTES + 5)), one.call("small")])
    assert [len(sent.jobs) for sent in bench.store.sent] == [2, 2, 2, 1, 1, 1]
    assert await bench.enqueuer.enqueue_many([]) == []


async def test_many_at_once_are_cut_as_bulk_is() -> None:
    bench = Bench()
    task = bench.task(write)
    await asyncio.gather(*(task.enqueue(str(n)) for n in range(MOST_JOBS + 20)))
    assert [len(sent.jobs) for sent in bench.store.sent] == [MOST_JOBS, 20]


async def test_bulk_checks_all_before_it_stores_any() -> None:
    bench = Bench()
    task = bench.task(write)
    with pytest.raises(InvalidArguments):
        await bench.enqueuer.enqueue_many(task.call(cast(str, n if n == 900 else "a")) for n in range(1000))
    assert bench.store.sent == []


async def test_bulk_that_fails_half_way_says_how_far_it_came() -> None:
    bench = Bench()
    task = bench.task(write)
    bench.store.errors = [None, StoreFull("full")]
    with pytest.raises(StoreFull) as caught:
        await bench.enqueuer.enqueue_many(task.call("a") for _ in range(1200))
    assert caught.value.__notes__ == ["Of 1200 jobs, the first 500 in the order of storing were stored."]


async def test_other_tasks_get_their_turn_during_a_bulk() -> None:
    bench = Bench()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    task = bench.task(write)
    await bench.enqueuer.enqueue_many(task.call("a") for _ in range(5 * MOST_JOBS))
    counting.cancel()
    assert turns >= 5


async def test_the_stored_job_carries_what_was_asked_for() -> None:
    bench = Bench()
    task = bench.task(queue="docs", attempts=5)(write)
    now = bench.clock.now_ms()
    at = datetime.fromtimestamp(now / 1000 + 60, UTC)
    await task.with_options(id="mine", delay="2s", priority=7, lifo=True).enqueue("a", copies=2)
    await task.with_options(run_at=at).enqueue("b")
    await task.enqueue("c")
    first, second, third = (sent.jobs[0] for sent in bench.store.sent)
    assert first[:3] == ("mine", "write", '{"text":"a","copies":2}')
    assert first[4:] == (now, 2000, 7, True, None)
    assert (json.loads(first.opts)["jobId"], json.loads(first.opts)["attempts"]) == ("mine", 5)
    assert (second.delay_ms, json.loads(second.opts)["delay"]) == (60_000, 60_000)
    assert third.opts == task.stored_options
    assert third[4:] == (now, 0, 0, False, None)


async def test_the_id_that_the_store_answers_is_the_handles() -> None:
    bench = Bench()

    async def answer(queue: str, jobs: Sequence[NewJob], *, batch: str, now: int) -> Added:
        return Added(tuple(f"other-{n}" for n in range(len(jobs))), (False,) * len(jobs))

    bench.store.add = answer  # type: ignore[method-assign]
    task = bench.task(write)
    assert (await task.enqueue("a")).id == "other-0"
    assert [handle.id for handle in await bench.enqueuer.enqueue_many([task.call("a")] * 2)] == ["other-0", "other-1"]


async def test_middleware_sees_every_way_in_and_may_refuse_one_job() -> None:
    bench = Bench()
    seen: list[str] = []

    class Outer:
        async def __call__(self, queue: str, jobs: Sequence[NewJob], call_next: EnqueueNext) -> Added:
            seen.append(f"outer {queue} {len(jobs)}")
            return await call_next(queue, jobs)

    async def inner(queue: str, jobs: Sequence[NewJob], call_next: EnqueueNext) -> Added:
        seen.append(f"inner {queue} {len(jobs)}")
        if any("secret" in job.data for job in jobs):
            raise PermissionError("no secrets")
        return await call_next(queue, [job._replace(priority=9) for job in jobs])

    bench.enqueuer.use(Outer())
    bench.enqueuer.use(inner)
    task = bench.task(write)
    answers = await asyncio.gather(*(task.enqueue(text) for text in ("a", "secret", "b")), return_exceptions=True)
    assert [isinstance(answer, PermissionError) for answer in answers] == [False, True, False]
    assert [[job.priority for job in sent.jobs] for sent in bench.store.sent] == [[9], [9]]
    await bench.enqueuer.enqueue_many([task.call("a"), task.call("b")])
    assert seen[:2] == ["outer default 3", "inner default 3"]
    assert seen[-2:] == ["outer default 2", "inner default 2"]
    with pytest.raises(PermissionError):
        await bench.enqueuer.enqueue_many([task.call("secret")])


def test_a_task_can_be_enqueued_without_a_loop() -> None:
    bench = Bench()
    task = bench.task(write)
    try:
        handle = task.enqueue_sync("a", copies=3)
        assert [handle.id] == [job.id for sent in bench.store.sent for job in sent.jobs]
        handles: list[Any] = list(bench.enqueuer.enqueue_many_sync([task.call("b")]))
        assert [one.id for one in handles] == [bench.store.sent[1].jobs[0].id]
    finally:
        bench.enqueuer._desk.blocking.close()
