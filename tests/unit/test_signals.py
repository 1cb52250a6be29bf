"""Errors that handlers raise to steer their job."""

from datetime import timedelta
from typing import Any

import pytest

from toril.errors import ConfigError, NeverRetry
from toril.jobs.signals import RateLimited, Retry, Snooze


@pytest.mark.parametrize(
    ("wait", "seconds"), [(2, 2), (0.5, 0.5), (timedelta(seconds=2), 2), ("5m", 300), ("1h30m", 5400)]
)
def test_waits_are_durations_as_everywhere(wait: Any, seconds: float) -> None:
    assert Retry(in_=wait).delay_s == Snooze(wait).delay_s == RateLimited(wait).delay_s == seconds
    assert Retry(in_=0).delay_s == Snooze(0).delay_s == 0


def test_a_retry_without_a_wait_leaves_it_to_the_backoff() -> None:
    assert Retry("later").delay_s is None
    assert (Retry("later").reason, str(NeverRetry("no"))) == ("later", "no")


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), 1e30, "later", True, timedelta(seconds=-1)])
def test_a_wait_that_is_none_is_refused(wait: Any) -> None:
    with pytest.raises(ConfigError, match="Retry in_: expected seconds"):
        Retry(in_=wait)
    with pytest.raises(ConfigError, match="Snooze in_: expected seconds"):
        Snooze(wait)
