"""A day in which clocks change, with twenty workers whose clocks differ and who die."""  # A04, S3-11

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from toril.engine.ports.jobs import Finish
from toril.engine.sqlite.engine import SqliteEngine
from toril.jobs.outcome import Done, Retry
from toril.jobs.schedule import NewSchedule, Repeat, first_time, run_after, template_of

QUEUE = "line"
WORKERS = 20
LOCK_MS = 15_000
MINUTE = 60_000
SKEW_MS = 2_000


class Day(NamedTuple):
    """From noon to noon around a change."""

    zone: str
    noon: str


DAYS = (
    Day("Europe/Berlin", "2024-03-30 12:00"),
    Day("Europe/Berlin", "2024-10-26 12:00"),
    Day("America/New_York", "2024-03-09 12:00"),
    Day("America/New_York", "2024-11-02 12:00"),
)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def wall_times(day: Day, hours: frozenset[int], minutes: frozenset[int]) -> list[int]:
    """When clocks show one of these times, worked out minute by minute and without a cron expression."""
    zone = ZoneInfo(day.zone)
    local = datetime.fromisoformat(day.noon)
    end = ms((local + timedelta(days=1)).replace(tzinfo=zone))
    found = set()
    for _ in range(26 * 60):
        local += timedelta(minutes=1)
        if local.hour in hours and local.minute in minutes:
            found.add(ms(local.replace(tzinfo=zone, fold=0).astimezone(UTC)))
    return sorted(moment for moment in found if moment <= end)


def real_times(day: Day, every_minutes: int, start: int, end: int) -> list[int]:
    step = every_minutes * MINUTE
    return list(range(start // step * step + step, end + 1, step))


class Crew:
    """Twenty workers. Some vanish after they took a run: before they planned the next one, or before they ended it."""

    def __init__(self, engine: SqliteEngine, chance: random.Random) -> None:
        self.engine = engine
        self.chance = chance
        self.skews = [chance.randint(-SKEW_MS, SKEW_MS) for _ in range(WORKERS)]
        self.seq = 0
        self.planned: list[str] = []
        self.ended: list[str] = []
        self.tries: set[str] = set()

    def order(self) -> Iterator[int]:
        yield from self.chance.sample(range(WORKERS), WORKERS)

    async def exchange(self, worker: int, now: int, finished: tuple[Finish, ...], want: int):  # type: ignore[no-untyped-def]
        self.seq += 1
        token = f"w{worker}:{self.seq}"
        answer = await self.engine.jobs.exchange(
            QUEUE,
            worker=f"w{worker}",
            seq=self.seq,
            token=token,
            finished=finished,
            want=want,
            lock_ms=LOCK_MS,
            now=now,
        )
        return token, answer

    async def turn(self, worker: int, now: int) -> None:
        """One worker looks for a run, and does with it what happens."""
        now += self.skews[worker]
        token, answer = await self.exchange(worker, now, (), 1)
        for job in answer.jobs:
            if self.chance.random() < 0.1:
                return
            due = run_after(job, now)
            assert due is not None
            assert job.schedule is not None
            planned = await self.engine.schedules.advance(
                QUEUE, job.schedule, job.id, due.template, following=due.following, now=now
            )
            if planned is not None:
                self.planned.append(planned.id)
            if self.chance.random() < 0.1:
                return
            again = self.chance.random() < 0.1 and job.id not in self.tries
            self.tries.add(job.id)
            outcome = Retry("no", "", 5_000) if again else Done("1")
            await self.exchange(worker, now, (Finish(job.id, token, outcome, now, now),), 0)
            if not again:
                self.ended.append(job.id)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("day", DAYS, ids=lambda day: f"{day.zone}-{day.noon[:10]}")
async def test_each_slot_is_run_and_once(day: Day, seed: int) -> None:
    # A04, S3-11
    zone = ZoneInfo(day.zone)
    noon = datetime.fromisoformat(day.noon)
    start, end = ms(noon.replace(tzinfo=zone)), ms((noon + timedelta(days=1)).replace(tzinfo=zone))
    hours = frozenset(range(24))
    expected = {
        "night": ("15,45 1,2,3 * * *", wall_times(day, frozenset({1, 2, 3}), frozenset({15, 45}))),
        "even": ("5 */2 * * *", wall_times(day, frozenset(hour for hour in hours if not hour % 2), frozenset({5}))),
        "often": ("*/20 * * * *", real_times(day, 20, start, end)),
    }
    engine = SqliteEngine(None)
    await engine.start()
    crew = Crew(engine, random.Random(seed))
    for id, (pattern, _) in expected.items():
        schedule = NewSchedule(id, Repeat(pattern=pattern, tz=day.zone), "tick")
        template = template_of(schedule, count=1, now=start)
        first = first_time(schedule.repeat, start)
        crew.planned.append((await engine.schedules.upsert(QUEUE, schedule, template, first=first, now=start)).id)
    # Half a minute at a time: locks of those who vanished run out, and retries come back, between two slots.
    for now in range(start, end + 5 * MINUTE, MINUTE // 2):
        await engine.jobs.recover(QUEUE, max_stalls=50, now=now)
        if (await engine.inspect.counts(QUEUE)).total - (await engine.inspect.counts(QUEUE)).completed > 3 or any(
            due.next <= now + SKEW_MS for due in await engine.schedules.list(QUEUE)
        ):
            for worker in crew.order():
                await crew.turn(worker, now)
    ended = [id_ for id_ in crew.ended if int(id_.rpartition(":")[2]) <= end]
    for id, (_, slots) in expected.items():
        assert slots
        prefix = f"repeat:{id}:"
        assert sorted(one for one in ended if one.startswith(prefix)) == [f"{prefix}{slot}" for slot in slots]
    assert len(crew.planned) == len(set(crew.planned))
    await engine.close()
