"""A primary that is found through Sentinel, and found again after a fail-over."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.redis.conftest import StartServer
from tests.redis.server import RedisServer, binary, free_port
from toril import EngineError, EngineUnavailable, Settings, Toril
from toril.engine.open import parse_url
from toril.engine.redis.sentinel import parse_sentinels
from toril.errors import ConfigError
from toril.settings import JobSettings, RedisSettings, WorkerSettings

QUORUM = 2


@pytest.fixture
def start_sentinels(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Ends the sentinels that a test puts here."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.wait()


def sentinel(folder: Path, primary: RedisServer, number: int) -> tuple[subprocess.Popen[bytes], int]:
    port, file = free_port(), folder / f"sentinel-{number}.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nrequirepass guarded\nsentinel sentinel-pass guarded\n"
        f"sentinel monitor pen 127.0.0.1 {primary.port} {QUORUM}\nsentinel auth-pass pen secret\n"
        "sentinel down-after-milliseconds pen 500\nsentinel failover-timeout pen 2000\n",
        encoding="utf-8",
    )
    command = [binary(), str(file), "--sentinel"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT), port


@pytest.mark.timeout(40)
async def test_work_goes_on_after_a_fail_over(
    start_server: StartServer, tmp_path: Path, start_sentinels: list[subprocess.Popen[bytes]]
) -> None:
    # A01 A16
    login = ("--requirepass", "secret", "--masterauth", "secret", "--appendonly", "yes")
    primary = start_server(*login)
    replica = start_server(*login, "--replicaof", "127.0.0.1", str(primary.port), "--repl-diskless-sync-delay", "0")
    ports = []
    for number in range(3):
        process, port = sentinel(tmp_path, primary, number)
        start_sentinels.append(process)
        ports.append(port)
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    settings = Settings(redis=RedisSettings(timeout=1.0), worker=WorkerSettings(shutdown_timeout=1.0))
    toril = Toril(f"redis+sentinel://:secret@{hosts}/pen?sentinel_password=guarded", settings=settings)
    done: list[int] = []

    @toril.task
    async def note(n: int) -> None:
        done.append(n)

    async def works(n: int) -> None:
        while True:
            with suppress(EngineError):
                await note.enqueue(n)
                break
            await asyncio.sleep(0.1)
        while n not in done:
            await asyncio.sleep(0.02)

    async with toril, toril.worker():
        async with asyncio.timeout(10):
            await works(1)
        assert "secret" not in f"{toril.engine.location}{toril!r}{await toril.engine.health()}"
        # The replica must be known to the sentinels, and in step, before the primary may go.
        async with asyncio.timeout(10):
            while not any("sync: Finished with success" in line for line in replica.said):
                await asyncio.sleep(0.1)
            while any(str(replica.port) not in file.read_text() for file in tmp_path.glob("sentinel-*.conf")):
                await asyncio.sleep(0.1)
        primary.kill()
        async with asyncio.timeout(20):
            await works(2)
        assert (await toril.engine.health()).detail["role"] == "master"
    assert [*dict.fromkeys(done)] == [1, 2]


async def test_nobody_knows_a_primary() -> None:
    place = parse_sentinels(f"redis+sentinel://:hunter2@127.0.0.1:{free_port()}/pen")
    with pytest.raises(OSError, match="no sentinel of redis") as caught:
        await place.locate()
    assert "hunter2" not in str(caught.value)
    toril = Toril(
        f"redis+sentinel://:hunter2@127.0.0.1:{free_port()}/pen",
        settings=Settings(jobs=JobSettings(on_outage="fail"), redis=RedisSettings(timeout=0.3)),
    )
    task = toril.task(name="one")(lambda: None)
    async with toril:
        with pytest.raises(EngineUnavailable, match="no sentinel") as unavailable:
            await task.enqueue()
    assert "hunter2" not in str(unavailable.value)


def test_places_are_read_from_the_url() -> None:
    found = parse_sentinels("rediss+sentinel://ann:pw@one,[::1]:1234,three:5/pen/2?prefix=x", own_options=("prefix",))
    assert found.places == (("one", 26379), ("::1", 1234), ("three", 5))
    assert (found.service, found.address.db, found.address.tls, found.address.password) == ("pen", 2, True, "pw")
    assert found.redacted == "rediss+sentinel://***@one:26379,::1:1234,three:5/pen/2"
    assert found.options == {"prefix": "x"}
    for url, said in (
        ("redis+sentinel://:hunter2@host", "names no primary"),
        ("redis+sentinel:///pen", "names no host"),
        ("redis+sentinel://:hunter2@a,b:x/pen", "no number as port"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            parse_url(url)
        assert "hunter2" not in str(caught.value)
