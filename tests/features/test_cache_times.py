"""When a kept result is served, old or new: while another is made, when that fails, early, and when it is None."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from toril import Toril
from toril.testing.clock import ManualClock

# On a busy machine real processes, servers and many tasks take their time.
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def timed(clock: ManualClock) -> AsyncIterator[Toril]:
    """In memory, on a clock moved by hand."""
    async with Toril("sqlite://", clock=clock) as app:
        yield app


async def until(condition: object, *, holds: object) -> None:
    """Let others run until something is as it should be."""
    async with asyncio.timeout(30):
        while condition() != holds:  # type: ignore[operator]
            await asyncio.sleep(0)


async def test_an_old_value_is_served_while_a_new_one_is_made(timed: Toril, clock: ManualClock) -> None:
    # S2-24
    made: list[int] = []

    @timed.cached(ttl="5m", stale="1h")
    async def load(n: int) -> int:
        made.append(n)
        return len(made)

    assert await load(1) == 1
    clock.advance("6m")
    assert await load(1) == 1
    await until(lambda: len(made), holds=2)
    await until(lambda: timed.cache.stats_here().names[load.name].loads, holds=2)
    async with asyncio.timeout(30):
        while await load(1) != 2:
            await asyncio.sleep(0)
    clock.advance("2h")
    assert await load(1) == 3
    assert timed.cache.stats_here().names[load.name].stale >= 1


async def test_an_old_value_stands_in_for_an_error(
    timed: Toril, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    # S2-24
    works = True

    @timed.cached(ttl="5m", stale_if_error="1h")
    async def load(n: int) -> int:
        if not works:
            raise ConnectionError("the database is away")
        return n

    assert await load(1) == 1
    works = False
    clock.advance("30m")
    assert [await load(1) for _ in range(3)] == [1] * 3
    timed.cache.local.clear()
    assert await load(1) == 1
    assert "its old value is served" in caplog.text
    clock.advance("1h")
    with pytest.raises(ConnectionError):
        await load(1)
    assert timed.cache.stats_here().names[load.name].load_errors == 5


async def test_a_value_that_is_asked_for_is_made_anew_early(timed: Toril, clock: ManualClock) -> None:
    made: list[int] = []

    @timed.cached(ttl="10m", early=0.2)
    async def load() -> int:
        made.append(1)
        return len(made)

    assert await load() == 1
    clock.advance("7m")
    assert await load() == 1
    clock.advance("2m")
    assert await load() == 1
    await until(lambda: len(made), holds=2)
    async with asyncio.timeout(30):
        while await load() != 2:
            await asyncio.sleep(0)
    clock.advance("6m")
    assert await load() == 2


async def test_none_has_a_life_of_its_own(timed: Toril, clock: ManualClock) -> None:
    calls: list[str] = []

    @timed.cached(ttl="1h", negative="30s")
    async def find(name: str) -> str | None:
        calls.append(name)
        return None if name == "nobody" else name

    @timed.cached(ttl="1h", negative=0)
    async def never(name: str) -> str | None:
        calls.append(name)
        return None

    assert [await find("nobody"), await find("nobody"), await find("ada")] == [None, None, "ada"]
    clock.advance("31s")
    assert [await find("nobody"), await find("ada")] == [None, "ada"]
    assert calls == ["nobody", "ada", "nobody"]
    assert [await never("x"), await never("x")] == [None, None]
    assert len(calls) == 5
