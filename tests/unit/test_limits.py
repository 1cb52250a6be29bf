"""Rates and limits as people write them, and the signal that stops a queue."""

from datetime import timedelta
from typing import Any

import pytest

from toril import ConfigError, RateLimited, Toril
from toril.jobs.limits import QueueLimits, limits_of
from toril.kernel.durations import Rate, rate_of
from toril.testing.clock import ManualClock


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("3000/s", Rate(3000, 1000)),
        ("1000/15m", Rate(1000, 900_000)),
        (" 5 / 1.5s ", Rate(5, 1500)),
        ("1/250ms", Rate(1, 250)),
        ("10/h", Rate(10, 3_600_000)),
        ("7/1h30m", Rate(7, 5_400_000)),
    ],
)
def test_a_rate_is_a_number_per_time(text: str, rate: Rate) -> None:
    assert rate_of(text) == rate


@pytest.mark.parametrize(
    "text", ["", "5", "/s", "0/s", "5/0s", "-1/s", "1.5/s", "5/soon", "5/10", "5/s/s", 5, None, "9" * 10 + "/s"]
)
def test_what_is_no_rate_is_refused(text: Any) -> None:
    with pytest.raises(ConfigError):
        rate_of(text)


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "2", 10**10])
def test_what_is_no_concurrency_is_refused(concurrency: Any) -> None:
    with pytest.raises(ConfigError, match="concurrency: expected a whole number"):
        limits_of(concurrency, None)


def test_declarations_are_compared_by_their_text() -> None:
    every = [
        limits_of(*given) for given in ((None, None), (1, None), (None, "1/s"), (1, "1/s"), (11, "1/s"), (1, "11/s"))
    ]
    assert len({limits.stored() for limits in every}) == len(every)
    assert limits_of(1, "60/m") == QueueLimits(1, Rate(60, 60_000))


def test_a_stop_takes_any_duration() -> None:
    assert [RateLimited(in_=wait).delay_s for wait in (1, 0.5, "30s", timedelta(minutes=1))] == [1, 0.5, 30, 60]
    for wrong in (0, -1, "soon", None):
        with pytest.raises(ConfigError, match="RateLimited in_"):
            RateLimited(wrong)  # type: ignore[arg-type]
    assert str(RateLimited(1)) == "the handler met a rate limit"


def test_two_declarations_must_agree() -> None:
    app = Toril("sqlite://", clock=ManualClock())
    app.queue("hooks", concurrency=2, rate="5/s")
    app.queue("hooks", rate="5/1s", concurrency=2)
    app.queue("hooks")
    with pytest.raises(ConfigError, match="declared with two limits"):
        app.queue("hooks", concurrency=3)
