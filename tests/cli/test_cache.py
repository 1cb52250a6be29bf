"""`toril cache`: statistics, a value, emptying."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from tests.cli.stored import answer, toril
from toril import Toril

# On a busy machine real processes, servers and many tasks take their time.
pytestmark = pytest.mark.timeout(60)


def on(url: str, work: Callable[[Toril], Awaitable[object]]) -> None:
    async def run() -> None:
        async with Toril(url) as app:
            await work(app)

    asyncio.run(run())


async def noted(app: Toril, misses: int) -> None:
    """Return when this process has left its counters in the store, which it does whenever it has heard something."""
    keyvalue, now = app.engine.keyvalue, app.clock.now_ms
    while True:
        await app.cache.set("page", 2)
        values = await keyvalue.get((await keyvalue.scan("cache:app:s:", now=now())).keys, now=now())
        if any(f'"misses":{misses},'.encode() in (value or b"") for value in values):
            return


async def fill(app: Toril) -> None:
    await app.cache.set("user:1", {"name": "Ada"}, tags=["users"])
    await app.cache.set("user:2", "Bob", tags=["users"])
    await app.cache.set("page", 1)


def test_a_value_is_shown(url: str) -> None:
    on(url, fill)
    assert toril("cache", "get", "user:1", "--url", url).stdout == '{"name": "Ada"}\n'
    missing = toril("cache", "get", "user:9", "--url", url)
    assert missing.exit_code == 1
    assert "no value 'user:9'" in missing.stderr


def test_values_are_deleted_by_prefix_and_tag(url: str) -> None:
    on(url, fill)
    assert "Deleted 1 value." in toril("cache", "clear", "--prefix", "pa", "--url", url).stdout
    assert "with the tag users" in toril("cache", "clear", "--tag", "users", "--url", url).stdout
    assert toril("cache", "get", "user:2", "--url", url).exit_code == 1
    on(url, fill)
    refused = toril("cache", "clear", "--url", url)
    assert refused.exit_code == 1
    assert "--yes" in refused.stderr
    assert "Deleted 3 values." in toril("cache", "clear", "--yes", "--url", url).stdout


def test_statistics_are_those_of_live_processes(url: str) -> None:
    # S4-11
    async def work(app: Toril) -> None:
        await fill(app)
        for key in ("user:1", "user:1", "none"):
            await app.cache.get(key)
        await noted(app, misses=1)
        shown = await asyncio.to_thread(answer, "cache", "stats", "--url", url)
        assert (shown["hits"], shown["misses"], shown["processes"], shown["stored"]) == (2, 1, 1, 3)
        assert shown["names"]["direct"]["hit_rate"] == pytest.approx(2 / 3)
        told = (await asyncio.to_thread(toril, "cache", "stats", "--url", url)).stdout
        assert re.search(r"direct .* 66\.7%", told)
        assert "hit rate 66.7%; 3 values in the store" in told

    on(url, work)


def test_a_cache_that_nobody_uses(url: str) -> None:
    assert "no look-ups yet; 0 values in the store" in toril("cache", "stats", "--url", url).stdout


def checks(url: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in answer("doctor", "--url", url)["checks"]}


def test_doctor_tells_a_low_hit_rate(url: str) -> None:
    # A19
    async def work(app: Toril) -> None:
        assert (await asyncio.to_thread(checks, url))["cache"]["level"] == "pass"
        await app.cache.get_many(f"none:{number}" for number in range(200))
        await noted(app, misses=200)
        low = (await asyncio.to_thread(checks, url))["cache"]
        assert (low["level"], low["found"]) == ("warn", "hit rate 0.0% of 200 look-ups")
        assert "toril cache stats" in low["todo"]

    on(url, work)


def test_doctor_knows_what_is_turned_off_and_what_is_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A20
    assert checks(url)["rate limits"]["level"] == "pass"
    monkeypatch.setenv("DISABLE_CACHE", "1")
    monkeypatch.setenv("TORIL_LIMITS_URL", "sqlite://")
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    found = checks(url)
    assert found["cache"]["level"] == "warn"
    assert found["rate limits"]["level"] == "warn"
    assert "WEB_CONCURRENCY is 4" in found["rate limits"]["found"]
