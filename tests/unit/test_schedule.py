"""Schedules as data: when runs are due, and what a run hands on to the next."""

import json

import pytest

from toril.errors import ConfigError
from toril.jobs.model import TakenJob
from toril.jobs.schedule import (
    Cron,
    Every,
    NewSchedule,
    Repeat,
    Schedule,
    check_schedule_id,
    describe,
    first_time,
    following_time,
    next_interval,
    repeat_of,
    run_after,
    run_instead,
    run_opts,
    template_of,
)

T = 1_700_000_000_000
HOUR = 3_600_000
HOURLY = Repeat(pattern="0 * * * *", tz="UTC")
FULL_HOUR = T + 2_800_000


def taken(opts: dict[str, object], schedule: str | None = "s") -> TakenJob:
    return TakenJob("repeat:s:1", "tick", "{}", json.dumps(opts), T, 0, 1, 0, None, schedule)


def test_an_interval_is_counted_from_the_planned_time() -> None:
    assert next_interval(1000, 0, previous=T, start=None, now=T + 400) == T + 1000
    assert next_interval(1000, 0, previous=T, start=None, now=T + 1000) == T + 1000
    assert next_interval(1000, 7, previous=T + 7, start=None, now=T + 5_500) == T + 6_007
    assert next_interval(1000, 700, previous=T - 300, start=None, now=T + 5_500) == T + 5_700


def test_the_first_run_of_an_interval() -> None:
    assert next_interval(1000, 0, previous=None, start=None, now=T + 5) == T + 5
    assert next_interval(1000, 0, previous=None, start=T + 90, now=T) == T + 90
    assert next_interval(1000, 0, previous=None, start=T - 90, now=T) == T
    assert next_interval(1000, 300, previous=None, start=None, now=T + 5) == T + 300
    assert next_interval(1000, 300, previous=None, start=None, now=T + 300) == T + 1300


def test_the_first_run_of_a_cron_schedule() -> None:
    assert first_time(HOURLY, T) == FULL_HOUR
    assert first_time(HOURLY, T, immediately=True) == T
    assert first_time(HOURLY._replace(start=FULL_HOUR), T) == FULL_HOUR
    assert first_time(HOURLY._replace(start=FULL_HOUR + 1), T) == FULL_HOUR + HOUR
    assert first_time(HOURLY._replace(end=FULL_HOUR - 1), T) is None
    assert first_time(Repeat(every=1000), T) is None


def test_the_run_that_follows_is_after_now_and_after_the_one_before() -> None:
    assert following_time(HOURLY, FULL_HOUR, T) == FULL_HOUR + HOUR
    assert following_time(HOURLY, FULL_HOUR, FULL_HOUR + 5 * HOUR + 1) == FULL_HOUR + 6 * HOUR
    assert following_time(HOURLY._replace(end=FULL_HOUR), FULL_HOUR, T) is None
    assert following_time(Repeat(every=1000), T, T) is None


def test_options_of_a_planned_run() -> None:
    schedule = NewSchedule("s", HOURLY._replace(limit=3, end=T * 2), "tick", opts='{"priority":2,"lifo":true}')
    template = template_of(schedule, count=1, now=T)
    assert (template.priority, template.lifo) == (2, True)
    assert json.loads(run_opts(template, "s", FULL_HOUR, pattern=True, now=T)) == {
        "priority": 2,
        "lifo": True,
        "timestamp": T,
        "repeatJobKey": "s",
        "repeat": {"pattern": "0 * * * *", "tz": "UTC", "limit": 3, "endDate": T * 2, "count": 1},
        "jobId": f"repeat:s:{FULL_HOUR}",
        "delay": 2_800_000,
        "prevMillis": FULL_HOUR,
    }


def test_options_of_the_run_after() -> None:
    """What a run has of its own stays behind, and a number as backoff is written as BullMQ's workers write it."""
    opts = {"backoff": 5, "jobId": "repeat:s:1", "delay": 9, "prevMillis": FULL_HOUR, "timestamp": 1, "x": [1]}
    after = run_after(taken(opts | {"repeat": {"pattern": "0 * * * *", "count": 4}}), T)
    assert after is not None
    assert after.following == FULL_HOUR + HOUR
    assert json.loads(run_opts(after.template, "s", FULL_HOUR + HOUR, pattern=True, now=T)) == {
        "attempts": 0,
        "backoff": {"type": "fixed", "delay": 5},
        "x": [1],
        "timestamp": T,
        "repeatJobKey": "s",
        "repeat": {"pattern": "0 * * * *", "count": 5},
        "jobId": f"repeat:s:{FULL_HOUR + HOUR}",
        "delay": 2_800_000 + HOUR,
        "prevMillis": FULL_HOUR + HOUR,
    }


def test_nothing_comes_after_the_limit_or_the_end() -> None:
    assert run_after(taken({"repeat": {"every": 1000, "limit": 3, "count": 2}}), T) is not None
    assert run_after(taken({"repeat": {"every": 1000, "limit": 3, "count": 3}}), T) is None
    assert run_after(taken({"repeat": {"every": 1000, "endDate": T - 1, "count": 2}}), T) is None
    assert run_after(taken({"repeat": {"pattern": "0 * * * *", "endDate": T + 1, "count": 2}}), T) is None
    assert run_after(taken({"repeat": {"every": 1000}}, schedule=None), T) is None


def test_a_pattern_that_cannot_be_read_says_so() -> None:
    with pytest.raises(ConfigError, match="expected five fields"):
        run_after(taken({"repeat": {"pattern": "whenever", "count": 1}}), T)


def test_a_lost_run_is_planned_from_the_schedule() -> None:
    lost = Schedule(id="s", queue="q", name="tick", repeat=HOURLY, next=FULL_HOUR, count=2)
    instead = run_instead(lost, FULL_HOUR + 3 * HOUR + 5)
    assert instead is not None
    assert instead.following == FULL_HOUR + 4 * HOUR
    assert json.loads(instead.template.head + "}")["repeat"]["count"] == 3
    ended = Schedule(id="s", queue="q", name="tick", repeat=HOURLY._replace(limit=2), next=FULL_HOUR, count=2)
    assert run_instead(ended, FULL_HOUR) is None


def test_foreign_options_are_read_leniently() -> None:
    assert repeat_of({}) == (Repeat(), 0)
    assert repeat_of({"repeat": 5}) == (Repeat(), 0)
    odd = {"every": "1000", "pattern": 7, "tz": "", "limit": None, "count": "x", "startDate": True, "endDate": 1e400}
    assert repeat_of({"repeat": odd}) == (Repeat(every=1000), 0)


def test_for_people() -> None:
    assert describe(Repeat(every=300_000)) == "every 5 m"
    assert describe(Repeat(every=1500)) == "every 1500 ms"
    assert describe(HOURLY) == "0 * * * * (UTC)"
    assert describe(Repeat(pattern="@daily")) == "@daily"


def test_declarations_are_checked_at_once() -> None:
    assert Cron("0 3 * * *", tz="Europe/Berlin").repeat() == Repeat(pattern="0 3 * * *", tz="Europe/Berlin")
    assert Every("5m").repeat() == Repeat(every=300_000)
    with pytest.raises(ConfigError, match="hour '25'"):
        Cron("0 25 * * *")
    with pytest.raises(ConfigError, match="time zone"):
        Cron("0 3 * * *", tz="Berlin")
    with pytest.raises(ConfigError, match="at least one millisecond"):
        Every(0)
    with pytest.raises(ConfigError, match="expected seconds"):
        Every("soon")


@pytest.mark.parametrize("id", ["", "a:b", "a b", "x" * 101, "{a}", 5])
def test_an_id_that_cannot_be_one(id: str) -> None:
    with pytest.raises(ConfigError, match="1 to 100 characters"):
        check_schedule_id(id)
