"""The parts of a breaker that are values: its record, its window, and the text of its last error."""

import random

import pytest

from toril.breaker import record as steps
from toril.breaker.record import CLOSED, Record, Report, decoded
from toril.breaker.rules import Rules
from toril.breaker.window import Counted, Window
from toril.breaker.wording import MOST_CHARS, described

RULES = Rules(volume=10, window_ms=10_000, reset_ms=5_000, probes=2)


def reported(record: Record, now: int, calls: int, failures: int, who: str = "a") -> Record:
    return steps.reported(record, RULES, Report(who, calls, failures, 0), now)


def test_failures_leave_the_joined_window() -> None:
    record = reported(CLOSED, 0, 9, 9)
    assert record.state == "closed"
    assert reported(record, 9_000, 1, 1).state == "open"
    assert reported(record, 11_000, 9, 9).state == "closed"


def test_the_record_does_not_grow() -> None:
    chance, record, now = random.Random(1), CLOSED, 0
    for number in range(3_000):
        now += chance.randint(0, 500)
        record = steps.closed(record) if record.state != "closed" else reported(record, now, 3, 1, f"p{number}")
        assert len(record.encoded()) < 4_000


def test_a_record_survives_its_way_through_the_store() -> None:
    record = steps.opened(steps.with_error(reported(CLOSED, 5, 3, 1), "no", 5), RULES, 7)
    record = steps.changed(steps.forced(record, "closed"), {"volume": 3})
    probe = steps.probing(record, RULES, "t", 6_000)
    assert probe is not None
    assert decoded(probe.encoded()) == probe


@pytest.mark.parametrize("raw", [None, b"", b"[]", b"{", b'{"state":"open"}', b"\xff"])
def test_what_is_no_record_is_closed(raw: bytes | None) -> None:
    assert decoded(raw) == CLOSED


def test_slots_of_probes() -> None:
    record = steps.opened(CLOSED, RULES, 0)
    assert steps.probing(record, RULES, "t1", 4_999) is None
    one = steps.probing(record, RULES, "t1", 5_000)
    assert one is not None
    two = steps.probing(one, RULES, "t2", 5_000)
    assert two is not None
    assert steps.probing(two, RULES, "t3", 5_000) is None
    done = steps.probed(two, RULES, "t1", True, "", 5_001)
    assert (done.state, done.passed) == ("half-open", 1)
    assert steps.probing(done, RULES, "t3", 5_002) is None
    assert steps.probed(done, RULES, "t1", False, "", 5_003) is done
    assert steps.probed(done, RULES, "t2", True, "", 5_004).state == "closed"
    failed = steps.probed(done, RULES, "t2", False, "no", 5_004)
    assert (failed.state, failed.until, failed.passed, failed.error) == ("open", 10_004, 0, "no")
    # A probe of the first time ends during the second.
    again = steps.probing(failed, RULES, "t4", 10_004)
    assert again is not None
    assert steps.probed(again, RULES, "t2", True, "", 10_005) is again


def test_a_window_forgets() -> None:
    window = Window(10.0, 100.0)
    window.calls, window.failures = 5, 2
    window.turn(101.0)
    window.calls += 1
    assert window.sums() == Counted(6, 2, 0)
    window.turn(109.5)
    assert window.sums() == Counted(6, 2, 0)
    window.turn(110.5)
    assert window.sums() == Counted(1, 0, 0)
    window.turn(1_000.0)
    assert window.sums() == Counted(0, 0, 0)
    assert window.ends > 1_000.0
    assert window.total == Counted(6, 2, 0)


def test_what_was_told_is_told_once() -> None:
    window = Window(10.0, 0.0)
    window.calls, window.failures = 3, 1
    what = window.untold()
    window.calls += 2
    window.told(what)
    assert (what, window.untold()) == (Counted(3, 1, 0), Counted(2, 0, 0))
    window.turn(50.0)
    assert window.untold() == Counted(0, 0, 0)


@pytest.mark.parametrize(
    ("message", "hidden"),
    [
        ("GET https://ann:s3cret@api.test/v1 failed", "s3cret"),
        ("401 for Authorization: Bearer abc.def-ghi_jkl", "abc.def"),
        ("bad api_key=12345, try again", "12345"),
        ('{"access_token": "xyz98765"}', "xyz98765"),
        ("Incorrect API key provided: sk-proj-abcdefgh12345678", "abcdefgh12345678"),
        ("signature 0123456789abcdef0123456789abcdef01 is wrong", "0123456789abcdef"),
        ("password='open sesame'", "open"),
    ],
)
# S4-22
def test_secrets_are_not_told(message: str, hidden: str) -> None:
    told = described(ValueError(message))
    assert hidden not in told
    assert told.startswith("ValueError: ")


def test_errors_are_told_shortly() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert described(Mute()) == "Mute"
    assert described(ValueError()) == "ValueError"
    assert len(described(ValueError("so it goes. " * 1_000))) == MOST_CHARS
    assert described(ValueError("status 503 from api.example.com")) == "ValueError: status 503 from api.example.com"
