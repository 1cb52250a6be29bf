"""Errors that handlers raise to steer their job."""

from datetime import timedelta
from typing import Any

import pytest

from toril.errors import ConfigError, NeverRetry, Retry, Snooze


@pytest.mark.parametrize("wait", [0, 2, 0.5, timedelta(seconds=2)])
def test_waits_are_seconds_or_a_timedelta(wait: Any) -> None:
    expected = wait.total_seconds() if isinstance(wait, timedelta) else wait
    assert Retry(in_=wait).delay_s == Snooze(wait).delay_s == expected


def test_a_retry_without_a_wait_leaves_it_to_the_backoff() -> None:
    assert Retry("later").delay_s is None
    assert (Retry("later").reason, str(NeverRetry("no"))) == ("later", "no")


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), 1e30, "5m", True, timedelta(seconds=-1)])
def test_a_wait_that_is_none_is_refused(wait: Any) -> None:
    with pytest.raises(ConfigError, match=r"Retry\(in_=…\): expected seconds"):
        Retry(in_=wait)
    with pytest.raises(ConfigError, match=r"Snooze\(in_=…\): expected seconds"):
        Snooze(wait)
