"""Durations, sizes and how they are shown."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril.errors import ConfigError
from toril.kernel.durations import LONGEST_S, Duration, human, milliseconds, seconds, size_bytes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (2, 2.0),
        (0.25, 0.25),
        (timedelta(minutes=2), 120.0),
        ("30", 30.0),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("5 m", 300.0),
        (" 5M ", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m 5s", 5405.0),
        ("7d", 604800.0),
        ("1.5w", 907200.0),
        (LONGEST_S, LONGEST_S),
    ],
)
def test_a_duration_is_understood(value: Duration, expected: float) -> None:
    assert seconds(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        "-5",
        "",
        " ",
        "m",
        "5x",
        "5m3x",
        "1h30",
        "5m later",
        "1.5.2s",
        "nan",
        "inf",
        "1e400",
        float("nan"),
        float("inf"),
        10**400,
        timedelta(seconds=-1),
        timedelta.max,
        LONGEST_S + 1,
        True,
        None,
        [],
    ],
)
def test_what_is_no_duration_is_refused_by_name(value: Duration) -> None:
    with pytest.raises(ConfigError, match=r"^delay: expected seconds, .* got "):
        seconds(value, "delay")


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30_000)))
def test_milliseconds_are_those_of_a_timedelta(value: timedelta) -> None:
    assert abs(milliseconds(value) - value / timedelta(milliseconds=1)) <= 0.5


@given(st.text())
def test_no_text_breaks_the_parser(value: str) -> None:
    try:
        result = seconds(value)
    except ConfigError:
        return
    assert 0 <= result <= LONGEST_S


@given(st.integers(min_value=0))
def test_a_whole_number_of_bytes_stays_exact(value: int) -> None:
    assert size_bytes(value) == size_bytes(str(value)) == size_bytes(f"{value} b") == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [("512kb", 512_000), ("1MiB", 1_048_576), ("0.5 KiB", 512), ("2gb", 2_000_000_000), ("9" * 400 + "kb", None)],
)
def test_a_size_is_understood(value: str, expected: int | None) -> None:
    assert size_bytes(value) == (int(value[:-2]) * 1000 if expected is None else expected)


@pytest.mark.parametrize("value", [-1, True, "", "kb", "5 tb", "1e3", "-5kb", None, 1.5])
def test_what_is_no_size_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^limit: expected bytes"):
        size_bytes(value, "limit")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (1, "1 s"),
        (59.9, "59.9 s"),
        (60, "1 m"),
        (200, "3 m 20 s"),
        (7500, "2 h 5 m"),
        (86400, "1 d"),
        (86400 * 3 + 3600 * 4 + 59, "3 d 4 h"),
    ],
)
def test_seconds_are_shown_short(value: float, text: str) -> None:
    assert human(value) == text
