"""`toril doctor` and its neighbours on a Redis; and that no password is shown, wherever one looks."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.redis.conftest import StartServer
from toril import EngineError, Toril
from toril.cli import redis_checks
from toril.cli.checks import Level
from toril.cli.main import app
from toril.engine.protocol import Health

SECRET = "hun/ter2@x"
IN_URL = "hun%2Fter2%40x"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, f"{result.output}{result.stderr}"


def diagnose(url: str, exit_code: int = 0) -> dict[str, Any]:
    code, shown = run("doctor", "--json", "--url", url)
    assert code == exit_code, shown
    return {one["name"]: one for one in json.loads(shown[shown.index("{") : shown.rindex("}") + 1])["checks"]}


async def used(url: str) -> None:
    """Leave a job that waits, and one that has been done."""
    toril = Toril(url)

    @toril.task(queue="sums")
    async def add(left: int) -> int:
        return left + 1

    async with toril:
        async with toril.worker():
            await (await add.enqueue(1)).result(timeout=5)
        await add.enqueue(2)


def test_a_healthy_server_passes(start_server: StartServer) -> None:
    # S0-24
    server = start_server("--appendonly", "yes")
    asyncio.run(used(server.url))
    found = diagnose(server.url)
    assert {name for name, one in found.items() if one["level"] == "pass"} == {
        *("configuration", "store", "eviction", "persistence", "access", "memory", "server clock", "scripts", "clock"),
        *("spool", "queue sums", "channels", "cache", "rate limits", "idempotency", "breakers"),
    }
    assert found["workers"]["level"] == "warn"
    assert "wire auto, answers in" in found["store"]["found"]
    assert found["eviction"]["found"] == "noeviction"
    assert not found["scripts"]["found"].startswith("0 of")
    assert "1 in line" in found["queue sums"]["found"]
    code, shown = run("queues", "list", "--url", server.url)
    assert (code, "sums" in shown) == (0, True)
    code, shown = run("jobs", "list", "--url", server.url)
    assert (code, "add" in shown) == (0, True)


def test_a_server_that_is_away_is_told(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # S0-24
    monkeypatch.setenv("TORIL_REDIS_TIMEOUT", "400ms")
    server = start_server()
    server.stop()
    found = diagnose(server.url, exit_code=1)
    assert found["store"]["level"] == "fail"
    assert "host, port, user, password" in found["store"]["todo"]


WELL: dict[str, Any] = {
    "location": "redis://h",
    "prefix": "bull",
    "wire": "auto",
    "version": "8.2.1",
    "flavour": "valkey",
    "policy": "noeviction",
    "persistence": "rdb",
    "open": False,
    "used_memory": 1,
    "max_memory": 100,
    "clock_ahead_ms": -3,
}


@pytest.mark.parametrize(
    ("detail", "name", "said"),
    [
        ({"policy": "allkeys-lru"}, "eviction", "jobs vanish"),
        ({"policy": None}, "eviction", "hides its policy"),
        ({"persistence": "none"}, "persistence", "a restart loses all jobs"),
        ({"open": True}, "access", "needs no password"),
        ({"used_memory": 90}, "memory", "90 B used of 100 B"),
        ({"clock_ahead_ms": 90_000}, "server clock", "ahead of this machine's"),
        ({"clock_ahead_ms": -90_000}, "server clock", "behind this machine's"),
    ],
)
def test_what_endangers_jobs_is_told_with_what_to_do(detail: dict[str, Any], name: str, said: str) -> None:
    [told] = [one for one in redis_checks.server(Health(True, 1.0, WELL | detail)) if one.level is not Level.PASS]
    assert told.name == name
    assert said in told.found
    assert told.todo


def test_what_a_server_hides_is_said() -> None:
    hidden = {**dict.fromkeys(WELL), "location": "redis://h", "prefix": "bull", "wire": "auto", "policy": "noeviction"}
    found = {one.name: one for one in redis_checks.server(Health(True, 1.0, hidden))}
    assert {one.level for one in found.values()} == {Level.PASS}
    assert "hides" in found["memory"].found
    assert found["store"].found.startswith("Redis of a hidden version at")
    [slow] = [one for one in redis_checks.server(Health(True, 250.0, WELL)) if one.level is Level.WARN]
    assert slow.name == "store"


async def test_a_node_of_a_cluster_is_refused(start_server: StartServer) -> None:
    server = start_server("--cluster-enabled", "yes")
    found = await asyncio.to_thread(diagnose, server.url, 1)
    assert "a node of a cluster" in found["store"]["found"]


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.timeout(40)
async def test_no_password_is_shown_anywhere(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # S0-27
    caplog.set_level(logging.DEBUG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORIL_REDIS_TIMEOUT", "400ms")
    monkeypatch.setenv("TORIL_JOBS_ON_OUTAGE", "fail")
    server = start_server("--requirepass", SECRET)
    url = f"redis://:{IN_URL}@127.0.0.1:{server.port}"
    said: list[str] = []

    async def use(url: str) -> None:
        toril = Toril(url)

        @toril.task
        async def add(left: int) -> int:
            return left + 1

        said.extend((repr(toril), str(toril.engine.location)))
        try:
            async with toril, toril.worker():
                said.append(str(await toril.engine.health()))
                said.append(str(await (await add.enqueue(1)).result(timeout=5)))
                said.append(str(await toril.stats()))
        except EngineError as error:
            said.append(everything_said(error))

    await use(url)
    assert "2" in said
    await use(url.replace(IN_URL, f"{IN_URL}-but-wrong"))
    monkeypatch.setenv("REDIS_URL", url)
    commands = (("doctor",), ("doctor", "--json"), ("stats", "--json"), ("queues", "list"), ("jobs", "list"))
    said += [(await asyncio.to_thread(run, *command))[1] for command in commands]
    server.stop()
    await use(url)
    said.append((await asyncio.to_thread(run, "doctor", "--url", url))[1])
    # Where it lies bare in the URL, it is not even known where it ends.
    bare = f"redis://:{SECRET}@127.0.0.1:{server.port}"
    wrong = (f"{url}/x", f"{url}?wire=no", f"{url}?pool=9", url.replace("redis:", "reddis:"), bare)
    said += [(await asyncio.to_thread(run, "stats", "--url", one))[1] for one in wrong]
    heard = "\n".join([*said, caplog.text])
    assert "***" in heard
    for part in (SECRET, IN_URL, "ter2"):
        assert part not in heard
