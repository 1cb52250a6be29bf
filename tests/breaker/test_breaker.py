"""One breaker: what is a failure, and the ways to use it."""

import asyncio
import threading

import pytest

from tests.breaker.site import Broken, Site, badly, fail, well
from toril.breaker.breaker import Breaker
from toril.breaker.breakers import Breakers
from toril.errors import BreakerOpen, CallTimeout, ConfigError

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def breaker(site: Site) -> Breaker:
    [made] = site.breakers(1)
    await made.call(well)
    return made


async def forever() -> int:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


async def test_below_the_volume_nothing_opens(breaker: Breaker) -> None:
    await fail(breaker, 2)
    assert breaker.state == "closed"
    await fail(breaker)
    assert breaker.opened


async def test_errors_to_ignore_are_no_failures(site: Site) -> None:
    [breaker] = site.breakers(1, ignore=(Broken,))
    await fail(breaker, 20)
    assert (breaker.state, breaker.stats.calls, breaker.stats.failures) == ("closed", 20, 0)


# S4-25
async def test_a_call_that_takes_too_long_is_stopped_and_has_failed(site: Site) -> None:
    [breaker] = site.breakers(1, timeout=0.02)
    for _ in range(4):
        with pytest.raises(CallTimeout, match=r"0\.02 s"):
            await breaker.call(forever)
    assert breaker.opened
    assert breaker.stats.timeouts == 4


async def test_a_caller_who_gives_up_is_no_timeout(site: Site) -> None:
    """Cancelled calls count neither way, and stay cancelled."""
    [breaker] = site.breakers(1, timeout="1h", volume=1)
    for ended_by in ("cancel", "timeout"):
        task = asyncio.create_task(breaker.call(forever))
        if ended_by == "cancel":
            await asyncio.wait([task], timeout=0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 0.01)
    assert (breaker.state, breaker.stats.calls) == ("closed", 0)


async def test_many_calls_under_one_limit(site: Site) -> None:
    """Those that are late are stopped, and no others."""
    [breaker] = site.breakers(1, timeout=0.05, volume=10_000)
    results = await asyncio.gather(
        *(breaker.call(forever if n % 3 == 0 else well) for n in range(3_000)), return_exceptions=True
    )
    assert sum(isinstance(one, CallTimeout) for one in results) == 1_000
    assert results.count(1) == 2_000
    assert asyncio.current_task() is not None


async def test_slow_calls_open_it_too(site: Site) -> None:
    [breaker] = site.breakers(1, slow_after=0.001, slow_threshold=0.5)

    async def slow() -> int:
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.01)
        return 2

    for _ in range(4):
        assert await breaker.call(slow) == 2
    assert breaker.opened
    assert breaker.stats.slow == 4


# S4-14
async def test_fallbacks_stand_for_calls_that_fail_or_are_refused(breaker: Breaker) -> None:
    """A value, or a function that gets the same arguments."""

    async def cached(value: int = 0) -> int:
        return -value

    assert await breaker.call(badly, fallback=None) is None
    for _ in range(2):
        assert await breaker.call(badly, fallback=5) == 5
    assert breaker.opened
    assert await breaker.call(well, 3, fallback=cached) == -3
    assert await breaker.call(well, 3, fallback=lambda value: value + 1) == 4
    assert breaker.stats.fallbacks == 5
    assert breaker.stats.rejected == 2


async def test_as_a_context_manager(breaker: Breaker) -> None:
    """Also several at once, and one in another."""

    async def use() -> None:
        async with breaker, breaker:
            await asyncio.sleep(0)

    await asyncio.gather(*(use() for _ in range(10)))
    assert breaker.stats.calls == 21
    for _ in range(30):
        if breaker.opened:
            break
        with pytest.raises(Broken):
            async with breaker:
                await badly()
    with pytest.raises(BreakerOpen):
        async with breaker:
            raise AssertionError("let in")


async def test_as_a_decorator(breaker: Breaker) -> None:
    @breaker
    async def ask(question: str) -> str:
        """Ask."""
        return question.upper()

    @breaker
    def plain(number: int) -> int:
        return number + 1

    assert await ask("why") == "WHY"
    assert (ask.__name__, ask.__doc__) == ("ask", "Ask.")
    assert await asyncio.to_thread(plain, 1) == 2
    assert breaker.stats.calls == 3


async def test_in_synchronous_code(site: Site) -> None:
    """Threads share it with the event loop; a call that was late counts, though it cannot be stopped."""
    one, two = site.breakers(2)

    def breaks() -> int:
        raise Broken("no")

    def work() -> None:
        assert one.call_sync(lambda: 4) == 4
        with one:
            pass
        for _ in range(4):
            assert one.call_sync(breaks, fallback=0) == 0
        with pytest.raises(BreakerOpen):
            one.call_sync(breaks)
        with pytest.raises(BreakerOpen), one:
            raise AssertionError("let in")

    await asyncio.to_thread(work)
    await two.call(well, fallback=None)
    await site.told()
    assert two.opened
    site.clock.advance_ms(5_001)
    assert await asyncio.to_thread(one.call_sync, lambda: 9) == 9
    assert one.state == "closed"


async def test_a_late_call_of_synchronous_code_counts(site: Site) -> None:
    [breaker] = site.breakers(1, timeout=0.001, volume=1)
    await asyncio.to_thread(breaker.call_sync, lambda: threading.Event().wait(0.02))
    assert breaker.opened
    assert breaker.stats.timeouts == 1


# S4-10, S4-14
async def test_stats_by_name_and_group(site: Site) -> None:
    breakers = site.process()
    openai = breakers.breaker("AI-openai", group="aiProviders", volume=1)
    breakers.breaker("AI-gemini", group="aiProviders")
    breakers.breaker("database")
    await fail(openai)
    grouped = await breakers.grouped()
    assert {group: {name: one.state for name, one in inside.items()} for group, inside in grouped.items()} == {
        "aiProviders": {"AI-openai": "open", "AI-gemini": "closed"},
        "": {"database": "closed"},
    }
    stats = grouped["aiProviders"]["AI-openai"]
    assert (stats.calls, stats.failures, stats.error_rate) == (1, 1, 1.0)
    # S4-22
    assert stats.last_error == "Broken: no luck, password=***"
    assert (stats.opened_at, stats.retry_at) == (site.clock.now_ms(), site.clock.now_ms() + 30_000)
    assert list(await breakers.stored()) == ["AI-openai"]


async def test_a_name_is_declared_once(site: Site) -> None:
    """By its name it can be had before."""
    breakers: Breakers = site.process()
    early = breakers.named("api")
    assert breakers.breaker("api", volume=3) is early
    assert early.rules.volume == 3
    assert breakers.breaker("api", volume=3) is early
    with pytest.raises(ConfigError, match="declared twice"):
        breakers.breaker("api", volume=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": "soon"},
        {"error_threshold": 0},
        {"error_threshold": 50},
        {"volume": 0},
        {"volume": 2.5},
        {"probes": True},
        {"window": -1},
        {"slow_threshold": "all"},
        {"group": "\n"},
    ],
    ids=str,
)
async def test_bad_rules_are_refused(site: Site, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"api|group"):
        site.process().breaker("api", **wrong)  # type: ignore[arg-type]
