"""Opening a Redis: what is refused, what is warned of, and connections of many event loops."""

import asyncio
import gc
import logging
import threading
from pathlib import Path

import pytest

from tests.redis.conftest import StartServer, start_server
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine, engine_of
from toril.engine.redis.link import ClientOptions
from toril.engine.redis.server import Server, check
from toril.errors import ConfigError, EngineClosed, EngineUnavailable
from toril.jobs.model import NewJob

__all__ = ["start_server"]

NOW = 1_700_000_000_000
SOUND = Server("7.2.4", "redis", "standalone", "noeviction", "aof", False, 1, 0, "master")


async def opened(url: str) -> None:
    engine = engine_of(url)
    await engine.start()
    await engine.close()


def test_a_sound_server_is_not_warned_of() -> None:
    assert list(check(SOUND, "redis://h", allow_eviction=False)) == []


@pytest.mark.parametrize("version", ["6.0.16", "5.0.7", "2.8"])
def test_an_old_server_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected Redis 6\.2 or newer, or Valkey, found {version}"):
        list(check(SOUND._replace(version=version), "redis://h", allow_eviction=False))


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (SOUND._replace(version=None, policy=None, persistence=None, open=None), "hides its eviction policy"),
        (SOUND._replace(persistence="none"), "appendonly yes"),
        (SOUND._replace(open=True), "requirepass"),
    ],
)
def test_each_warning_says_what_to_do(server: Server, said: str) -> None:
    [warning] = check(server, "redis://h", allow_eviction=False)
    assert said in warning


def test_a_replica_is_refused() -> None:
    with pytest.raises(ConfigError, match="found a replica"):
        list(check(SOUND._replace(role="slave"), "redis://h", allow_eviction=False))


async def test_a_server_that_throws_keys_away_is_refused(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    # S0-24
    server = start_server("--maxmemory-policy", "allkeys-lru", "--appendonly", "yes")
    with pytest.raises(ConfigError, match=r"found allkeys-lru.*CONFIG SET maxmemory-policy noeviction"):
        await opened(server.url)
    with caplog.at_level(logging.WARNING, "toril.redis"):
        await opened(f"{server.url}?eviction=allow")
    assert "evicts keys (allkeys-lru)" in caplog.text


async def test_a_server_without_a_disk_is_warned_of(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server("--save", "", "--appendonly", "no")
    with caplog.at_level(logging.WARNING, "toril.redis"):
        await opened(server.url)
    assert "a restart loses all jobs" in caplog.text


async def test_a_server_that_hides_its_settings_is_used(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server("--rename-command", "CONFIG", "", "--rename-command", "ACL", "")
    with caplog.at_level(logging.WARNING, "toril.redis"):
        await opened(server.url)
    assert "listens beyond" not in caplog.text


async def test_a_user_without_rights_is_told_which(start_server: StartServer) -> None:
    # S0-28
    server = start_server("--user", "ann", "on", ">hunter2", "~*", "+ping", "+info", "+hello", "+client")
    url = f"redis://ann:hunter2@127.0.0.1:{server.port}"
    engine = engine_of(url)
    await engine.start()
    try:
        with pytest.raises(ConfigError, match="does not allow this") as caught:
            await engine.inspect.counts("line")
        assert "hunter2" not in str(caught.value)
        assert "hunter2" not in str(await engine.health())
        assert "hunter2" not in engine.location
    finally:
        await engine.close()


async def test_nobody_there(tmp_path: Path) -> None:
    engine = RedisEngine(f"unix://{tmp_path}/none.sock", client=ClientOptions(timeout_s=0.2))
    with pytest.raises(EngineUnavailable, match=r"none\.sock"):
        await engine.start()
    assert not (await engine.health()).ok


@pytest.mark.parametrize("option", ["wire=bullmq4", "eviction=maybe", "prefix="])
def test_a_wrong_option_is_explained(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option.partition('=')[0]}: expected"):
        engine_of(f"redis://:hunter2@h?{option}")


async def test_health_tells_what_the_server_is(start_server: StartServer) -> None:
    # S0-24
    server = start_server()
    engine = RedisEngine(server.url, prefix="{bull}")
    await engine.start()
    try:
        health = await engine.health()
        assert health.ok
        assert {"version", "policy", "persistence", "used_memory", "prefix", "location"} <= health.detail.keys()
        assert health.detail["prefix"] == "{bull}"
    finally:
        await engine.close()


async def test_loops_that_end_leave_no_connection(start_server: StartServer) -> None:
    server = start_server()
    engine = RedisEngine(server.url)
    await engine.start()

    async def use() -> None:
        await engine.jobs.add("line", [NewJob("a", "w", "{}", "{}", NOW)], batch="one", now=NOW)
        await engine.jobs.wait_for_work(["line"], timeout=0.01)
        await engine.bus.wait("line", after="0", timeout=0.01)

    def body() -> None:
        asyncio.run(use())

    try:
        await use()
        for _ in range(5):
            thread = threading.Thread(target=body)
            thread.start()
            await asyncio.to_thread(thread.join)
        # A connection that was dropped without being closed would warn here, and a warning is an error.
        gc.collect()
        asking = RedisClient(parse_address(server.url))
        connections = (await asking.call("CLIENT", "LIST")).splitlines()
        await asking.close()
        # One for calls, one for work, one for events, and the one that asks.
        assert len(connections) == 4
    finally:
        await engine.close()


async def test_close_reaches_loops_of_other_threads(start_server: StartServer) -> None:
    server = start_server()
    engine = RedisEngine(server.url)
    await engine.start()
    ready, answer = threading.Event(), []

    async def wait() -> None:
        inspect = engine.inspect
        await inspect.counts("line")
        ready.set()
        try:
            while True:
                await engine.jobs.wait_for_work(["line"], timeout=5)
        except EngineClosed:
            answer.append("closed")
        with pytest.raises(EngineClosed):
            await inspect.counts("line")

    thread = threading.Thread(target=lambda: asyncio.run(wait()))
    thread.start()
    await asyncio.to_thread(ready.wait, 5)
    await engine.close()
    await asyncio.to_thread(thread.join, 5)
    assert answer == ["closed"]
