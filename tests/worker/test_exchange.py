"""The exchange loop: lost replies, lost locks, an absent store, shared slots."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.worker.faulty import once_each, with_faults
from tests.worker.workshop import Workshop
from toril.engine.ports.jobs import Code, Exchanged
from toril.errors import StoreReadOnly
from toril.jobs.options import JobOptions, Keep
from toril.jobs.outcome import Done
from toril.jobs.states import State
from toril.kernel.telemetry import EngineBack, EngineLost, JobLockLost, JobRefused, LoopFailed
from toril.worker.options import QueuePolicy


async def test_a_lost_reply_of_every_exchange_changes_nothing(shop: Workshop) -> None:
    runs: Counter[int] = Counter()

    @shop.toril.task()
    async def count(number: int) -> int:
        runs[number] += 1
        return number

    engine, store = with_faults(shop.engine)
    store.lose_reply = once_each(["exchange", "report", "renew", "recover", "prune"])
    handles = await shop.toril.enqueue_many(count.call(number) for number in range(60))
    async with shop.worker(engine=engine, concurrency=7):
        for number, handle in enumerate(handles):
            job = await shop.finished(handle.id)
            assert (job.result, job.attempts_made, job.starts) == (str(number), 1, 1)
    assert runs == dict.fromkeys(range(60), 1)
    assert not any(isinstance(event, JobLockLost) for event in shop.told)


async def test_a_lost_reply_repeats_the_same_exchange(shop: Workshop) -> None:
    @shop.toril.task()
    async def count() -> None: ...

    engine, store = with_faults(shop.engine)
    store.lose_reply = once_each(["exchange"])
    handle = await count.enqueue()
    worker = shop.worker(engine=engine)
    async with worker:
        await shop.finished(handle.id)
    pairs = list(zip(store.exchanges[::2], store.exchanges[1::2], strict=False))
    assert pairs
    assert all(first == again for first, again in pairs)
    seqs = [first[0] for first, _ in pairs]
    assert seqs == list(range(1, len(seqs) + 1))
    assert all(token == f"{worker.id}:{seq}" for seq, token, *_ in store.exchanges)


async def test_jobs_whose_lock_ran_out_with_the_reply_are_not_run(shop: Workshop) -> None:
    runs: list[int] = []

    @shop.toril.task()
    async def count() -> None:
        runs.append(1)

    engine, store = with_faults(shop.engine)
    losing = True

    def lose(method: str) -> bool:
        if method == "exchange" and losing:
            # While the worker tries again its lock runs out, and another worker takes the job.
            shop.clock.advance("1s")
        return method == "exchange" and losing

    store.lose_reply = lose
    handle = await count.enqueue()
    async with shop.worker(engine=engine, lock_ms=300, heartbeat_ms=100, recover_every_ms=60_000):
        await shop.heard(EngineLost)
        while len(store.exchanges) < 4:
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.02)
        await shop.engine.jobs.recover("default", max_stalls=5, now=shop.clock.now_ms())
        other = await shop.engine.jobs.exchange(
            "default", worker="other", seq=1, token="other:1", finished=(), want=1, lock_ms=60_000,
            now=shop.clock.now_ms(),
        )  # fmt: skip
        assert [job.id for job in other.jobs] == [handle.id]
        losing = False
        await shop.heard(EngineBack)
    assert runs == []
    assert (await shop.get(handle.id)).state is State.ACTIVE


async def test_while_the_store_is_away_the_worker_is_quiet_and_goes_on_after(shop: Workshop) -> None:  # A01
    @shop.toril.task()
    async def work() -> str:
        return "done"

    engine, store = with_faults(shop.engine)
    away = True
    store.refuse = lambda method: away
    handle = await work.enqueue()
    async with shop.worker(engine=engine, recover_every_ms=20, prune_every_ms=20):
        await shop.heard(EngineLost)
        while len(store.exchanges) < 3:
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.02)
        away = False
        assert (await shop.finished(handle.id)).state is State.COMPLETED
    assert len([event for event in shop.told if isinstance(event, EngineLost)]) <= 2  # loop and heartbeat
    assert not any(isinstance(event, LoopFailed) for event in shop.told)


async def test_what_waiting_does_not_cure_ends_the_worker_with_the_reason(shop: Workshop) -> None:
    engine, store = with_faults(shop.engine)

    async def refuse(*args: object, **kwargs: object) -> Exchanged:
        raise StoreReadOnly("the file cannot be written")

    store.exchange = refuse  # type: ignore[method-assign]
    worker = shop.worker(engine=engine)
    worker._budget = type(worker._budget)(restarts=2, base_s=0.001, cap_s=0.001)
    with pytest.raises(StoreReadOnly):
        await worker.run_until_stopped(signals=False)
    failed = [event for event in shop.told if isinstance(event, LoopFailed)]
    assert [event.restart_s is None for event in failed] == [False, False, True]


async def test_a_worker_that_nobody_watches_goes_on_when_the_store_is_mended(shop: Workshop) -> None:
    # A01: such as one inside a web application
    ran = asyncio.Event()

    @shop.toril.task()
    async def work() -> None:
        ran.set()

    engine, store = with_faults(shop.engine)
    failures = 5

    def refuse(method: str) -> bool:
        nonlocal failures
        if method == "exchange" and failures:
            failures -= 1
            raise StoreReadOnly("the file cannot be written")
        return False

    store.refuse = refuse
    handle = await work.enqueue()
    worker = shop.worker(engine=engine)
    worker._budget = type(worker._budget)(restarts=2, base_s=0.001, cap_s=0.001, rest_s=0.01)
    async with worker:
        assert (await shop.finished(handle.id)).state is State.COMPLETED
    assert isinstance(worker.failure, StoreReadOnly)


async def test_a_lost_lock_cancels_the_run_and_nothing_of_it_is_stored(shop: Workshop) -> None:  # A03
    cancelled, elsewhere = asyncio.Event(), asyncio.Event()

    @shop.toril.task()
    async def long() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            # Its slot stays taken, so that this worker is not the one who takes the job again.
            await elsewhere.wait()
            raise

    handle = await long.enqueue()
    options: dict[str, Any] = {
        "lock_ms": 1_000,
        "heartbeat_ms": 250,
        "recover_every_ms": 60_000,
        "concurrency": 1,
        "grace_s": 30.0,
    }
    async with shop.worker(**options) as worker:
        await shop.in_state(handle.id, State.ACTIVE)
        store, now = shop.engine.jobs, shop.clock.advance("2s")
        await store.recover("default", max_stalls=5, now=now)
        taken = await store.exchange(
            "default", worker="other", seq=1, token="other:1", finished=(), want=1, lock_ms=60_000, now=now
        )
        assert [job.id for job in taken.jobs] == [handle.id]
        await cancelled.wait()
        elsewhere.set()
        [lost] = await shop.heard(JobLockLost)
        assert (lost.job_id, lost.running) == (handle.id, True)
        job = await shop.get(handle.id)
        assert (job.state, job.worker) == (State.ACTIVE, "other")
        assert worker.running() == []


async def test_an_end_that_comes_too_late_is_refused_and_told(shop: Workshop) -> None:
    go = asyncio.Event()

    @shop.toril.task()
    async def late() -> str:
        await go.wait()
        return "first"

    handle = await late.enqueue()
    worker = shop.worker(lock_ms=60_000, heartbeat_ms=30_000, recover_every_ms=60_000, concurrency=1)
    async with worker:
        await shop.in_state(handle.id, State.ACTIVE)
        now = shop.clock.advance("61s")
        recovered = await shop.engine.jobs.recover("default", max_stalls=5, now=now)
        assert recovered.requeued == (handle.id,)
        go.set()
        [lost] = await shop.heard(JobLockLost)
        assert (lost.job_id, lost.running) == (handle.id, False)
        [refused] = await shop.heard(JobRefused)
        assert refused.code == Code.LOCK_LOST
        job = await shop.finished(handle.id)
    assert (job.result, job.attempts_made, job.stalls) == ('"first"', 1, 1)


async def test_an_outcome_that_the_engine_finds_broken_becomes_a_failure(shop: Workshop) -> None:
    @shop.toril.task()
    async def work() -> int:
        return 1

    task = shop.toril.registry["work"]
    task.signature.dump_result = lambda value: "no json"  # type: ignore[method-assign]
    handle = await work.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert job.failed_reason == "The outcome of the run could not be stored (done)."
    assert [event.code for event in shop.told if isinstance(event, JobRefused)] == ["BROKEN"]


async def test_a_busy_queue_does_not_starve_another(shop: Workshop) -> None:  # A11
    # S4-01
    order: list[str] = []

    @shop.toril.task(queue="busy")
    async def busy() -> None:
        order.append("busy")
        await asyncio.sleep(0)

    @shop.toril.task(queue="calm")
    async def calm() -> None:
        order.append("calm")
        await asyncio.sleep(0)

    await shop.toril.enqueue_many(busy.call() for _ in range(400))
    handles = await shop.toril.enqueue_many(calm.call() for _ in range(20))
    async with shop.worker("busy", "calm", concurrency=4):
        for handle in handles:
            await shop.finished(handle.id, "calm")
    # With fair shares the calm queue is through long before the busy one, whose jobs were there first.
    assert len([name for name in order[: order.index("calm") + 120] if name == "calm"]) == 20


async def test_a_queue_whose_long_jobs_hold_every_slot_makes_room(shop: Workshop) -> None:
    go: dict[str, asyncio.Event] = {}
    begun: list[str] = []

    @shop.toril.task(queue="long")
    async def long(name: str) -> None:
        begun.append(name)
        await go.setdefault(name, asyncio.Event()).wait()

    @shop.toril.task(queue="short")
    async def short() -> str:
        return "ran"

    long_ones = await shop.toril.enqueue_many(long.call(str(number)) for number in range(6))
    async with shop.worker("long", "short", concurrency=2):
        while len(begun) < 2:
            await asyncio.sleep(0)
        handle = await short.enqueue()
        go["0"].set()
        assert (await shop.finished(handle.id, "short")).state is State.COMPLETED
        for number in range(6):
            go.setdefault(str(number), asyncio.Event()).set()
        for one in long_ones:
            await shop.finished(one.id, "long")


async def test_one_worker_uses_all_slots_for_the_only_queue_with_work(shop: Workshop) -> None:  # S0-04
    at_once, most = 0, 0
    all_in = asyncio.Event()

    @shop.toril.task()
    async def work() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 5:
            all_in.set()
        await all_in.wait()
        at_once -= 1

    handles = await shop.toril.enqueue_many(work.call() for _ in range(5))
    async with shop.worker("default", "idle"):
        for handle in handles:
            await shop.finished(handle.id)
    assert most == 5


async def test_two_workers_share_a_queue_and_nothing_runs_twice(shop: Workshop) -> None:  # S0-21
    runs: Counter[int] = Counter()

    @shop.toril.task()
    async def count(number: int) -> None:
        runs[number] += 1
        await asyncio.sleep(0)

    handles = await shop.toril.enqueue_many(count.call(number) for number in range(300))
    workers = set()
    async with shop.worker(concurrency=3), shop.worker(concurrency=3):
        for handle in handles:
            workers.add((await shop.finished(handle.id)).worker)
    assert runs == dict.fromkeys(range(300), 1)
    assert len(workers) == 2


async def test_a_delayed_job_starts_when_it_is_due_without_polling(shop: Workshop) -> None:
    @shop.toril.task()
    async def work() -> None: ...

    await shop.add(shop.job("later", "work")._replace(delay_ms=60))
    async with shop.worker(poll_s=60.0):
        await shop.in_state("later", State.DELAYED)
        shop.clock.advance_ms(60)
        assert (await shop.finished("later")).state is State.COMPLETED


async def test_a_job_is_taken_as_soon_as_it_is_added(shop: Workshop) -> None:
    @shop.toril.task()
    async def work() -> None: ...

    async with shop.worker(poll_s=60.0):
        for _ in range(20):
            handle = await work.enqueue()
            assert (await shop.finished(handle.id)).state is State.COMPLETED


async def test_results_too_big_for_one_call_are_handed_in_with_several(shop: Workshop) -> None:
    @shop.toril.task()
    async def big() -> str:
        return "x" * 900_000

    engine, store = with_faults(shop.engine)
    handles = await shop.toril.enqueue_many(big.call() for _ in range(10))
    async with shop.worker(engine=engine, concurrency=10):
        for handle in handles:
            assert (await shop.finished(handle.id)).state is State.COMPLETED
    sizes = [
        sum(len(finish.outcome.result) for finish in finished if isinstance(finish.outcome, Done))
        for _, _, finished, _ in store.exchanges
    ]
    assert max(sizes) <= 4 * 1024 * 1024
    assert sum(sizes) == 10 * 900_002


async def test_retention_keeps_pace_with_what_ends(shop: Workshop) -> None:  # S0-23
    @shop.toril.task()
    async def work() -> None: ...

    policies = {"default": QueuePolicy(completed=Keep(None, 30), events=100)}
    handles = await shop.toril.enqueue_many(work.call() for _ in range(200))
    async with shop.worker(concurrency=50, prune_every_ms=10, policies=policies):
        while (await shop.engine.inspect.counts("default")).total > 30:
            await shop.engine.bus.wait("default", after="0", timeout=0.01)
    assert (await shop.engine.inspect.counts("default")).completed == 30
    assert await shop.engine.inspect.get(handles[0].id, "default") is None


async def test_old_jobs_go_though_nothing_ends(shop: Workshop) -> None:  # S0-06
    @shop.toril.task(attempts=1)
    async def work(fail: bool) -> None:
        if fail:
            raise ValueError

    good, bad = await work.enqueue(False), await work.enqueue(True)
    async with shop.worker(recover_every_ms=20, prune_every_ms=10):
        await shop.finished(good.id)
        await shop.finished(bad.id)
        shop.clock.advance("8d")
        while await shop.engine.inspect.get(good.id, "default") is not None:
            await shop.engine.bus.wait("default", after="0", timeout=0.01)
        assert (await shop.get(bad.id)).state is State.FAILED
        shop.clock.advance("7d")
        while await shop.engine.inspect.get(bad.id, "default") is not None:
            await shop.engine.bus.wait("default", after="0", timeout=0.01)


async def test_jobs_of_a_vanished_worker_run_again_without_losing_an_attempt(shop: Workshop) -> None:  # S0-26
    @shop.toril.task()
    async def work() -> None: ...

    await shop.add(shop.job("orphan", "work", options=JobOptions(attempts=1)))
    await shop.engine.jobs.exchange(
        "default", worker="dead", seq=1, token="dead:1", finished=(), want=1, lock_ms=15_000, now=shop.clock.now_ms()
    )
    async with shop.worker(recover_every_ms=20):
        assert (await shop.get("orphan")).state is State.ACTIVE
        shop.clock.advance("16s")
        job = await shop.finished("orphan")
    assert (job.state, job.attempts_made, job.stalls, job.starts) == (State.COMPLETED, 1, 1, 2)
