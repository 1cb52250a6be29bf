"""Waits between attempts."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril.errors import ConfigError
from toril.jobs.retry import BackoffSpec, Exponential, Fixed, custom_name, spec_of
from toril.kernel.backoff import wait_s
from toril.kernel.durations import LONGEST_S


def test_exponential_doubles_from_its_base() -> None:
    # S0-05, S0-22
    spec = spec_of(Exponential(5.0))
    assert spec is not None
    assert [spec.delay_ms_for(attempt) for attempt in (1, 2, 3, 4)] == [5_000, 10_000, 20_000, 40_000]


def test_the_cap_holds_and_fixed_stays() -> None:
    capped, fixed = spec_of(Exponential("1s", cap="3s")), spec_of(Fixed("250ms"))
    assert capped is not None
    assert fixed is not None
    assert [capped.delay_ms_for(attempt) for attempt in (1, 2, 3, 9)] == [1_000, 2_000, 3_000, 3_000]
    assert [fixed.delay_ms_for(attempt) for attempt in (1, 2, 50)] == [250, 250, 250]


@given(
    st.integers(min_value=-5, max_value=2_000_000),
    st.floats(min_value=0, max_value=LONGEST_S),
    st.floats(min_value=0, max_value=1),
    st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_jitter_only_shortens(attempt: int, base: float, jitter: float, drawn: float) -> None:
    full = wait_s(attempt, base_s=base)
    wait = wait_s(attempt, base_s=base, jitter=jitter, draw=lambda: drawn)
    assert full * (1 - jitter) <= wait * (1 + 1e-9)
    assert wait <= full


@given(st.integers(min_value=1, max_value=1_000_000), st.floats(min_value=0, max_value=LONGEST_S))
def test_no_wait_leaves_what_a_store_can_count(attempt: int, base: float) -> None:
    spec = BackoffSpec("exponential", round(base * 1000), 0.0)
    assert 0 <= spec.delay_ms_for(attempt) <= LONGEST_S * 1000 < 2**63


@pytest.mark.parametrize("jitter", [-0.1, 1.1, True, "0.2", None, float("nan")])
def test_jitter_is_a_share(jitter: float) -> None:
    with pytest.raises(ConfigError, match=r"^jitter: expected a number from 0 to 1"):
        Fixed(1, jitter=jitter)


@pytest.mark.parametrize("delay", [-1, "soon", None])
def test_a_delay_is_a_duration(delay: float) -> None:
    with pytest.raises(ConfigError, match="Exponential delay: expected seconds"):
        Exponential(delay)
    with pytest.raises(ConfigError, match="Exponential cap: expected seconds"):
        Exponential(1.0, cap=-1)


@pytest.mark.parametrize("value", [5, "exponential", Exponential, Fixed])
def test_what_is_no_backoff_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^backoff: expected Fixed, Exponential or a function"):
        spec_of(value)  # type: ignore[arg-type]


def linear(attempt: int, error: BaseException) -> float:
    return 3.0 * attempt


class Patient:
    def __call__(self, attempt: int, error: BaseException) -> float | None:
        return None


def test_a_custom_policy_travels_by_its_name() -> None:
    for policy, name in ((linear, "linear"), (Patient(), "Patient"), (functools.partial(linear), "partial")):
        spec = spec_of(policy)
        assert spec is not None
        assert (spec.name, spec.kind, spec.delay_ms) == (name, "exponential", 1_000)
        assert custom_name(policy) == name
    assert spec_of(None) is None
