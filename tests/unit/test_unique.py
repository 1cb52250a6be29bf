"""`Unique`: what it accepts, which key a job gets, and how it is stored."""

import json
from datetime import date, timedelta
from typing import Any

import pytest

from toril import ConfigError, JobOptions, Unique
from toril.engine.ports.jobs import Added
from toril.jobs.unique import UniqueKey, with_key
from toril.tasks.signature import Signature
from toril.tasks.unique import KeyRule


def report(user: str, depth: int = 2, since: date = date(2026, 1, 2), tags: list[str] | None = None) -> None: ...


def rule(unique: Unique) -> KeyRule:
    return KeyRule(unique, "report", Signature(report, "report"))


def key(unique: Unique, **arguments: Any) -> str:
    return rule(unique).key_of(Signature(report, "report").bind((), arguments)).id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": ""}, "Unique key: expected text"),
        ({"key": 7}, "Unique key: expected text"),
        ({"key": "a{b"}, "Unique key: expected text"),
        ({"key": "a{}"}, "is not the bare name"),
        ({"key": "a{b.c}"}, "is not the bare name"),
        ({"key": "a{b!r}"}, "is not the bare name"),
        ({"key": "a\nb"}, "Unique key: expected text"),
        ({"window": 0}, "Unique window: expected more than 0"),
        ({"window": "soon"}, "Unique window: expected seconds"),
        ({"extend": True}, "Unique extend: expected a window"),
        ({"keep_last": True, "window": 5}, "Unique keep_last: expected no window"),
        ({"replace": 1}, "Unique replace: expected True or False"),
    ],
)
def test_bad_options_fail_when_they_are_written(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Unique(**options)


def test_an_unknown_argument_fails_when_the_task_is_written() -> None:
    with pytest.raises(ConfigError, match=r"names 'usr', expected a parameter \(user, depth, since, tags\)"):
        rule(Unique("report:{usr}"))
    with pytest.raises(ConfigError, match="unique: expected Unique"):
        JobOptions(unique="1h")  # type: ignore[arg-type]


def test_the_key_is_filled_with_arguments_and_defaults() -> None:
    text = Unique("r:{user}:{depth}:{since}:{tags}:{{}}")
    assert key(text, user="ann") == "r:ann:2:2026-01-02:null:{}"
    assert key(text, user="ann", depth=3, tags=["b", "a"]) == 'r:ann:3:2026-01-02:["b","a"]:{}'


def test_without_a_key_all_arguments_count() -> None:
    one = key(Unique(), user="ann")
    assert one.startswith("report:")
    assert len(one) == len("report:") + 32
    same = KeyRule(Unique(), "report", Signature(report, "report")).key_of('{"depth":2,"user":"ann"}').id
    assert same == one
    assert key(Unique(), user="ann", since=date(2026, 1, 2)) == one
    assert len({one, key(Unique(), user="bob"), key(Unique(), user="ann", depth=3)}) == 3


def test_a_long_key_is_cut_and_told_apart() -> None:
    one, other = (key(Unique("{user}"), user="x" * 5000 + end) for end in "ab")
    assert one != other
    assert len(one) == len(other) == 233


def test_defaults_that_json_cannot_carry_are_left_out() -> None:
    def odd(n: int = 1, mark: Any = object()) -> None: ...  # noqa: B008

    assert Signature(odd, "odd").with_defaults("{}") == {"n": 1}


def test_a_key_is_stored_as_bullmq_knows_it() -> None:
    every = Unique(window=timedelta(minutes=1), extend=True, replace=True).with_id("k")
    assert json.loads(with_key('{"attempts":3}', every)) == {
        "attempts": 3,
        "de": {"id": "k", "ttl": 60_000, "extend": True, "replace": True},
    }
    assert json.loads(UniqueKey("k", keep_last=True).stored()) == {"id": "k", "keepLastIfActive": True}
    held = [UniqueKey("k", 5), UniqueKey("k"), UniqueKey("k", 5, keep_last=True)]
    assert [key.held_ms for key in held] == [5, None, None]


@pytest.mark.parametrize(
    ("added", "text"),
    [
        (Added(("a", "b"), (True, False)), "10"),
        (Added(("a", "x", "c"), (True, False, True)), '1d1["x"]'),
        (Added(("x", "b", 'y"[,'), (False, False, False)), 'd0d["x","y\\"[,"]'),
        (Added((), ()), ""),
    ],
)
def test_an_answer_is_remembered_and_recalled(added: Added, text: str) -> None:
    given = ["a", "b", "c"][: len(added.ids)]
    assert added.remembered(given) == text
    assert Added.recalled(given, text) == added
