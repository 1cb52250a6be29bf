"""Limits as an application uses them, in memory and on a file, alone and over several processes."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.features.absent import Absent
from toril import ConfigError, EngineUnavailable, LimitExceeded, Settings, Toril
from toril.kernel.blocking import BlockingLoop
from toril.ratelimit.limits import Limits, OnOutage
from toril.settings import LimitSettings
from toril.testing.clock import ManualClock

# On a busy machine real processes, servers and many tasks take their time.
pytestmark = pytest.mark.timeout(60)

TAKER = """
import asyncio, sys
from toril import Toril

async def main():
    async with Toril(sys.argv[1]) as toril:
        limit = toril.limit("api", "1000/15m")
        sys.stdin.readline()
        said = [await asyncio.gather(*(limit.hit("ip") for _ in range(50))) for _ in range(10)]
        print(sum(decision.allowed for some in said for decision in some))

asyncio.run(main())
"""


async def test_so_many_in_a_time(toril: Toril) -> None:
    # S3-32
    limit = toril.limit("api", "3/15m")
    said = [await limit.hit("10.0.0.1") for _ in range(5)]
    assert [decision.allowed for decision in said] == [True, True, True, False, False]
    assert [decision.remaining for decision in said] == [2, 1, 0, 0, 0]
    assert (await limit.hit("10.0.0.2")).allowed
    refused = said[-1]
    assert (refused.limit, refused.window, refused.shadow, refused.counted) == (3, 900, False, "store")
    assert refused.retry_after is not None
    assert 0 < refused.retry_after <= 960
    assert limit.stats.allowed == 4
    assert limit.stats.refused == 2


async def test_what_is_told_over_http(toril: Toril) -> None:
    # S3-32
    limit = toril.limit("api", "2/15m")
    first, _, third = [await limit.hit("x") for _ in range(3)]
    assert first.headers().keys() == {f"RateLimit-{name}" for name in ("Limit", "Remaining", "Reset", "Policy")}
    headers = third.headers()
    assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("2", "0")
    assert headers["RateLimit-Policy"] == "2;w=900"
    assert 890 < int(headers["Retry-After"]) <= 960
    assert 890 < int(headers["RateLimit-Reset"]) <= 960
    with pytest.raises(LimitExceeded, match="used up for 'x'") as caught:
        third.require()
    assert caught.value.retry_after == third.retry_after
    assert (caught.value.code, caught.value.retryable) == ("limit_exceeded", True)


async def test_asking_and_forgetting(toril: Toril) -> None:
    limit = toril.limit("api", "2/h", algorithm="gcra", burst=2)
    await limit.hit("x", cost=2)
    assert not (await limit.peek("x")).allowed
    assert not await limit.peek("x")
    assert await limit.reset("x") == 1
    assert (await limit.peek("x")).remaining == 1
    assert (await limit.hit("x", cost=0)).remaining == 2
    never = await limit.hit("x", cost=3)
    assert never.retry_after is None
    assert not never.allowed


async def test_several_at_once_are_all_or_none(toril: Toril) -> None:
    user, address = toril.limit("user", "10/h"), toril.limit("address", "2/h")
    for left in (9, 8):
        assert [one.remaining for one in await toril.limits.hit(user.on("ada"), address.on("1"))] == [left, left - 8]
    decisions = await toril.limits.hit(user.on("ada"), address.on("1"))
    assert [one.allowed for one in decisions] == [True, False]
    assert (await user.peek("ada", cost=0)).remaining == 8
    with pytest.raises(ConfigError, match="once"):
        await toril.limits.hit(user.on("ada"), user.on("ada"))


async def test_a_shadow_counts_and_refuses_nothing(toril: Toril, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "toril.limits")
    shadow, real = toril.limit("new", "1/h", shadow=True), toril.limit("old", "5/h")
    said = [await toril.limits.hit(shadow.on("x"), real.on("x")) for _ in range(3)]
    assert [one.allowed for both in said for one in both] == [True] * 6
    assert [both[0].shadow for both in said] == [False, True, True]
    assert shadow.stats.shadowed == 2
    assert (await real.peek("x", cost=0)).remaining == 2
    assert caplog.messages == ["Limit 'new' would have refused 'x'."] * 2


async def test_another_rate_under_the_same_name(toril: Toril) -> None:
    limit = toril.limit("plan", "1/h")
    assert limit.at("5/h") is limit.at("5/h")
    assert [(await limit.at("5/h").hit("ada")).remaining for _ in range(3)] == [4, 3, 2]
    assert not (await limit.hit("ada")).allowed


async def test_keys_of_any_length_are_told_apart(toril: Toril) -> None:
    limit = toril.limit("api", "1/h")
    for key in ("", "x" * 10_000, "x" * 10_001, "a\x00b", "ü" * 5_000):
        assert (await limit.hit(key)).allowed
        assert not (await limit.hit(key)).allowed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "", "rate": "1/s"}, "name of 1 to 100"),
        ({"name": "a:b", "rate": "1/s"}, "without colons"),
        ({"name": "a", "rate": "fast"}, "rate: expected"),
        ({"name": "a", "rate": "1/s", "algorithm": "bucket"}, "'window' or 'gcra'"),
        ({"name": "a", "rate": "1/s", "burst": 1}, "with algorithm='gcra' only"),
        ({"name": "a", "rate": "1/s", "algorithm": "gcra", "burst": 2}, "expected 1 to 1"),
        ({"name": "a", "rate": "1/s", "on_outage": "ignore"}, "'local', 'open' or 'closed'"),
    ],
)
def test_wrong_options_are_refused_where_they_are_written(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Toril("sqlite://").limit(**options)  # type: ignore[arg-type]


async def test_a_name_is_declared_once(toril: Toril) -> None:
    assert toril.limit("api", "1/s") is toril.limit("api", "1/s")
    with pytest.raises(ConfigError, match="declared twice, as 1/s and 2/s"):
        toril.limit("api", "2/s")
    with pytest.raises(ConfigError, match="cost: expected"):
        await toril.limit("api", "1/s").hit(cost=-1)


def test_plain_functions_use_the_same_limits() -> None:
    toril = Toril("sqlite://")
    limit = toril.limit("api", "1/h")
    assert limit.hit_sync("x").allowed
    assert not limit.hit_sync("x").allowed
    with pytest.raises(LimitExceeded):
        limit.wait_sync("x", timeout=0)
    toril.close_sync()


async def test_four_processes_are_let_through_a_thousand_times(tmp_path: Path) -> None:
    # S3-33, A20
    command = [sys.executable, "-c", TAKER, f"sqlite:///{tmp_path}/limits.db"]
    takers = [
        await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)
    ]
    answers = await asyncio.gather(*(taker.communicate(b"\n") for taker in takers))
    assert sum(int(out) for out, _ in answers) == 1000


def limits_on(
    absent: Absent,
    clock: ManualClock,
    on_outage: OnOutage = "local",
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> Limits:
    if sleep is None:
        return Limits(absent.open, clock=clock, blocking=BlockingLoop(), on_outage=on_outage)
    return Limits(absent.open, clock=clock, blocking=BlockingLoop(), on_outage=on_outage, sleep=sleep)


@pytest.mark.parametrize(
    ("policy", "allowed", "counted"),
    [("open", [True] * 3, "nobody"), ("closed", [False] * 3, "nobody"), ("local", [True, True, False], "local")],
)
async def test_what_holds_while_the_store_is_away(
    absent: Absent, policy: OnOutage, allowed: list[bool], counted: str
) -> None:
    # A20
    limits = limits_on(absent, ManualClock())
    limit = limits.limit("api", "2/h", on_outage=policy)
    await limit.hit("x", cost=2)
    absent.away = True
    said = [await limit.hit("x") for _ in range(3)]
    assert [one.allowed for one in said] == allowed
    assert {one.counted for one in said} == {counted}
    assert all(one.retry_after for one in said if not one.allowed)
    assert limit.stats.unreached == 3
    await limits.close()


async def test_an_absence_is_remembered_until_the_store_is_back(
    absent: Absent, caplog: pytest.LogCaptureFixture
) -> None:
    limits = limits_on(absent, ManualClock())
    limit = limits.limit("api", "2/h")
    await limit.hit("x", cost=2)
    absent.away = True
    await limit.hit("x")
    asked = absent.asked
    for _ in range(1_000):
        await limit.hit("x")
    assert absent.asked - asked <= 1  # who looks after it may have come by
    with pytest.raises(EngineUnavailable):
        await limit.reset("x")
    absent.away = False
    async with asyncio.timeout(30):
        while (await limit.hit("x")).counted != "store":
            await asyncio.sleep(0)
    assert not (await limit.hit("x")).allowed
    assert [record.levelname for record in caplog.records if "store is" in record.message] == ["WARNING"] * 2
    await limits.close()


async def test_waiting_for_room(absent: Absent) -> None:
    clock = ManualClock()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    limits = limits_on(absent, clock, sleep=sleep)
    limit = limits.limit("openai", "10/m", algorithm="gcra", burst=1)
    for _ in range(5):
        async with limit.slot("key") as decision:
            assert decision.allowed
    assert len(slept) == 4
    assert all(6 <= wait <= 6.4 for wait in slept)
    with pytest.raises(LimitExceeded, match="wait 6 s"):
        await limit.wait("key", timeout="1s")
    with pytest.raises(LimitExceeded, match="above the limit"):
        await limit.wait("key", cost=2)
    assert len(slept) == 4


def test_the_environment_says_what_holds_during_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORIL_LIMITS_ON_OUTAGE", "closed")
    monkeypatch.setenv("TORIL_LIMITS_TIMEOUT", "200ms")
    assert (Settings().limits.on_outage, Settings().limits.timeout) == ("closed", 0.2)
    assert LimitSettings(on_outage="open").on_outage == "open"
