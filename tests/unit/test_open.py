"""From a URL to an engine, and starting it once."""

import asyncio
import os
import threading
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril.engine.open import Opening, RedisUrl, SqliteAddress, open_engine, parse_url, redacted
from toril.engine.protocol import Engine
from toril.errors import ConfigError, EngineClosed, StoreReadOnly
from toril.kernel.telemetry import Telemetry


@pytest.mark.parametrize(
    ("url", "path", "full"),
    [
        ("sqlite://", None, False),
        ("sqlite:///:memory:", None, False),
        ("SQLite://", None, False),
        ("sqlite:///toril.db", "toril.db", False),
        ("sqlite:///data/toril.db", "data/toril.db", False),
        ("sqlite:////var/lib/toril.db", "/var/lib/toril.db", False),
        ("sqlite:////a%20b%23.db", "/a b#.db", False),
        ("sqlite:///toril.db?durable=full", "toril.db", True),
        ("sqlite:///toril.db?durable=normal", "toril.db", False),
        ("sqlite:///~/toril.db", os.path.expanduser("~/toril.db"), False),
    ],
)
def test_a_url_names_a_store(url: str, path: str | None, full: bool) -> None:
    assert parse_url(url) == SqliteAddress(path, full)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379",
        "redis://default:PASSWORD@ENDPOINT:16379/2",
        "rediss://user:p%40ss@host?prefix={bull}&wire=bullmq5",
        "valkey://[::1]:6380",
        "unix:///run/redis.sock?db=3&eviction=allow",
    ],
)
def test_a_url_names_a_redis(url: str) -> None:
    # S0-11, S0-25
    assert parse_url(url) == RedisUrl(url)
    assert open_engine(url, telemetry=Telemetry()).name == "redis"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "has no scheme"),
        ("toril.db", "has no scheme: expected sqlite:///relative"),
        ("sqlite:toril.db", "has no scheme"),
        ("sqlite://toril.db", "write three slashes, as in sqlite:///toril.db"),
        ("sqlite://data/toril.db", "write three slashes, as in sqlite:///data/toril.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:////data/", "names no file"),
        ("sqlite:///a%00b", "names no file"),
        ("sqlite:///a#b.db", "write %23"),
        ("sqlite:///a.db?durable=yes", "expected durable=normal or durable=full"),
        ("sqlite:///a.db?mode=ro", "expected durable=normal or durable=full"),
        ("postgres://u:hunter2@db/x", "unknown scheme 'postgres'"),
        ("redis://default:hunter2@cache:6379/x", "database: expected a number"),
        ("redis://default:hunter2@cache:6379/0?wire=bullmq4", "wire: expected 'auto'"),
        ("rediss://:hunter2@cache?eviction=maybe", "eviction: expected allow or refuse"),
        ("rediss://:hunter2@cache?pool=9", "unknown option of 4 characters"),
        ("sqlite://u:hunter2@host/x.db", "three slashes"),
        ("u:hunter2@host/x.db", "has no scheme"),
        ("sqlite:///x.db?password=hunter2", "expected durable"),
        ("postgres://u:hun/ter2@db/x", "unknown scheme"),
        ("sqlite://[hunter2", "cannot be read"),
    ],
)
def test_a_wrong_url_is_explained_without_its_password(url: str, message: str) -> None:
    # S0-25, S0-27
    with pytest.raises(ConfigError, match=message) as caught:
        parse_url(url)
    assert "ter2" not in str(caught.value) or "[hunter2" in url
    assert caught.value.__cause__ is None


PASSWORDS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: f"se{text}cret")


@given(PASSWORDS)
def test_no_password_is_shown(password: str) -> None:
    # S0-27
    for url in (f"redis://user:{password}@host:6379/0", f"redis://:{password}@host", f"x://h/db?password={password}"):
        shown = redacted(url)
        assert password not in shown or "&" in password
        assert "***" in shown


@pytest.mark.parametrize("url", ["sqlite:///toril.db", "redis://host:6379/0?x=y", "redis://user@host"])
def test_what_holds_no_secret_is_shown_whole(url: str) -> None:
    assert redacted(url) == url


class Slow:
    """An engine that counts its starts and can be told to fail."""

    def __init__(self) -> None:
        self.starts = 0
        self.closes = 0
        self.fails = 0
        self.gate: asyncio.Event | None = None

    async def start(self) -> None:
        self.starts += 1
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise StoreReadOnly("read-only")

    async def close(self) -> None:
        self.closes += 1


def opening() -> tuple[Opening, list[Slow]]:
    made: list[Slow] = []

    def make() -> Engine:
        made.append(Slow())
        return cast(Engine, made[-1])

    return Opening(make), made


async def test_an_engine_is_started_once_however_many_ask() -> None:
    gate, made = opening()
    engines = await asyncio.gather(*(gate.get() for _ in range(10)))
    assert len({id(engine) for engine in engines}) == 1
    assert [engine.starts for engine in made] == [1]
    assert gate.started


def test_an_engine_is_started_once_from_many_threads() -> None:
    gate, made = opening()
    threads = [threading.Thread(target=lambda: asyncio.run(gate.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [engine.starts for engine in made] == [1]


async def test_a_failed_start_is_told_to_all_and_tried_again_later() -> None:
    gate, made = opening()
    cast(Any, gate.engine).fails = 1
    answers = await asyncio.gather(gate.get(), gate.get(), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreReadOnly, StoreReadOnly]
    assert not gate.started
    await gate.get()
    assert made[0].starts == 2


async def test_who_waits_goes_on_when_the_first_is_interrupted() -> None:
    gate, made = opening()
    engine = cast(Any, gate.engine)
    engine.gate = asyncio.Event()
    first, second = asyncio.create_task(gate.get()), asyncio.create_task(gate.get())
    while not made[0].starts:
        await asyncio.sleep(0)
    first.cancel()
    engine.gate.set()
    assert await second is engine
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_after_close_it_must_be_opened_again() -> None:
    gate, made = opening()
    await gate.get()
    await gate.close()
    await gate.close()
    assert made[0].closes == 1
    for use in (gate.get, lambda: asyncio.to_thread(lambda: gate.engine)):
        with pytest.raises(EngineClosed, match=r"call start\(\)"):
            await use()
    gate.reopen()
    await gate.get()
    assert len(made) == 2


async def test_a_forked_child_gets_an_engine_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, made = opening()
    parent = await gate.get()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert not gate.started
    child = await gate.get()
    assert child is not parent
    assert [engine.starts for engine in made] == [1, 1]
