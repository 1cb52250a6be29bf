"""Schedules as an application sees them: declared on tasks, stored by call, run by workers."""  # S3-11 S3-28

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from toril import ConfigError, Context, Cron, Every, Toril, Unique
from toril.engine.ports.jobs import CancelAnswer
from toril.jobs.options import JobOptions
from toril.jobs.schedule import Repeat, Schedule
from toril.scheduling.planner import SchedulePlanner
from toril.settings import Settings, WorkerSettings
from toril.testing.clock import START_MS, ManualClock

HOUR = 3_600_000
# 2023-11-14 22:13:20 UTC; midnight in Berlin is 46 min 40 s later.
MIDNIGHT_BERLIN = START_MS + 2_800_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def app(clock: ManualClock) -> AsyncIterator[Toril]:
    worker = WorkerSettings(recover_every=0.05, poll=0.05)
    async with Toril("sqlite://", clock=clock, settings=Settings(url=None, worker=worker)) as toril:
        yield toril


def planner(app: Toril) -> SchedulePlanner:
    return SchedulePlanner(opened(app), app.registry, app.clock, app.telemetry)


def opened(app: Toril):  # type: ignore[no-untyped-def]
    async def get():  # type: ignore[no-untyped-def]
        return app.engine

    return get


async def must(app: Toril, id: str) -> Schedule:
    found = await app.schedules.get(id)
    assert found is not None
    return found


async def test_upsert_list_get_remove(app: Toril) -> None:
    # S3-11
    @app.task(queue="docs")
    async def cleanup(kind: str) -> str:
        return kind

    stored = await app.schedules.upsert("nightly", cron="0 0 * * *", tz="Europe/Berlin", call=cleanup.call(kind="old"))
    assert (stored.next, stored.queue, stored.name) == (MIDNIGHT_BERLIN, "docs", "cleanup")
    assert (stored.when, json.loads(stored.data)) == ("0 0 * * * (Europe/Berlin)", {"kind": "old"})
    assert stored.next_at == datetime(2023, 11, 14, 23, 0, tzinfo=UTC)
    often = await app.schedules.upsert("often", every="10m", call=cleanup.call("new"))
    assert (often.next, often.when) == (START_MS, "every 10 m")
    assert [one.id for one in await app.schedules.list()] == ["often", "nightly"]
    assert [one.id for one in await app.schedules.list("docs")] == ["often", "nightly"]
    assert await app.schedules.list("other") == []
    assert await app.schedules.get("nightly") == stored
    assert await app.schedules.get("nightly", "other") is None
    assert await app.schedules.remove("nightly")
    assert not await app.schedules.remove("nightly")
    assert await app.schedules.get("nightly") is None


async def test_a_schedule_without_a_zone_is_in_utc_and_says_so(app: Toril) -> None:
    """A Node worker would read an expression without a zone in its own."""

    @app.task
    async def tick() -> None: ...

    stored = await app.schedules.upsert("s", cron="0 0 * * *", call=tick.call())
    assert stored.repeat == Repeat(pattern="0 0 * * *", tz="UTC")


async def test_start_end_limit_and_immediately(app: Toril) -> None:
    @app.task
    async def tick() -> None: ...

    now = datetime.fromtimestamp(START_MS / 1000, UTC)
    stored = await app.schedules.upsert(
        "s", every=60, start=now + timedelta(minutes=5), end=now + timedelta(days=1), limit=3, call=tick.call()
    )
    assert stored.next == START_MS + 300_000
    assert stored.repeat._replace(offset=None) == Repeat(
        every=60_000, limit=3, start=START_MS + 300_000, end=START_MS + 86_400_000
    )
    soon = await app.schedules.upsert("t", cron="0 * * * *", immediately=True, call=tick.call())
    assert soon.next == START_MS


async def test_what_cannot_be_is_refused_at_once(app: Toril) -> None:
    @app.task
    async def tick(n: int = 1) -> None: ...

    past, soon = datetime(2020, 1, 1, tzinfo=UTC), datetime.fromtimestamp(START_MS / 1000 + 60, UTC)
    upsert, call = app.schedules.upsert, tick.call()
    for arguments, message in (
        ({}, "either cron or every, got neither"),
        ({"cron": "0 0 * * *", "every": 5}, "got both"),
        ({"cron": "0 99 * * *"}, "hour '99'"),
        ({"cron": "0 0 * * *", "tz": "Berlin"}, "time zone"),
        ({"every": "10m", "tz": "UTC"}, "no time zone"),
        ({"every": "often"}, "expected seconds"),
        ({"every": 0}, "at least one millisecond"),
        ({"every": 5, "limit": 0}, "limit"),
        ({"every": 5, "end": past}, "none is due"),
        ({"cron": "0 0 1 1 *", "end": soon}, "none is due"),
        ({"every": 5, "start": soon, "end": past}, "after start"),
        ({"every": 5, "start": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001 - that is what is refused
        ({"cron": "0 0 * * *", "start": soon, "immediately": True}, "immediately and start"),
        ({"every": 5, "call": tick.with_options(delay=5).call()}, "delay belongs to one job"),
        ({"every": 5, "call": tick.with_options(id="mine").call()}, "id belongs to one job"),
        ({"every": 5, "call": tick.with_options(unique=Unique()).call()}, "unique is for jobs"),
    ):
        with pytest.raises(ConfigError, match=message):
            await upsert("s", **({"call": call} | arguments))
    with pytest.raises(ConfigError, match="1 to 100 characters"):
        await upsert("a:b", every=5, call=call)
    assert await app.schedules.list() == []


async def test_a_worker_runs_what_is_due_and_plans_the_next(app: Toril, clock: ManualClock) -> None:
    ran: list[tuple[str, str]] = []
    done = asyncio.Event()

    @app.task(attempts=7)
    async def tick(ctx: Context, word: str) -> None:
        # Planned already: a handler that never ends does not hold up its schedule.
        schedule = await must(app, "s")
        ran.append((ctx.job_id, f"{word} {schedule.next - START_MS}"))
        done.set()

    await app.schedules.upsert("s", every="10s", call=tick.call("hello"))
    async with app.worker():
        for number in range(3):
            await asyncio.wait_for(done.wait(), 5)
            done.clear()
            assert ran[number] == (f"repeat:s:{START_MS + number * 10_000}", f"hello {(number + 1) * 10_000}")
            clock.advance_ms(10_000)
    # As often as it was due, or once more where the clock went on before the stop.
    assert len(ran) in {3, 4}
    job = await app.engine.inspect.get((await must(app, "s")).run_id)
    assert job is not None
    opts = json.loads(job.opts)
    assert (opts["attempts"], "toril" in opts) == (JobOptions(attempts=7).attempts, True)


async def test_a_declared_schedule_is_stored_by_a_worker(app: Toril) -> None:
    @app.task(schedule=Cron("0 0 * * *", tz="Europe/Berlin"), attempts=2)
    async def nightly(kind: str = "old") -> None: ...

    ran = asyncio.Event()

    @app.task(schedule=Every("5m"))
    async def often() -> None:
        ran.set()

    assert await app.schedules.list() == []
    for _ in range(2):
        await planner(app).declare(["default"])
        stored = {one.id: one for one in await app.schedules.list()}
        assert stored.keys() == {"nightly", "often"}
        assert (stored["nightly"].next, stored["often"].next) == (MIDNIGHT_BERLIN, START_MS)
        assert json.loads(stored["nightly"].opts)["attempts"] == 2
    await app.schedules.remove("often")
    await app.queue("default").drain()
    async with app.worker():
        await asyncio.wait_for(ran.wait(), 5)


async def test_workers_of_other_queues_leave_it_alone(app: Toril) -> None:
    @app.task(schedule=Every("5m"), queue="here")
    async def tick() -> None: ...

    await planner(app).declare(["there"])
    assert await app.schedules.list() == []


async def test_a_live_edit_stays_until_the_declaration_changes(app: Toril, clock: ManualClock) -> None:
    # S3-28
    @app.task(schedule=Every("5m"))
    async def tick() -> None: ...

    await planner(app).declare(["default"])
    await app.schedules.upsert("tick", every="1h", call=tick.call())
    await planner(app).declare(["default"])
    assert (await must(app, "tick")).when == "every 1 h"
    tick.schedule = Every("10m")
    await planner(app).declare(["default"])
    assert (await must(app, "tick")).when == "every 10 m"


async def test_what_is_no_longer_declared_ends(app: Toril) -> None:
    @app.task(schedule=Every("5m"))
    async def tick() -> None: ...

    @app.task
    async def other() -> None: ...

    await planner(app).declare(["default"])
    await app.schedules.upsert("other", every="1h", call=other.call())
    tick.schedule = None
    for _ in range(2):
        await planner(app).declare(["default"])
        assert [one.id for one in await app.schedules.list()] == ["other"]


def test_a_declaration_is_checked_when_it_is_written() -> None:
    toril = Toril("sqlite://")
    with pytest.raises(ConfigError, match="without arguments"):

        @toril.task(schedule=Every("5m"))
        async def needy(kind: str) -> None: ...

    with pytest.raises(ConfigError, match="leave out delay"):

        @toril.task(schedule=Every("5m"), delay="5m")
        async def slow() -> None: ...

    with pytest.raises(ConfigError, match="expected Cron"):

        @toril.task(schedule="0 0 * * *")  # type: ignore[call-overload, untyped-decorator]
        async def texted() -> None: ...

    with pytest.raises(ConfigError, match="hour '25'"):
        Cron("0 25 * * *")
    assert len(toril.registry) == 0


async def test_a_cancelled_run_does_not_end_the_schedule(
    app: Toril, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    # A04
    @app.task
    async def tick() -> None: ...

    stored = await app.schedules.upsert("s", cron="0 * * * *", call=tick.call())
    answer = await app.engine.jobs.cancel("default", stored.run_id, by="ann", reason="not now", now=clock.now_ms())
    assert answer is CancelAnswer.CANCELLED
    clock.advance_ms(3 * HOUR)
    with caplog.at_level(logging.WARNING, "toril"):
        await planner(app).heal("default")
        await planner(app).heal("default")
    assert (await must(app, "s")).next == stored.next + 3 * HOUR
    assert [record.getMessage() for record in caplog.records] == [
        "Queue default: schedule s had lost its planned run (cancelled or deleted); it goes on."
    ]


async def test_a_schedule_that_cannot_be_read_is_told_and_its_run_is_run(
    app: Toril, caplog: pytest.LogCaptureFixture
) -> None:
    ran = asyncio.Event()

    @app.task
    async def tick() -> None:
        ran.set()

    stored = await app.schedules.upsert("s", every="5m", call=tick.call())
    [job] = (
        await app.engine.jobs.exchange(
            "default", worker="w", seq=1, token="w:1", finished=[], want=1, lock_ms=9_000, now=START_MS
        )
    ).jobs
    assert job.id == stored.run_id
    foreign = job._replace(opts='{"repeat":{"pattern":"L-3 nonsense","count":1}}')
    with caplog.at_level(logging.ERROR, "toril"):
        await planner(app).plan("default", foreign)
    assert "schedule s stops, its next run cannot be planned: cron: expected five fields" in caplog.text
    assert (await must(app, "s")).next == stored.next


async def test_run_now(app: Toril) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    stored = await app.schedules.upsert("s", cron="0 0 * * *", call=double.with_options(priority=4).call(21))
    handle = await app.schedules.run("s")
    info = await handle.info()
    assert info is not None
    assert (info.name, info.priority, json.loads(info.opts).keys() & {"repeat", "jobId", "delay"}) == (
        "double", 4, set(),
    )  # fmt: skip
    async with app.worker():
        assert await handle.result(timeout=5) == 42
    assert (await must(app, "s")).next == stored.next
    with pytest.raises(ConfigError, match="found none"):
        await app.schedules.run("unknown")
