"""Values in the memory of a process, and what is stored of them."""

import random

import pytest

from toril.cache.entry import decode, encode
from toril.cache.local import LocalTier, Node

SHAPE = object()


def node(key: str, size: int = 100, tags: tuple[str, ...] = ()) -> Node:
    return Node(key, key, shape=SHAPE, fresh_until=1, refresh_at=1, size=size, tags=tags)


def tier(most: int = 100, most_bytes: int = 1_000_000) -> LocalTier:
    return LocalTier(most=most, most_bytes=most_bytes)


def kept(local: LocalTier, *keys: str) -> list[str]:
    return [key for key in keys if local.get(key) is not None]


def test_its_bounds_are_kept() -> None:
    # A19
    local = tier(most=50, most_bytes=20_000)
    draw = random.Random(7)
    sizes: dict[str, int] = {}
    for _ in range(5_000):
        key = f"k{draw.randrange(200)}"
        sizes[key] = draw.randrange(3_000)
        local.put(node(key, sizes[key], (f"t{draw.randrange(5)}",)), epoch=local.epoch)
        local.get(f"k{draw.randrange(200)}")
        assert len(local) <= 50
        assert local.bytes <= 20_000
    left = kept(local, *sizes)
    assert len(left) == len(local)
    assert local.bytes == sum(sizes[key] + 400 for key in left)
    local.drop(tags=[f"t{number}" for number in range(5)])
    assert (len(local), local.bytes) == (0, 0)


def test_what_is_asked_for_stays() -> None:
    local = tier(most=10)
    for number in range(10):
        local.put(node(f"k{number}"), epoch=0)
    for number in range(10, 60):
        assert kept(local, "k0", "k1") == ["k0", "k1"]
        local.put(node(f"k{number}"), epoch=0)
    assert len(local) == 10


def test_dropping_by_key_tag_and_prefix() -> None:
    local = tier()
    every = [node("a", tags=("x", "y")), node("b", tags=("y",)), node("c:1"), node("c:2"), node("d")]
    for each in every:
        local.put(each, epoch=0)
    local.drop(["a", "none"], ["y"], ("c:",))
    assert kept(local, "a", "b", "c:1", "c:2", "d") == ["d"]
    assert [each.dead for each in every] == [True] * 4 + [False]


def test_what_was_read_before_something_was_dropped_is_not_kept() -> None:
    local = tier()
    epoch = local.epoch
    local.drop(["other"])
    local.put(node("a"), epoch=epoch)
    assert kept(local, "a") == []
    local.put(node("a"), epoch=local.epoch)
    assert kept(local, "a") == ["a"]


def test_shorter_ways_end_with_their_node() -> None:
    local, memos = tier(), dict[object, Node]()
    first = node("a")
    local.put(first, epoch=0)
    local.memo(first, memos, "short")
    assert memos == {"short": first}
    local.put(node("a"), epoch=0)
    assert memos == {}
    local.memo(first, memos, "short")
    assert memos == {}


def test_a_key_that_is_dropped_while_its_value_is_made() -> None:
    local = tier()
    with local.making("c:1") as one, local.making("c:1") as same, local.making("d") as other:
        local.drop(prefixes=("c:",))
        assert (one.spoiled, same.spoiled, other.spoiled) == (True, True, False)
        local.drop(["d"])
        assert other.spoiled


def test_a_memory_of_nothing_keeps_nothing() -> None:
    for local in (tier(most=0), tier(most_bytes=0), tier(most_bytes=1_000)):
        local.put(node("a", size=10_000), epoch=0)
        assert len(local) == 0


@pytest.mark.parametrize("payload", [b"", b"null", b'"x"' * 5_000, bytes(range(256)) * 40])
@pytest.mark.parametrize("tags", [(), ("user:1",), ("ü", "b:c", "d" * 300)])
def test_an_entry_comes_back(payload: bytes, tags: tuple[str, ...]) -> None:
    generations = [bytes([number]) * 8 for number in range(len(tags))]
    data = encode(payload, fresh_until=10**13, cost_ms=7, tags=tags, generations=generations, compress_above=1_000)
    assert decode(data) == (payload, 10**13, 7, tags, b"".join(generations))


def test_what_is_damaged_is_nothing() -> None:
    whole = encode(b"x" * 5_000, fresh_until=1, cost_ms=1, tags=["a"], generations=[b"1" * 8], compress_above=100)
    assert decode(b"") is None
    assert decode(b"\x20" + whole[1:]) is None
    assert [decode(whole[:length]) for length in range(len(whole))] == [None] * len(whole)
