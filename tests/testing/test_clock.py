"""The clock that is moved by hand."""

from datetime import timedelta

import pytest

from toril.errors import ConfigError
from toril.kernel.clock import Clock
from toril.testing.clock import START_MS, ManualClock


def test_it_stands_still() -> None:
    clock: Clock = ManualClock()
    assert [clock.now_ms() for _ in range(3)] == [START_MS] * 3


@pytest.mark.parametrize(
    ("by", "ms"), [(1.5, 1_500), ("2h", 7_200_000), (timedelta(days=1), 86_400_000), ("250ms", 250)]
)
def test_it_goes_forward_as_told(by: float | str | timedelta, ms: int) -> None:
    clock = ManualClock(1_000)
    assert clock.advance(by) == 1_000 + ms
    assert clock.now_ms() == 1_000 + ms


def test_it_can_be_set_back() -> None:
    clock = ManualClock(1_000)
    assert clock.advance_ms(-400) == 600
    clock.set_ms(5)
    assert clock.now_ms() == 5


def test_a_wrong_duration_is_refused() -> None:
    clock = ManualClock()
    with pytest.raises(ConfigError):
        clock.advance("soon")
    assert clock.now_ms() == START_MS
