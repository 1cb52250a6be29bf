"""Where Toril's states may differ from the recorded ones, and which steps its ports do not do (yet).

Everything here has its reason in docs/bullmq-compatibility.md; `test_documented.py` holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tests.interop.recorded import Dump, Scenario, Value

Step = dict[str, Any]

LOOSE_TTL_MS = 3_000


class Difference(NamedTuple):
    """A difference that is right. `keys` and `fields` are patterns of what is left out of the comparison."""

    name: str
    keys: str
    fields: str = ""
    only: frozenset[str] = frozenset()
    """The scenarios in which it occurs; everywhere when empty."""


RIGHT = (
    Difference("own-fields", "bull:*", "toril:*"),
    Difference("own-keys", "toril:*"),
    Difference("worker-name", "bull:*", "pb"),
    Difference("next-run-of-a-run", "bull:*", "nrjid"),
    Difference("library-version", "bull:*:meta", "version"),
    Difference("one-look-for-stalled", "bull:*:stalled"),
    Difference("one-look-for-stalled", "bull:*:stalled-check"),
    Difference("refused-changes-nothing", "bull:q:1:lock", only=frozenset({"032"})),
    Difference("retry-counts-anew", "bull:*", "at[ms]", frozenset({"076", "108"})),
    Difference("next-due-is-marked", "bull:q:marker", only=frozenset({"049"})),
)

# Events of Toril's own; a listener for them exists only where somebody wants them.
OWN_EVENTS = frozenset({"log"})

# Metrics are written by no worker of Toril yet.
NOT_BUILT_KEYS = ("bull:*:metrics:*",)

GIVEN: Mapping[str, str] = {
    "queue": "constructing a queue is nothing that Toril does",
    "redis": "raw commands",
    "updateData": "Toril has no such operation",
    "clearLogs": "Toril has no such operation",
    "changeDelay": "Toril has no such operation",
    "promoteJobs": "Toril promotes jobs one by one, by their priority",
    "retryJobs": "Toril retries jobs one by one, by their priority",
    "removeDedup": "Toril has no such operation",
    "removeChildDependency": "Toril has no such operation",
    "rateLimit": "calling `rateLimit()` apart from a job is not offered",
    "metrics": "metrics are not built yet",
    "legacyRepeat": "BullMQ 6 dropped it",
}
"""Operations whose recorded result is written instead of done, with the reason."""


def reason_to_give(scenario: Scenario, number: int) -> str | None:
    """Why a step is written instead of done; None for a step that Toril does."""
    names = (scenario.number, f"v{scenario.major}-{scenario.number}")
    named = next((STEPS_GIVEN[name, number] for name in names if (name, number) in STEPS_GIVEN), None)
    return named or _reason(scenario.steps[number])


def _reason(step: Step) -> str | None:
    op, opts = step["op"], step.get("opts", {})
    if op in GIVEN:
        return GIVEN[op]
    if op == "add":
        if "error" in step and "sizeLimit" in opts:
            return "Toril's limit is a setting, not an option of a job"
        if ":" in opts.get("jobId", "") and "error" not in step:
            return "Toril's ids have no colons"
    if op in {"fetch", "process"} and "limiter" in step.get("worker", {}):
        return "the `limiter` of a single worker has no counterpart"
    if op == "remove" and "removeChildren" in step.get("opts", {}):
        return "Toril removes children with their parent"
    return None


STEPS_GIVEN: Mapping[tuple[str, int], str] = {
    ("012", 1): "a delay counts from the moment of adding",
    ("052", 4): "one look finds stalled jobs",
    ("066", 6): "pausing twice is once",
    ("111", 1): "a job of a flow has one parent",
    ("116", 8): "a parent with nothing to wait for goes back in line",
    ("v5-076", 7): "a retried job keeps its priority",
    ("v6-140", 2): "an upsert finds the run that waits in a paused queue",
    ("025", 5): "every worker of Toril obeys a stop",
    ("v5-087", 3): "a key whose job vanished is free, as of 6.7",
}
"""Single steps that are written because Toril rightly does otherwise: number of the scenario (with the version, where
only one does it) and of the step."""

NOTHING_LEFT: Mapping[str, str] = {
    "001": "constructing a queue is nothing that Toril does",
    "145": "BullMQ 6 dropped it",
}
"""Scenarios in which Toril does no step, with the reason. A test finds out which these are, and compares."""


def compared(dump: Dump, scenario: Scenario) -> Dump:
    """A dump without what may differ."""
    here = [rule for rule in RIGHT if not rule.only or scenario.number in rule.only]
    gone = [rule.keys for rule in here if not rule.fields] + list(NOT_BUILT_KEYS)
    fields = [rule for rule in here if rule.fields]
    kept = {}
    for key, value in dump.items():
        if any(fnmatchcase(key, pattern) for pattern in gone):
            continue
        if value["type"] == "hash":
            names = [rule.fields for rule in fields if fnmatchcase(key, rule.keys)]
            hash_ = {
                name: text for name, text in value["value"].items() if not any(fnmatchcase(name, n) for n in names)
            }
            value = value | {"value": hash_}
            if not hash_:
                continue
        elif value["type"] == "stream":
            value = value | {"value": [event for event in value["value"] if event["event"] not in OWN_EVENTS]}
        kept[key] = value
    return kept


def unlike(expected: Dump, found: Dump) -> list[str]:
    """What differs between two dumps, key by key, as lines for a person."""
    lines = []
    for key in sorted(expected.keys() | found.keys()):
        if key not in found:
            lines.append(f"{key}: missing, expected {expected[key]}")
        elif key not in expected:
            lines.append(f"{key}: unexpected {found[key]}")
        else:
            lines += [f"{key}: {line}" for line in _unlike(expected[key], found[key])]
    return lines


def _unlike(expected: Value, found: Value) -> list[str]:
    if expected["type"] != found["type"]:
        return [f"expected a {expected['type']}, found a {found['type']}"]
    lines = []
    if expected["type"] == "hash":
        names = sorted(expected["value"].keys() | found["value"].keys())
        pairs = [(name, expected["value"].get(name), found["value"].get(name)) for name in names]
        lines += [f"{name}: expected {a!r}, found {b!r}" for name, a, b in pairs if a != b]
    elif expected["value"] != found["value"]:
        lines.append(f"expected {expected['value']}, found {found['value']}")
    if abs(expected.get("ttl", -1) - found.get("ttl", -1)) > LOOSE_TTL_MS or ("ttl" in expected) != ("ttl" in found):
        lines.append(f"ttl: expected {expected.get('ttl')}, found {found.get('ttl')}")
    return lines
