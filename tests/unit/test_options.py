"""Options of jobs: checked when they are written, stored as BullMQ does, read leniently."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril.errors import ConfigError
from toril.jobs.options import (
    DEFAULT_BACKOFF,
    OPTION_NAMES,
    JobOptions,
    Keep,
    OptionsPatch,
    Retention,
    decode,
    encode,
)
from toril.jobs.retry import Exponential, Fixed
from toril.kernel.durations import LONGEST_S

LETTERS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters=","), min_size=1, max_size=20)


def test_defaults_are_three_attempts_with_growing_waits() -> None:
    # S0-05, S3-23
    stored = decode(encode(JobOptions()))
    assert stored.attempts == 3
    assert stored.backoff is not None
    assert (stored.backoff.kind, stored.backoff.delay_ms, stored.backoff.jitter) == ("exponential", 1_000, 0.2)
    assert (stored.keep_completed, stored.keep_failed, stored.timeout_s, stored.ours) == (None, None, None, True)


@given(
    attempts=st.integers(min_value=1, max_value=1_000_000),
    delay=st.integers(min_value=0, max_value=10**9),
    jitter=st.floats(min_value=0, max_value=1),
    cap=st.none() | st.integers(min_value=0, max_value=10**9),
    timeout=st.none() | st.floats(min_value=0.001, max_value=LONGEST_S),
    owner=st.none() | LETTERS,
    tags=st.lists(LETTERS, max_size=3),
    keep=st.none() | st.integers(min_value=0, max_value=10**9),
)
def test_what_is_stored_is_read_back(
    attempts: int,
    delay: int,
    jitter: float,
    cap: int | None,
    timeout: float | None,
    owner: str | None,
    tags: list[str],
    keep: int | None,
) -> None:
    options = JobOptions(
        attempts=attempts,
        backoff=Exponential(delay / 1000, jitter=jitter, cap=None if cap is None else cap / 1000),
        timeout=timeout,
        owner=owner,
        tags=tuple(tags),
        retention=Retention(failed_max=keep),
    )
    read = decode(encode(options))
    assert read.backoff is not None
    assert (read.attempts, read.owner, read.tags) == (attempts, owner, tuple(tags))
    assert (read.backoff.delay_ms, read.backoff.jitter, read.backoff.cap_ms) == (delay, jitter, cap)
    assert read.timeout_s == (None if timeout is None else pytest.approx(timeout, abs=0.001))
    assert read.keep_failed == (None if keep is None else Keep(None, keep))
    assert read.keep_completed is None


def test_the_wire_is_bullmqs() -> None:
    options = JobOptions(
        attempts=5,
        backoff=Fixed("2s", jitter=0.5),
        priority=7,
        lifo=True,
        id="order-1",
        retention=Retention(completed="1d", completed_max=10, failed=0),
        timeout="90s",
        owner="u1",
        tags=("a", "b"),
    )
    assert json.loads(encode(options, delay_ms=1500)) == {
        "attempts": 5,
        "backoff": {"type": "fixed", "delay": 2000, "jitter": 0.5},
        "delay": 1500,
        "priority": 7,
        "lifo": True,
        "jobId": "order-1",
        "removeOnComplete": {"age": 86400, "count": 10},
        "removeOnFail": True,
        "toril": {"v": 1, "timeout": 90000, "owner": "u1", "tags": "a,b"},
    }


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"attempts": 2.0}, "attempts"),
        ({"priority": -1}, "priority"),
        ({"priority": 2_097_152}, "priority"),
        ({"backoff": "exponential"}, "backoff"),
        ({"backoff": Exponential}, "backoff"),
        ({"delay": -1}, "delay"),
        ({"delay": "tomorrow"}, "delay"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "never"}, "timeout"),
        ({"run_at": datetime(2030, 1, 1)}, "run_at"),  # noqa: DTZ001 - a naive one is the point
        ({"run_at": 5}, "run_at"),
        ({"run_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, "Both delay and run_at"),
        ({"retention": "7d"}, "retention"),
        ({"lifo": "yes"}, "lifo"),
        ({"id": "1"}, "id"),
        ({"id": 5}, "id"),
        ({"owner": 5}, "owner"),
        ({"owner": ""}, "owner"),
        ({"owner": "\ud800"}, "owner"),
        ({"tags": "docs"}, "tags"),
        ({"tags": ("a,b",)}, "tags"),
        ({"tags": ("",)}, "tags"),
        ({"tags": (5,)}, "tags"),
    ],
)
def test_a_wrong_option_is_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        JobOptions(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"completed": -1}, {"failed": "x"}, {"completed_max": -1}, {"failed_max": 1.5}, {"completed_max": True}]
)
def test_retention_is_checked_early(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"Retention (completed|failed)"):
        Retention(**wrong)


def test_an_unknown_option_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Unknown option 'attemps': expected one of attempts, backoff"):
        JobOptions().merged({"attemps": 5})  # type: ignore[typeddict-unknown-key]


def test_the_patch_knows_every_option() -> None:
    assert OptionsPatch.__optional_keys__ == OPTION_NAMES


def test_the_later_way_to_say_when_wins() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    assert JobOptions(delay=5).merged({"run_at": at}).delay is None
    assert JobOptions(run_at=at).merged({"delay": 5}).run_at is None
    assert JobOptions(run_at=at).merged({"priority": 1}).run_at == at
    assert JobOptions(delay=5).merged({"delay": None}) == JobOptions()
    with pytest.raises(ConfigError, match="Both delay and run_at"):
        JobOptions().merged({"delay": 5, "run_at": at})


def test_a_time_of_day_becomes_a_delay() -> None:
    east = timezone(timedelta(hours=2))
    at = datetime(2030, 1, 1, 12, tzinfo=east)
    ms = round(at.timestamp() * 1000)
    assert JobOptions(run_at=at).delay_ms(ms - 1_500) == 1_500
    assert JobOptions(run_at=at).delay_ms(ms + 1) == 0
    assert JobOptions(delay="2s").delay_ms(ms) == 2_000


@pytest.mark.parametrize(
    ("stored", "field", "expected"),
    [
        ("{}", "attempts", 1),
        ('{"attempts": 0}', "attempts", 1),
        ('{"attempts": "5"}', "attempts", 1),
        ('{"attempts": true}', "attempts", 1),
        ('{"toril": {"timeout": true}}', "timeout_s", None),
        ('{"toril": {"timeout": -5}}', "timeout_s", None),
        ('{"toril": {"owner": 5, "tags": 7}}', "owner", None),
        ('{"toril": []}', "ours", False),
        ('{"removeOnComplete": true}', "keep_completed", Keep(None, 0)),
        ('{"removeOnComplete": false}', "keep_completed", None),
        ('{"removeOnComplete": 5}', "keep_completed", Keep(None, 5)),
        ('{"removeOnComplete": -1}', "keep_completed", None),
        ('{"removeOnFail": {"count": -1}}', "keep_failed", None),
        ('{"removeOnFail": {"age": 60}}', "keep_failed", Keep(60.0, None)),
        ('{"removeOnFail": {"age": -60, "count": "x"}}', "keep_failed", None),
        ('{"removeOnFail": "yes"}', "keep_failed", None),
        ('{"backoff": "exponential"}', "backoff", None),
    ],
)
def test_odd_values_of_other_producers_count_as_not_given(stored: str, field: str, expected: object) -> None:
    assert getattr(decode(stored), field) == expected


@pytest.mark.parametrize(
    ("stored", "kind", "delay_ms", "jitter"),
    [
        ('{"backoff": 5000}', "fixed", 5000, 0.0),
        ('{"backoff": -5}', "fixed", 0, 0.0),
        ('{"backoff": {"type": "exponential", "delay": 10.7}}', "exponential", 10, 0.0),
        ('{"backoff": {"type": "odd", "delay": -1, "jitter": 2}}', "fixed", 0, 0.0),
        ('{"backoff": {"type": "fixed", "jitter": true}}', "fixed", 0, 0.0),
        ('{"backoff": {"delay": 1e300}}', "fixed", int(1e300), 0.0),
    ],
)
def test_backoffs_of_other_producers(stored: str, kind: str, delay_ms: int, jitter: float) -> None:
    backoff = decode(stored).backoff
    assert backoff is not None
    assert (backoff.kind, backoff.delay_ms, backoff.jitter) == (kind, delay_ms, jitter)
    assert 0 <= backoff.delay_ms_for(1) < 2**63


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("abc"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "delay", "jitter", "age", "count"]), inner, max_size=4)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(["attempts", "backoff", "delay", "removeOnComplete", "removeOnFail", "toril", "lifo"])


@given(st.dictionaries(KEYS, JSON | st.dictionaries(st.sampled_from(["timeout", "owner", "tags", "cap"]), JSON)))
def test_no_stored_object_breaks_the_reader(stored: dict[str, Any]) -> None:
    read = decode(json.dumps(stored))
    assert read.attempts >= 1
    assert read.backoff is None or 0 <= read.backoff.delay_ms_for(3) < 2**63
    assert read.timeout_s is None or read.timeout_s > 0
    for keep in (read.keep_completed, read.keep_failed):
        assert keep is None or (keep.count or 0) >= 0


@pytest.mark.parametrize("stored", ["", "[]", "null", "{", "5"])
def test_options_that_are_no_object_are_refused(stored: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode(stored)


def test_a_custom_backoff_is_stored_by_name() -> None:
    def slowly(attempt: int, error: BaseException) -> float:
        return attempt

    read = decode(encode(JobOptions(backoff=slowly)))
    assert read.backoff is not None
    assert read.backoff.name is not None
    assert read.backoff.name.endswith("slowly")
    assert JobOptions().backoff == DEFAULT_BACKOFF
