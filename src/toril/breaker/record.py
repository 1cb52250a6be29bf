"""What all processes know of one breaker, as a value, and the steps from one value to the next.

Every step is a pure function, so that a store compares and sets the outcome, and a process without a store takes the
same steps by itself. Times are wall times in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from toril.breaker.rules import Rules
from toril.kernel import codec

State = Literal["closed", "open", "half-open"]
BUCKETS = 10
_MOST_REPORTERS = 64


@dataclass(frozen=True, slots=True)
class Record:
    """The shared state. `until` is when probes may begin; `round` counts the times it opened, so that a probe of an
    earlier time changes nothing; `probes` are the slots in use, token and time at which they are free again; `passed`
    counts probes that succeeded. `buckets` are [number, calls, failures, slow] of the joined window, `reporters` which
    processes saw failures, and when. `forced` is what an operator wants; `patch` what was changed of the rules.
    """

    state: State = "closed"
    until: int = 0
    round: int = 0
    probes: tuple[tuple[str, int], ...] = ()
    passed: int = 0
    buckets: tuple[tuple[int, int, int, int], ...] = ()
    reporters: tuple[tuple[str, int], ...] = ()
    forced: State | None = None
    patch: Mapping[str, Any] = field(default_factory=dict)
    opened: int = 0
    error: str = ""
    error_at: int = 0

    def encoded(self) -> bytes:
        """As the store keeps it."""
        return codec.encode(asdict(self)).encode()

    @property
    def effective(self) -> State:
        """What holds: the operator's word before the breaker's own."""
        return self.forced or self.state


CLOSED = Record()


def decoded(stored: bytes | None) -> Record:
    """A stored record. What cannot be read, or is of another version, counts as none."""
    if stored is None:
        return CLOSED
    try:
        value = codec.decode(stored)
        return Record(
            state=value["state"],
            until=value["until"],
            round=value["round"],
            probes=tuple((token, until) for token, until in value["probes"]),
            passed=value["passed"],
            buckets=tuple((number, calls, failures, slow) for number, calls, failures, slow in value["buckets"]),
            reporters=tuple((who, at) for who, at in value["reporters"]),
            forced=value["forced"],
            patch=value["patch"],
            opened=value["opened"],
            error=value["error"],
            error_at=value["error_at"],
        )
    except (ValueError, TypeError, KeyError):
        return CLOSED


@dataclass(frozen=True, slots=True)
class Report:
    """What a process has seen since its last report."""

    who: str
    calls: int
    failures: int
    slow: int
    error: str = ""


def crosses(rules: Rules, calls: int, failures: int, slow: int) -> bool:
    """Whether so many failures, or slow calls, of so many calls open a breaker."""
    if calls < rules.volume:
        return False
    return failures >= rules.error_threshold * calls or (
        rules.slow_ms is not None and slow > 0 and slow >= rules.slow_threshold * calls
    )


def reported(record: Record, rules: Rules, report: Report, now: int) -> Record:
    """Add to the joined window, and open when that crosses; what an operator has forced is not watched."""
    if record.forced is not None:
        return record
    width = max(1, rules.window_ms // BUCKETS)
    number = now // width
    buckets = {bucket[0]: bucket for bucket in record.buckets if number - BUCKETS < bucket[0] <= number}
    _, calls, failures, slow = buckets.get(number, (number, 0, 0, 0))
    buckets[number] = (number, calls + report.calls, failures + report.failures, slow + report.slow)
    reporters = {who: at for who, at in record.reporters if at > now - rules.window_ms}
    if report.failures or report.slow:
        reporters[report.who] = now
    latest = sorted(reporters.items(), key=lambda item: -item[1])[:_MOST_REPORTERS]
    joined = replace(record, buckets=tuple(sorted(buckets.values())), reporters=tuple(latest))
    if report.error:
        joined = replace(joined, error=report.error, error_at=now)
    total = [sum(bucket[part] for bucket in joined.buckets) for part in (1, 2, 3)]
    if joined.state == "closed" and len(latest) >= rules.quorum and crosses(rules, *total):
        return opened(joined, rules, now)
    return joined


def opened(record: Record, rules: Rules, now: int) -> Record:
    """Refuse calls until the time is over."""
    return replace(
        record, state="open", until=now + rules.reset_ms, round=record.round + 1, probes=(), passed=0, opened=now
    )


def closed(record: Record) -> Record:
    """Let calls through, and forget what was counted."""
    return replace(record, state="closed", until=0, probes=(), passed=0, buckets=(), reporters=())


def probing(record: Record, rules: Rules, token: str, now: int) -> Record | None:
    """Give a probe its slot; None when there is none to give."""
    if record.state == "closed" or now < record.until:
        return None
    held = tuple(slot for slot in record.probes if slot[1] > now)
    if len(held) + record.passed >= rules.probes:
        return None
    return replace(record, state="half-open", probes=(*held, (token, now + rules.probe_ms)))


def probed(record: Record, rules: Rules, token: str, well: bool, error: str, now: int) -> Record:
    """A probe has ended. One whose slot was given to another, or that is of an earlier time, changes nothing."""
    left = _without(record, token)
    if left is record or record.state != "half-open":
        return record
    if not well:
        return opened(replace(left, error=error or left.error, error_at=now), rules, now)
    return closed(left) if left.passed + 1 >= rules.probes else replace(left, passed=left.passed + 1)


def left(record: Record, token: str) -> Record:
    """A probe ended without telling anything, because it was cancelled: its slot is free."""
    return _without(record, token)


def _without(record: Record, token: str) -> Record:
    probes = tuple(slot for slot in record.probes if slot[0] != token)
    return record if len(probes) == len(record.probes) else replace(record, probes=probes)


def with_error(record: Record, error: str, at: int) -> Record:
    """The record with the last error."""
    return replace(record, error=error, error_at=at)


def forced(record: Record, state: State) -> Record:
    """An operator wants this state."""
    return replace(record, forced=state)


def reset(record: Record) -> Record:
    """Closed, nothing forced, nothing changed; the last error stays to be seen."""
    return replace(closed(record), forced=None, patch={})


def changed(record: Record, patch: Mapping[str, Any]) -> Record:
    """Other rules, on top of those changed before."""
    return replace(record, patch={**record.patch, **patch})
