"""Values with an expiry."""

from __future__ import annotations

import asyncio

import pytest

from toril.testing.conformance.stage import MINUTE, Cases, Stage

SPECIAL = ("a%b", "a_b", "a*b", "a[b]", "a?b", "a\\b", "aéb", "a😀b", "a'b", 'a"b', "a b", "a:b", "a\nb", "A%b")


async def put(stage: Stage, key: str, value: bytes = b"v", ttl_ms: int = MINUTE) -> None:
    """Store one value."""
    await stage.keyvalue.set([(key, value)], ttl_ms=ttl_ms, now=stage.now)


async def fetch(stage: Stage, key: str) -> bytes | None:
    """Read one value."""
    [value] = await stage.keyvalue.get([key], now=stage.now)
    return value


class KeyValueCases(Cases):
    """`KeyValueStore`."""

    @pytest.mark.parametrize("value", [b"", b"plain", bytes(range(256)), b"\0", "ü😀".encode(), b"x" * 1_000_000])
    async def test_values_are_bytes(self, stage: Stage, value: bytes) -> None:
        """Whatever the bytes are, they come back."""
        await put(stage, "k", value)
        assert await fetch(stage, "k") == value

    async def test_a_value_expires(self, stage: Stage) -> None:
        """It is there until its time, and gone after it."""
        await put(stage, "k", ttl_ms=MINUTE)
        await stage.elapse(MINUTE - 1_000)
        assert await fetch(stage, "k") == b"v"
        await stage.elapse(2_000)
        assert await fetch(stage, "k") is None
        assert (await stage.keyvalue.scan("", now=stage.now)).keys == ()

    async def test_the_last_value_counts(self, stage: Stage) -> None:
        """Setting again replaces value and expiry, be it longer or shorter."""
        await put(stage, "long", b"1", ttl_ms=MINUTE)
        await put(stage, "short", b"1", ttl_ms=9 * MINUTE)
        await put(stage, "long", b"2", ttl_ms=9 * MINUTE)
        await put(stage, "short", b"2", ttl_ms=MINUTE)
        assert await stage.keyvalue.get(["long", "short"], now=stage.now) == (b"2", b"2")
        await stage.elapse(2 * MINUTE)
        assert await stage.keyvalue.get(["long", "short"], now=stage.now) == (b"2", None)

    async def test_many_at_once(self, stage: Stage) -> None:
        """Values come in the order of the keys that were asked for, missing and repeated ones included."""
        many = [(f"k{number}", str(number).encode()) for number in range(500)]
        await stage.keyvalue.set(many, ttl_ms=MINUTE, now=stage.now)
        assert await stage.keyvalue.get(["k7", "none", "k499", "k7"], now=stage.now) == (b"7", None, b"499", b"7")
        assert await stage.keyvalue.get([key for key, _ in many], now=stage.now) == tuple(value for _, value in many)
        assert await stage.keyvalue.get([], now=stage.now) == ()
        await stage.keyvalue.set([], ttl_ms=MINUTE, now=stage.now)

    async def test_a_key_twice_in_one_call(self, stage: Stage) -> None:
        """The later value of a key wins."""
        await stage.keyvalue.set([("k", b"1"), ("j", b"x"), ("k", b"2")], ttl_ms=MINUTE, now=stage.now)
        assert await stage.keyvalue.get(["k", "j"], now=stage.now) == (b"2", b"x")

    async def test_keys_are_exact(self, stage: Stage) -> None:
        """Special characters mean nothing, and case matters."""
        for number, key in enumerate(SPECIAL):
            await put(stage, key, bytes([number]))
        assert await stage.keyvalue.get(SPECIAL, now=stage.now) == tuple(bytes([n]) for n in range(len(SPECIAL)))
        assert await fetch(stage, "axb") is None

    async def test_keys_of_every_length(self, stage: Stage) -> None:
        """From one character to 512, of any script."""
        for key in ("k", "k" * 512, "ü" * 512):
            await put(stage, key, key.encode())
            assert await fetch(stage, key) == key.encode()

    async def test_deleting(self, stage: Stage) -> None:
        """Answers how many of the keys there were."""
        await put(stage, "a")
        await put(stage, "b")
        assert await stage.keyvalue.delete(["a", "none", "b"]) == 2
        assert await stage.keyvalue.delete(["a"]) == 0
        assert await stage.keyvalue.delete([]) == 0
        assert await stage.keyvalue.get(["a", "b"], now=stage.now) == (None, None)

    @pytest.mark.parametrize(
        ("present", "expected", "stored"),
        [(None, None, True), (None, b"1", False), (b"1", b"1", True), (b"1", None, False), (b"1", b"2", False)],
    )
    async def test_compare_and_set(
        self, stage: Stage, present: bytes | None, expected: bytes | None, stored: bool
    ) -> None:
        """Stores only when the present value is the expected one; None expects that there is none."""
        if present is not None:
            await put(stage, "k", present)
        done = await stage.keyvalue.replace("k", b"new", expected=expected, ttl_ms=MINUTE, now=stage.now)
        assert done is stored
        assert await fetch(stage, "k") == (b"new" if stored else present)

    async def test_compare_and_delete(self, stage: Stage) -> None:
        """A value of None deletes, if the present value is the expected one."""
        await put(stage, "k", b"1")
        assert not await stage.keyvalue.replace("k", None, expected=b"2", ttl_ms=MINUTE, now=stage.now)
        assert await fetch(stage, "k") == b"1"
        assert await stage.keyvalue.replace("k", None, expected=b"1", ttl_ms=MINUTE, now=stage.now)
        assert await fetch(stage, "k") is None
        assert (await stage.keyvalue.scan("", now=stage.now)).keys == ()

    async def test_an_expired_value_is_none(self, stage: Stage) -> None:
        """Comparing takes a value that has expired for none, and a new one has its own expiry."""
        await put(stage, "k", b"1")
        await stage.elapse(MINUTE + 1_000)
        assert not await stage.keyvalue.replace("k", b"2", expected=b"1", ttl_ms=MINUTE, now=stage.now)
        assert await stage.keyvalue.replace("k", b"2", expected=None, ttl_ms=MINUTE, now=stage.now)
        await stage.elapse(MINUTE - 1_000)
        assert await fetch(stage, "k") == b"2"
        await stage.elapse(2_000)
        assert await fetch(stage, "k") is None

    async def test_one_of_many_wins(self, stage: Stage) -> None:
        """Of twenty that compare and set at the same time exactly one succeeds."""
        calls = (
            stage.keyvalue.replace("k", str(number).encode(), expected=None, ttl_ms=MINUTE, now=stage.now)
            for number in range(20)
        )
        won = await asyncio.gather(*calls)
        assert won.count(True) == 1
        assert await fetch(stage, "k") == str(won.index(True)).encode()

    async def test_scanning_by_prefix(self, stage: Stage) -> None:
        """All keys that begin so, and no others; expired ones are gone."""
        for key in ("user:1", "user:2", "user:22", "users", "User:3", "x"):
            await put(stage, key)
        await put(stage, "user:old", ttl_ms=5)
        await stage.elapse(1_000)
        assert set((await stage.keyvalue.scan("user:", now=stage.now)).keys) == {"user:1", "user:2", "user:22"}
        assert set((await stage.keyvalue.scan("user:2", now=stage.now)).keys) == {"user:2", "user:22"}
        assert len((await stage.keyvalue.scan("", now=stage.now)).keys) == 6
        assert (await stage.keyvalue.scan("y", now=stage.now)).keys == ()

    @pytest.mark.parametrize("prefix", ["%", "_", "*", "[a-z]", "?", "\\", "é", "😀", "'", '"', "\x7f", "\U0010ffff"])
    async def test_prefixes_are_no_patterns(self, stage: Stage, prefix: str) -> None:
        """A special character in a prefix is that character."""
        await put(stage, f"{prefix}1")
        await put(stage, f"{prefix}2")
        await put(stage, "a1")
        await put(stage, "z%_*é")
        page = await stage.keyvalue.scan(prefix, now=stage.now)
        assert sorted(page.keys) == [f"{prefix}1", f"{prefix}2"]

    async def test_scanning_page_by_page(self, stage: Stage) -> None:
        """Keys that live throughout are all found, while others come and go between the pages."""
        await stage.keyvalue.set([(f"k{number}", b"v") for number in range(100)], ttl_ms=MINUTE, now=stage.now)
        seen: set[str] = set()
        cursor: str | None = None
        for turn in range(200):
            page = await stage.keyvalue.scan("k", now=stage.now, limit=9, cursor=cursor)
            seen |= set(page.keys)
            cursor = page.cursor
            if cursor is None:
                break
            await stage.keyvalue.delete([f"k{turn * 7}"])
            await put(stage, f"k-new{turn}")
        assert cursor is None
        assert seen >= {f"k{number}" for number in range(100) if number % 7}

    async def test_values_are_apart_from_jobs(self, stage: Stage) -> None:
        """A key that is called like a queue or a job touches neither."""
        await stage.add("a")
        await put(stage, "line")
        await put(stage, "a")
        await stage.keyvalue.delete(["line", "a"])
        assert await stage.line() == ["a"]
