"""The spool by itself: what is taken is forwarded in order and once, whatever breaks, and wherever it is killed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.outbox.stores import Store, fine, job, lost, partly_away
from toril.engine.ports.jobs import BATCH_MEMORY_MS, LONG_MEMORY_MS
from toril.engine.ports.spool import Fate
from toril.engine.sqlite.spool import MOST_JOBS, SqliteSpool
from toril.errors import EngineUnavailable, PayloadError, SpoolFull, StoreCorrupt, StoreFull, StoreReadOnly
from toril.jobs.model import CancelRequest, Job
from toril.jobs.states import State
from toril.jobs.unique import UniqueKey
from toril.outbox.forwarder import Forwarder
from toril.testing.clock import ManualClock

MIB = 1024 * 1024


class Bench:
    """A spool, a store, and a clock that stands still."""

    def __init__(self, path: Path, *, target: str = "here", limit: int = 10 * MIB) -> None:
        self.clock = ManualClock()
        self.store = Store()
        self.spool = SqliteSpool(path, target=target, limit=limit)
        self.forwarder = Forwarder(self.spool, self.store, self.clock)

    async def put(self, *ids: str, queue: str = "q", batch: str | None = None) -> None:
        now = self.clock.now_ms()
        jobs = [job(id_) for id_ in ids]
        await self.spool.put(queue, jobs, batch=batch, until=now + BATCH_MEMORY_MS, now=now)

    async def found(self, id: str) -> Job:
        found = await self.spool.find(id)
        assert isinstance(found, Job)
        return found


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "spool.db")
    yield bench
    await bench.spool.close()


async def test_jobs_are_forwarded_in_the_order_of_their_queue(bench: Bench) -> None:
    # S3-20
    for n in range(0, MOST_JOBS * 2 + 10, 10):
        await bench.put(*(f"a{k}" for k in range(n, n + 10)), queue="a")
        await bench.put(f"b{n}", queue="b")
    assert (await bench.spool.stats()).jobs == 11 * (MOST_JOBS // 5 + 1)
    assert await bench.forwarder.forward()
    assert bench.store.of("a") == [f"a{n}" for n in range(MOST_JOBS * 2 + 10)]
    assert bench.store.of("b") == [f"b{n}" for n in range(0, MOST_JOBS * 2 + 10, 10)]
    # Few batches, however many calls there were.
    assert bench.store.calls <= 6
    stats = await bench.spool.stats()
    assert (stats.jobs, stats.bytes, stats.oldest) == (0, 0, None)
    assert not await bench.spool.waits()


async def test_what_may_have_been_sent_already_is_sent_under_the_same_id_and_first(bench: Bench) -> None:
    await bench.put("later")
    await bench.store.forward("q", [job("first")], batch="known", now=0)
    await bench.put("first", batch="known")
    # Whoever does not know whether it was kept keeps it again.
    await bench.put("first", batch="known")
    await bench.put("new", batch="unknown")
    assert (await bench.spool.stats()).sent == 2
    await bench.forwarder.forward()
    assert bench.store.of("q") == ["first", "new", "later"]


class Killed(BaseException):
    """As kill -9: nobody catches it."""


class Mortal(SqliteSpool):
    """A spool whose process dies at an operation on its file: before it, or when it is done."""

    dies_in = -1

    async def _ready(self) -> Any:
        type(self).dies_in -= 1
        if type(self).dies_in == 0:
            raise Killed
        return await super()._ready()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_and_nothing_doubled_wherever_it_is_killed(tmp_path: Path, seed: int) -> None:
    # S3-20
    dice, clock, store = random.Random(seed), ManualClock(), Store()
    path, accepted, numbers = tmp_path / "spool.db", [], iter(range(1_000_000))

    def alive() -> Mortal:
        return Mortal(path, target="here", limit=10 * MIB)

    spool = alive()
    for _ in range(30):
        for _ in range(dice.randrange(4)):
            ids = [f"j{next(numbers)}" for _ in range(dice.choice((1, 1, 1, 5, 700)))]
            now = clock.now_ms()
            batch = None
            if dice.random() < 0.3:
                batch = f"own{ids[0]}"
                if dice.random() < 0.5:
                    await store.forward("q", [job(id_) for id_ in ids], batch=batch, now=now)
            await spool.put("q", [job(id_) for id_ in ids], batch=batch, until=now + BATCH_MEMORY_MS, now=now)
            accepted += ids
        store.before = [dice.choice((fine, fine, lost)) for _ in range(3)]
        store.after = [dice.choice((fine, fine, lost)) for _ in range(3)]
        Mortal.dies_in = dice.choice((-1, 1, 2, 3))
        clock.advance_ms(dice.randrange(5_000))
        try:
            await Forwarder(spool, store, clock).forward()
        except (EngineUnavailable, Killed):
            await spool.close()
            spool = alive()
        Mortal.dies_in, store.before, store.after = -1, [], []
    assert await Forwarder(spool, store, clock).forward()
    assert sorted(store.of("q")) == sorted(accepted)
    await spool.close()


async def test_order_is_kept_though_answers_are_lost(bench: Bench) -> None:
    for n in range(40):
        await bench.put(f"j{n:02}")
        bench.store.before, bench.store.after = [fine, lost][n % 2 :], [fine, fine, lost][n % 3 :]
        try:
            await bench.forwarder.forward()
        except EngineUnavailable:
            continue
    bench.store.before, bench.store.after = [], []
    await bench.forwarder.forward()
    assert bench.store.of("q") == [f"j{n:02}" for n in range(40)]


async def test_what_the_store_may_have_forgotten_is_not_sent_again_but_reported(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.put("a", "b")
    bench.store.after = [lost]
    with pytest.raises(EngineUnavailable):
        await bench.forwarder.forward()
    bench.clock.advance_ms(LONG_MEMORY_MS)
    await bench.put("c")
    bench.store.batches.clear()
    assert await bench.forwarder.forward()
    assert bench.store.of("q") == ["a", "b", "c"]
    [aside] = await bench.spool.listed()
    assert (aside.fate, aside.job_ids, aside.queue) == (Fate.UNKNOWN, ("a", "b"), "q")
    assert f"Batch {aside.id} of queue q is set aside" in caplog.text
    stats = await bench.spool.stats()
    assert (stats.jobs, stats.set_aside) == (0, 2)
    assert not await bench.spool.waits()
    # A person decides.
    assert await bench.spool.again(aside.id, now=bench.clock.now_ms())
    await bench.forwarder.forward()
    assert bench.store.of("q") == ["a", "b", "c", "a", "b"]
    assert not await bench.spool.drop(aside.id)
    assert not await bench.spool.again(aside.id, now=0)


async def test_an_old_batch_whose_jobs_are_in_the_store_has_arrived(bench: Bench) -> None:
    await bench.put("a", batch="own")
    bench.clock.advance_ms(BATCH_MEMORY_MS)
    bench.store.known = {"a"}
    await bench.forwarder.forward()
    assert bench.store.calls == 0
    assert await bench.spool.listed() == ()
    assert (await bench.spool.stats()).jobs == 0


async def test_one_bad_job_does_not_keep_the_others_back(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.put("a", "bad", "c")
    bench.store.refuses = {"bad": PayloadError("not like this")}
    assert await bench.forwarder.forward()
    assert bench.store.of("q") == ["a", "c"]
    [aside] = await bench.spool.listed()
    assert (aside.fate, aside.job_ids, aside.reason) == (Fate.REFUSED, ("bad",), "not like this")
    assert "Job bad of queue q is set aside" in caplog.text
    found = await bench.found("bad")
    assert (found.state, found.failed_reason, found.spooled) == (State.FAILED, "not like this", False)
    assert await bench.spool.drop(aside.id)
    assert await bench.spool.find("bad") is None


@pytest.mark.parametrize("error", [StoreFull("no memory"), EngineUnavailable("one node is away", partial=True)])
async def test_a_queue_that_the_store_does_not_take_holds_no_other_back(bench: Bench, error: Exception) -> None:
    await bench.put("a", queue="stuck")
    await bench.put("b", queue="free")
    bench.store.closed_queues = {"stuck": error}
    assert not await bench.forwarder.forward()
    assert bench.store.added == [("free", "b")]
    bench.store.closed_queues = {}
    assert await bench.forwarder.forward()
    assert bench.store.added == [("free", "b"), ("stuck", "a")]


async def test_a_node_that_is_away_holds_up_its_own_queues_only(bench: Bench) -> None:
    await bench.put("a", queue="there")
    await bench.put("b", queue="here")
    bench.store.closed_queues = {"there": partly_away()}
    assert not await bench.forwarder.forward()
    assert bench.store.added == [("here", "b")]
    bench.store.closed_queues = {}
    assert await bench.forwarder.forward()
    assert bench.store.added == [("here", "b"), ("there", "a")]


async def test_a_full_spool_says_so_and_takes_jobs_again_when_there_is_room(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "spool.db", limit=10_000)
    taken = 0
    while (await bench.spool.stats()).bytes < 9_800:
        await bench.put(f"j{taken}")
        taken += 1
    with pytest.raises(
        SpoolFull, match=r"of 10,000 bytes: no room for 1 more jobs .* TORIL_JOBS_SPOOL_LIMIT"
    ) as caught:
        await bench.put("more")
    assert (caught.value.code, caught.value.retryable) == ("spool_full", True)
    assert 10 < taken < 50
    assert (await bench.spool.stats()).bytes <= 10_000
    # All or none of a call's jobs.
    with pytest.raises(SpoolFull):
        await bench.put(*(f"k{n}" for n in range(100)))
    await bench.forwarder.forward()
    assert bench.store.of("q") == [f"j{n}" for n in range(taken)]
    await bench.put("again")
    await bench.spool.close()


async def test_a_job_that_waits_is_shown_and_can_be_cancelled(bench: Bench) -> None:
    now = bench.clock.now_ms()
    unique = UniqueKey("only", 5_000, extend=True)
    jobs = [job("a", delay_ms=5_000), job("b", priority=3), job("c", unique=unique)]
    await bench.spool.put("q", jobs, batch=None, until=0, now=now)
    shown = [await bench.found(id_) for id_ in "abc"]
    assert [each.state for each in shown] == [State.DELAYED, State.PRIORITIZED, State.WAITING]
    assert (shown[0].due, all(each.spooled for each in shown)) == (now + 5_000, True)
    assert await bench.spool.cancel("b", CancelRequest("me", "why", now))
    assert not await bench.spool.cancel("b", CancelRequest("me", "why", now))
    cancelled = await bench.found("b")
    assert (cancelled.cancelled, cancelled.spooled, cancelled.failed_reason) == (True, False, "cancelled: why")
    assert await bench.spool.find("nobody") is None
    assert not await bench.spool.cancel("nobody", CancelRequest("", "", now))
    bench.clock.advance_ms(2_000)
    [batch] = await bench.spool.claim([], now=bench.clock.now_ms())
    assert [(each.id, each.delay_ms, each.unique) for each in batch.jobs] == [("a", 3_000, None), ("c", 0, unique)]
    # What is in a fixed batch cannot be taken out of it any more.
    assert not await bench.spool.cancel("a", CancelRequest("me", "", now))
    # However often it is sent, and whenever: what is in it stays the same.
    bench.clock.advance_ms(2_000)
    assert (await bench.spool.claim([], now=bench.clock.now_ms())) == (batch,)


async def test_a_job_for_which_another_stands_leads_to_that(bench: Bench) -> None:
    await bench.put("mine")
    bench.store.stands_for = {"mine": "theirs"}
    await bench.forwarder.forward()
    assert await bench.spool.find("mine") == "theirs"


async def test_jobs_of_another_store_are_left_alone(tmp_path: Path) -> None:
    one, other = Bench(tmp_path / "spool.db", target="one"), Bench(tmp_path / "spool.db", target="other")
    await one.put("a")
    await other.put("b", "c")
    stats = await one.spool.stats()
    assert (stats.jobs, stats.foreign) == (1, 2)
    await one.forwarder.forward()
    assert one.store.of("q") == ["a"]
    assert await one.spool.find("b") is None
    await other.forwarder.forward()
    assert other.store.of("q") == ["b", "c"]
    for each in (one, other):
        await each.spool.close()


async def test_only_one_forwards(tmp_path: Path) -> None:
    one, other = (SqliteSpool(tmp_path / "spool.db", target="x", limit=MIB) for _ in range(2))
    assert one.try_lock()
    assert one.try_lock()
    assert not other.try_lock()
    one.unlock()
    assert other.try_lock()
    assert not one.try_lock()
    await other.close()
    assert one.try_lock()
    await one.close()


def make_foreign(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\x00" + b"\x10\x00" + b"\xff" * 5_000)


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(("make", "error"), [(make_foreign, StoreCorrupt), (make_folder, StoreCorrupt)])
async def test_a_file_that_is_no_spool_is_left_alone(
    tmp_path: Path, make: Callable[[Path], None], error: type[Exception]
) -> None:
    path = tmp_path / "spool.db"
    make(path)
    spool = SqliteSpool(path, target="x", limit=MIB)
    with pytest.raises(error):
        await spool.put("q", [job("a")], batch=None, until=0, now=0)
    await spool.close()


async def test_the_folder_must_be_there(tmp_path: Path) -> None:
    spool = SqliteSpool(tmp_path / "none" / "spool.db", target="x", limit=MIB)
    with pytest.raises(StoreReadOnly, match="expected its folder to exist"):
        await spool.put("q", [job("a")], batch=None, until=0, now=0)


async def test_a_file_that_is_taken_away_is_made_again(bench: Bench, tmp_path: Path) -> None:
    await bench.put("a")
    for file in tmp_path.glob("spool.db*"):
        file.unlink()
    assert await bench.spool.find("a") is None
    await bench.put("b")
    await bench.forwarder.forward()
    assert bench.store.of("q") == ["b"]


async def test_the_file_shrinks_when_all_is_forwarded(bench: Bench, tmp_path: Path) -> None:
    big = [job(f"j{n}", data='"' + "x" * 20_000 + '"') for n in range(100)]
    await bench.spool.put("q", big, batch=None, until=0, now=0)
    await bench.forwarder.forward()
    await bench.spool.close()
    assert (tmp_path / "spool.db").stat().st_size < 200_000
