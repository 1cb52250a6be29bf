"""Where keys lie in a cluster, and where a cluster is."""

from __future__ import annotations

from typing import Any

import pytest

from toril.engine.open import parse_url
from toril.engine.redis.cluster import parse_cluster
from toril.engine.redis.engine import RedisEngine, engine_of
from toril.engine.redis.keys import Keys
from toril.engine.redis.scripts import keys_of
from toril.engine.redis.slots import key_of, key_slot, ranges_of, slot_of, slot_of_encoded
from toril.engine.redis.wire import encode
from toril.errors import ConfigError
from toril.settings import RedisSettings


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 0x31C3),
        ("a", 15495),
        ("{a}b", 15495),
        ("x{a}y{b}", 15495),
        ("{}a", key_slot(b"{}a")),
        ("{{a}}", key_slot("{a")),
        ("", 0),
    ],
)
def test_the_first_tag_decides_the_slot(key: str, slot: int) -> None:
    assert key_slot(key) == slot
    assert key_slot(key.encode()) == slot


def test_empty_tags_count_for_nothing() -> None:
    assert len({key_slot(key) for key in ("{}a", "{}b", "{}c", "{}d")}) == 4


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "k"), b"k"),
        ((b"get", b"k"), b"k"),
        (("EVALSHA", "digest", 1, "k", "x"), b"k"),
        (("EVAL", "return 1", 0, "x"), None),
        (("XINFO", "STREAM", "k"), b"k"),
        (("XREAD", "COUNT", 1, "BLOCK", 5, "streams", "k", "l", 0, 0), b"k"),
        (("BZPOPMIN", "k", "l", 1), b"k"),
        (("PING",), None),
        (("SCAN", 0, "MATCH", "x"), None),
        (("PUBLISH", "channel", "x"), None),
        (("INCR", 17), b"17"),
    ],
)
def test_commands_go_by_their_first_key(command: tuple[Any, ...], key: bytes | None) -> None:
    assert key_of(command) == key
    assert slot_of(command) == slot_of_encoded(encode(command)) == (None if key is None else key_slot(key))


def test_a_node_without_a_host_is_where_it_was_asked() -> None:
    reply = [[5, 9, [b"", 1, b"id"]], [0, 4, [b"10.0.0.1", 2, b"id", [b"hostname", b"x"]], [b"10.0.0.2", 3, b"id"]]]
    assert ranges_of(reply, "here") == [(0, 4, ("10.0.0.1", 2)), (5, 9, ("here", 1))]
    assert ranges_of([[0, 1, [None, 7, b"id"]]], "here") == [(0, 1, ("here", 7))]


def test_nodes_are_read_from_the_url() -> None:
    found = parse_cluster("rediss+cluster://ann:pw@one,[::1]:1234,three:5/0?prefix={x}", own_options=("prefix",))
    assert [(seed.host, seed.port) for seed in found.seeds] == [("one", 6379), ("::1", 1234), ("three", 5)]
    assert {(seed.username, seed.password, seed.tls) for seed in found.seeds} == {("ann", "pw", True)}
    assert found.redacted == "rediss+cluster://***@one:6379,[::1]:1234,three:5"
    assert found.options == {"prefix": "{x}"}
    for url, said in (
        ("redis+cluster://", "names no host"),
        ("redis+cluster://:hunter2@a,b:x", "no number as port"),
        ("redis+cluster://:hunter2@a/1", "has only 0"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            parse_url(url)
        assert "hunter2" not in str(caught.value)


async def test_any_node_will_do_in_turn() -> None:
    found = parse_cluster("redis+cluster://a,b")
    assert [(await found.locate()).host for _ in range(3)] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("prefix", "spread", "tag"),
    [("{bull-<queue>}", True, "bull-sums"), ("{bull}", False, "bull"), ("{bull}-<queue>", False, "bull")],
)
def test_all_keys_of_a_queue_lie_in_one_slot(prefix: str, spread: bool, tag: str) -> None:
    keys = Keys(prefix, cluster=True)
    base, own = keys.queue("sums")
    assert {key_slot(key) for key in (base, own, keys.queue("sums").of("meta"))} == {key_slot(tag)}
    assert keys.spread is spread
    assert spread or key_slot(keys.queues()) == key_slot(base)
    assert Keys(prefix).spread is False


@pytest.mark.parametrize("prefix", ["shop", "shop-<queue>", "{}shop", "{}}"])
def test_a_prefix_without_a_tag_is_refused(prefix: str) -> None:
    for make in (lambda: RedisEngine("redis+cluster://a", prefix=prefix), lambda: Keys(prefix, cluster=True)):
        with pytest.raises(ConfigError, match="expected a hash tag"):
            make()


def test_a_queue_that_would_lie_in_several_slots_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not begin with a brace"):
        Keys("{<queue>}", cluster=True).queue("}x")
    assert Keys("{<queue>}").queue("}x").base == "{}x}:}x:"


async def test_each_queue_has_a_slot_unless_a_prefix_is_chosen() -> None:
    shown = [
        (await engine_of(url, settings).health()).detail["prefix"]
        for url, settings in (
            ("redis+cluster://a", None),
            ("redis+cluster://a?prefix={bull}", None),
            ("redis+cluster://a", RedisSettings(prefix="{shop-<queue>}")),
            ("redis://a", None),
        )
    ]
    assert shown == ["{bull-<queue>}", "{bull}", "{shop-<queue>}", "bull"]


def test_scripts_name_a_key_that_never_exists_where_a_slot_can_be_moved() -> None:
    assert keys_of("{bull}:a:meta", cluster=False) == ("{bull}:a:meta",)
    assert keys_of("toril:kv:x", cluster=True) == ("toril:kv:x",)
    key, guard = keys_of("{bull}:a:meta", cluster=True)
    assert (key, key_slot(guard)) == ("{bull}:a:meta", key_slot("bull"))
    assert guard != key
