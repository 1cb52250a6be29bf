"""Schedules that Node and Toril share: whoever made one, whoever runs a run plans the next one."""  # S3-28

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from tests.interop import dump
from tests.interop.conftest import StartPeer
from tests.interop.packages import FOLDER, PACKAGES
from tests.interop.peer import Notice, Peer
from tests.interop.tasks import QUEUE, application
from tests.redis.server import RedisServer
from toril import State, Toril
from toril.jobs.cron import next_cron

# The days on which clocks change.
STARTS = {
    "Europe/Berlin": ("2024-03-30 12:00", "2024-10-26 12:00"),
    "America/New_York": ("2024-03-09 12:00", "2024-11-02 12:00"),
    "UTC": ("2024-02-28 23:59",),
}
EXPRESSIONS = (
    "30 2 * * *",
    "0 30 1 * * *",
    "0,15,45 1,2,3 * * *",
    "30 * * * *",
    "*/20 * * * *",
    "0 */6 * * *",
    "0 9-17/4 * * MON-FRI",
    "0 0 1 * *",
    "30 4 1,15 * 5",
)


@pytest.fixture
async def toril(node: Peer, server: RedisServer) -> AsyncIterator[Toril]:
    async with application(server.url) as app:
        yield app


def completed(least: int) -> Callable[[list[Notice]], list[str] | None]:
    """Finds the runs that completed, once there are so many."""

    def found(notices: list[Notice]) -> list[str] | None:
        ids = [notice["jobId"] for notice in notices if notice.get("event") == "completed"]
        return ids if len(ids) >= least else None

    return found


@pytest.mark.parametrize("maker", ["node", "toril"])
async def test_an_interval_goes_on_whoever_runs_it(node: Peer, toril: Toril, maker: str) -> None:
    await node.ask("listen", queue=QUEUE)
    if maker == "node":
        template = {"name": "double", "data": {"n": 4}, "opts": {"attempts": 2}}
        await node.queue(QUEUE, "upsertJobScheduler", "tick", {"every": 50, "limit": 8}, template)
    else:
        await toril.schedules.upsert("tick", every="50ms", limit=8, call=toril.registry["double"].call(4))
    async with toril.worker(concurrency=1):
        first = await node.until(completed(2))
    assert node.runs() == []
    await node.ask("worker", queue=QUEUE)
    runs = await node.until(completed(8))
    assert len(node.runs()) == 8 - len(first) or len(node.runs()) >= 4
    assert len(set(runs)) == 8
    jobs = [await node.get(QUEUE, id_) for id_ in runs]
    assert [job["returnvalue"] for job in jobs if job] == [{"doubled": 8}] * 8
    assert [job["opts"]["repeat"]["count"] for job in jobs if job] == list(range(1, 9))
    # What only Toril knows of a job is handed on by Node.
    assert [job["opts"].get("toril") for job in jobs if job] == [{"v": 1} if maker == "toril" else None] * 8
    [shown] = await node.queue(QUEUE, "getJobSchedulers")
    schedule = await toril.schedules.get("tick")
    assert schedule is not None
    assert (shown["key"], shown["iterationCount"], shown["every"]) == ("tick", 8, 50)
    assert (schedule.count, schedule.next, schedule.repeat.every) == (8, shown["next"], 50)
    assert node.errors() == []


@pytest.mark.parametrize("major", [5], ids=["v5"])
async def test_repeatable_jobs_of_bullmq_5_go_on(
    start_peer: StartPeer, empty: dump.Client, server: RedisServer
) -> None:
    """Their schedules hold no arguments: each run has those of the run before."""
    old = await start_peer(version=5)
    await old.ask("listen", queue=QUEUE)
    repeat = {"repeat": {"every": 100, "limit": 3}}
    await old.queue(QUEUE, "add", "double", {"n": 4}, repeat)
    async with application(server.url) as toril, toril.worker():
        runs = await old.until(completed(3))
        jobs = [await old.get(QUEUE, id_) for id_ in runs]
    assert [(job["returnvalue"], job["opts"]["repeat"]["count"]) for job in jobs if job] == [
        ({"doubled": 8}, 1), ({"doubled": 8}, 2), ({"doubled": 8}, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("maker", ["node", "toril"])
async def test_workers_of_both_run_each_time_of_a_pattern_once(node: Peer, toril: Toril, maker: str) -> None:
    await node.ask("listen", queue=QUEUE)
    pattern = {"pattern": "* * * * * *", "tz": "Europe/Berlin", "limit": 3}
    if maker == "node":
        await node.queue(QUEUE, "upsertJobScheduler", "tick", pattern, {"name": "double", "data": {"n": 4}})
    else:
        call = toril.registry["double"].call(4)
        await toril.schedules.upsert("tick", cron="* * * * * *", tz="Europe/Berlin", limit=3, call=call)
    await node.ask("worker", queue=QUEUE)
    async with toril.worker():
        runs = await node.until(completed(3))
    times = [int(id_.rpartition(":")[2]) for id_ in runs]
    assert [time - times[0] for time in times] == [0, 1000, 2000]
    assert await toril.queue(QUEUE).counts() == (0, 0, 0, 0, 0, 3, 0)


async def test_either_side_replaces_and_removes_what_the_other_made(node: Peer, toril: Toril) -> None:
    # S3-28
    call = toril.registry["double"].call(4)
    await node.queue(QUEUE, "upsertJobScheduler", "a", {"pattern": "0 3 * * *"}, {"name": "nap", "data": {"ms": 1}})
    made = await toril.schedules.upsert("a", cron="0 4 * * *", tz="Europe/Berlin", call=call)
    shown = await node.queue(QUEUE, "getJobScheduler", "a")
    assert (shown["name"], shown["pattern"], shown["tz"], shown["next"]) == (
        "double", "0 4 * * *", "Europe/Berlin", made.next,
    )  # fmt: skip
    assert shown["template"]["data"] == {"n": 4}
    await node.queue(QUEUE, "upsertJobScheduler", "a", {"every": 3_600_000, "startDate": made.next}, {"name": "nap"})
    replaced = await toril.schedules.get("a")
    assert replaced is not None
    assert (replaced.name, replaced.repeat.every, replaced.next) == ("nap", 3_600_000, made.next)
    delayed = [job.id async for job in toril.queue(QUEUE).jobs(State.DELAYED)]
    assert delayed == [replaced.run_id]
    assert await node.queue(QUEUE, "removeJobScheduler", "a") is True
    assert await toril.schedules.list() == []
    await toril.schedules.upsert("b", every="1h", call=call)
    await toril.queue(QUEUE).pause()
    assert await toril.schedules.remove("b")
    assert await node.queue(QUEUE, "getJobSchedulersCount") == 0


async def test_both_work_out_the_same_times(node_packages: None, major: int) -> None:
    questions = [
        {
            "expression": expression,
            "tz": zone,
            "after": int(datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000),
            "times": 3,
        }
        for expression, (zone, starts) in product(EXPRESSIONS, STARTS.items())
        for start in starts
    ]
    process = await asyncio.create_subprocess_exec(
        "node", str(FOLDER / "cron.mjs"), PACKAGES[major], json.dumps(questions), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    answers = json.loads(output)
    for question, expected in zip(questions, answers, strict=True):
        found = []
        moment = int(str(question["after"]))
        for _ in range(3):
            due = next_cron(str(question["expression"]), str(question["tz"]), moment)
            assert due is not None
            found.append(due)
            moment = due
        assert found == expected, question
