"""Cron expressions: when they are due, above all when clocks change."""  # S3-11

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from toril.errors import ConfigError
from toril.jobs.cron import check_cron, check_zone, next_cron

BERLIN = "Europe/Berlin"
NEW_YORK = "America/New_York"


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """Milliseconds of a local time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def due(expression: str, zone: str, start: str, end: str) -> list[str]:
    """Every local time at which it is due, after `start` and up to `end`, with the offset from UTC in hours."""
    times: list[str] = []
    moment = at(start, zone)
    while True:
        found = next_cron(expression, zone, moment)
        assert found is not None
        assert found > moment
        moment = found
        if moment > at(end, zone):
            return times
        local = datetime.fromtimestamp(moment / 1000, ZoneInfo(zone))
        offset = local.utcoffset() or timedelta()
        times.append(f"{local:%d %H:%M}{offset.total_seconds() / 3600:+.0f}")


@pytest.mark.parametrize("seconds", ["", "0 "])
def test_a_time_that_is_skipped_is_due_an_hour_later(seconds: str) -> None:
    # S3-11
    daily = f"{seconds}30 2 * * *"
    assert due(daily, BERLIN, "2024-03-30 12:00", "2024-04-01 12:00") == ["31 03:30+2", "01 02:30+2"]
    assert due(daily, NEW_YORK, "2024-03-09 12:00", "2024-03-11 12:00") == ["10 03:30-4", "11 02:30-4"]


@pytest.mark.parametrize("seconds", ["", "0 "])
def test_a_time_that_comes_twice_is_due_once(seconds: str) -> None:
    assert due(f"{seconds}30 2 * * *", BERLIN, "2024-10-26 12:00", "2024-10-28 12:00") == ["27 02:30+2", "28 02:30+1"]
    assert due(f"{seconds}30 1 * * *", NEW_YORK, "2024-11-02 12:00", "2024-11-04 12:00") == ["03 01:30-4", "04 01:30-5"]


def test_hours_that_are_named_keep_the_wall_time() -> None:
    assert due("0 */6 * * *", BERLIN, "2024-10-26 17:00", "2024-10-27 12:00") == [
        "26 18:00+2", "27 00:00+2", "27 06:00+1", "27 12:00+1",
    ]  # fmt: skip


def test_every_hour_goes_by_real_time() -> None:
    assert due("30 * * * *", BERLIN, "2024-10-27 01:00", "2024-10-27 04:00") == [
        "27 01:30+2", "27 02:30+2", "27 02:30+1", "27 03:30+1",
    ]  # fmt: skip
    assert due("30 0-23 * * *", BERLIN, "2024-03-31 01:00", "2024-03-31 04:00") == ["31 01:30+1", "31 03:30+2"]


def test_skipped_times_do_not_hide_what_follows_them() -> None:
    assert due("0,15,45 2,3 * * *", BERLIN, "2024-03-31 00:00", "2024-03-31 12:00") == [
        "31 03:00+2", "31 03:15+2", "31 03:45+2",
    ]  # fmt: skip


def test_a_change_at_midnight() -> None:
    assert due("0 0 * * *", "Asia/Beirut", "2024-03-29 12:00", "2024-04-01 12:00") == [
        "30 00:00+2", "31 01:00+3", "01 00:00+3",
    ]  # fmt: skip


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("expression", ["7 2,3 * * *", "30 */2 * * *", "0 0 3 * * *", "59 23 * * *"])
def test_whoever_plans_plans_the_same_slot(zone: str, expression: str) -> None:
    """Asked from any moment between two slots, the answer is the second one."""
    moment, end, slots = at("2024-01-01 00:00", zone), at("2025-01-01 00:00", zone), 0
    while True:
        found = next_cron(expression, zone, moment)
        assert found is not None
        assert next_cron(expression, zone, (moment + found) // 2) == found
        assert next_cron(expression, zone, found - 1) == found
        if found >= end:
            break
        slots, moment = slots + 1, found
    assert slots == 366 * {"7 2,3 * * *": 2, "30 */2 * * *": 12}.get(expression, 1) - _merged(expression, zone)


def _merged(expression: str, zone: str) -> int:
    """The skipped 02:07 is due at 03:07, where that hour has a slot of its own."""
    return int(expression == "7 2,3 * * *" and zone in {BERLIN, NEW_YORK})


def test_a_year_of_hours_has_each_hour() -> None:
    start = at("2024-10-01 00:00")
    moment = start
    for number in range(24 * 60):
        assert next_cron("0 * * * *", BERLIN, moment) == start + (number + 1) * 3_600_000
        moment += 3_600_000


def test_seconds() -> None:
    assert next_cron("*/20 * * * * *", None, at("2024-05-01 10:00:01")) == at("2024-05-01 10:00:20")
    assert next_cron("15 30 9 * * *", BERLIN, at("2024-05-01 10:00")) == at("2024-05-02 09:30:15", BERLIN)


def test_milliseconds_do_not_count_as_a_second() -> None:
    """A slot that has begun is not due again."""
    slot = at("2024-05-01 10:00")
    assert next_cron("0 * * * *", None, slot - 1) == slot
    assert next_cron("0 * * * *", None, slot) == slot + 3_600_000
    assert next_cron("0 * * * *", BERLIN, slot + 999) == slot + 3_600_000


def test_words_and_question_marks() -> None:
    assert next_cron("@daily", None, at("2024-05-01 10:00")) == at("2024-05-02 00:00")
    assert next_cron("0 0 12 ? * MON", None, at("2024-05-01 10:00")) == at("2024-05-06 12:00")


def test_a_leap_day() -> None:
    assert next_cron("0 0 29 2 *", None, at("2024-03-01 00:00")) == at("2028-02-29 00:00")


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("61 * * * *", "minute '61'"),
        ("0 25 * * *", "hour '25'"),
        ("0 0 32 * *", "day of month '32'"),
        ("0 0 * 13 *", "month '13'"),
        ("0 0 * * 8", "day of week '8'"),
        ("99 0 0 * * *", "second '99'"),
        ("0 0 30 2 *", "day of month '30'"),
        ("* * *", "3 fields"),
        ("", "0 fields"),
        ("every day", "2 fields"),
    ],
)
def test_a_bad_expression_is_refused_and_its_field_named(expression: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_cron(expression)
    assert "expected five fields" in str(caught.value)
    assert repr(expression) in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize("zone", ["Nowhere/Town", "", "../etc/passwd", "Europe"])
def test_a_bad_zone_is_refused(zone: str) -> None:
    with pytest.raises(ConfigError, match="expected the name of a time zone"):
        check_zone(zone)


def test_good_ones_are_given_back() -> None:
    assert check_cron("0 3 * * *") == "0 3 * * *"
    assert check_zone(BERLIN) == BERLIN
    assert datetime.fromtimestamp((next_cron("0 3 * * *", BERLIN, 0) or 0) / 1000, UTC).hour == 2
