"""The outbox: a job comes true with the transaction that enqueued it, exactly once, or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.outbox.databases import Place
from tests.outbox.postgres import PostgresServer
from toril import ConfigError, EngineUnavailable, InvalidArguments, ResultTimeout, Settings, Toril, ordered
from toril.engine.ports.jobs import Added
from toril.engine.protocol import Engine
from toril.jobs.model import NewJob
from toril.outbox.destination import Destination
from toril.outbox.opening import database_of
from toril.outbox.relay import Relay
from toril.settings import OutboxSettings
from toril.tasks.middleware import EnqueueNext

PATIENCE_S = 30
WAYS = ("session", "connection", "async session", "async connection", "driver")

pytestmark = pytest.mark.timeout(60)


class Shop:
    """An application with an outbox, and what its jobs did."""

    def __init__(self, place: Place) -> None:
        self.ran: list[int] = []
        settings = Settings(outbox=OutboxSettings(table=place.table, poll=0.05))
        self.toril = toril = Toril("sqlite://", settings=settings, outbox=place.database)

        @toril.task
        async def ship(n: int) -> int:
            self.ran.append(n)
            return n * n

        self.ship = ship


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Shop]:
    shop = Shop(place)
    async with shop.toril:
        yield shop


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> PostgresServer | None:
    server: PostgresServer | None = None if kind == "sqlite" else request.getfixturevalue("postgres")
    return server


@pytest.mark.parametrize("way", WAYS)
async def test_a_job_comes_true_with_its_transaction(
    kind: str, way: str, tmp_path: Path, server: PostgresServer | None
) -> None:
    # S1-21, A18
    place = Place(kind, way, tmp_path, server)
    async with opened(place) as shop, shop.toril.worker():
        async with place.transaction() as transaction:
            handle = await shop.ship.enqueue_in(transaction, 3)
            # The id is known, and nobody has seen the job.
            assert handle.id.startswith("j")
            assert await handle.info() is None
        assert await handle.result(timeout=PATIENCE_S) == 9
        with suppress(LookupError):
            async with place.transaction() as transaction:
                undone = await shop.ship.enqueue_in(transaction, 4)
                raise LookupError
        # What is committed after it overtakes nothing: when it has run, the other would have.
        async with place.transaction() as transaction:
            last = await shop.ship.enqueue_in(ordered(transaction, "key"), 5)
        assert await last.result(timeout=PATIENCE_S) == 25
        with pytest.raises(ResultTimeout):
            await undone.result(timeout=0.01)
        assert (await shop.toril.outbox.stats()).jobs == 0
    assert shop.ran == [3, 5]
    assert place.noted() == 2


async def test_synchronous_code_and_middleware(tmp_path: Path) -> None:
    place = Place("sqlite", "session", tmp_path, None)
    seen: list[str] = []

    async def see(queue: str, jobs: Sequence[NewJob], call_next: EnqueueNext) -> Added:
        seen.extend(job.name for job in jobs)
        return await call_next(queue, jobs)

    async with opened(place) as shop:
        shop.toril.add_middleware(enqueue=see)

        def body() -> str:
            with Session(create_engine(place.url(is_async=False))) as session, session.begin():
                one = shop.ship.enqueue_in_sync(session, 1).id
            with closing(sqlite3.connect(place.url(is_async=False).removeprefix("sqlite:///"))) as connection:
                two = shop.ship.enqueue_in_sync(connection, 2).id
                connection.commit()
            return min(one, two)

        assert (await asyncio.to_thread(body)).startswith("j")
        assert (await shop.toril.outbox.stats()).jobs == 2
        async with shop.toril.worker():
            await until(lambda: len(shop.ran) == 2)
    assert seen == ["ship", "ship"]


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.to_thread(lambda: None)


async def test_several_relays_hand_on_each_job_once_and_in_order_of_its_key(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    # S1-21, A18
    place = Place("postgresql", "async connection", tmp_path, postgres)
    keys, each = 7, 40
    stream: list[tuple[str, int]] = []
    async with opened(place) as shop:

        @shop.toril.task(queue="steps")
        async def step(key: str, n: int) -> None:
            stream.append((key, n))

        async def engine_of() -> Engine:
            return shop.toril.engine

        other = Relay(
            database_of(place.database),
            place.table,
            Destination(engine_of),
            poll_s=0.05,
            clock=shop.toril.clock,
        )
        engine = create_async_engine(place.url(is_async=True))

        async def produce(key: str) -> None:
            for n in range(0, each, 4):
                async with engine.begin() as connection:
                    for k in range(n, n + 4):
                        await step.enqueue_in(ordered(connection, key), key, k)
                    await step.enqueue_in(connection, "none", n)

        assert shop.toril.outbox.relay is not None
        relays = [asyncio.create_task(run()) for run in (other.run, other.run)]
        await asyncio.gather(*(produce(f"k{key}") for key in range(keys)))
        async with shop.toril.worker(["steps"], concurrency=1):
            await until(lambda: len(stream) == keys * (each + each // 4))
        for relay in relays:
            relay.cancel()
        await asyncio.wait(relays)
        await other.close()
        assert (await shop.toril.outbox.stats()).jobs == 0
        await engine.dispose()
    for key in range(keys):
        assert [n for name, n in stream if name == f"k{key}"] == list(range(each))
    assert set(Counter(pair for pair in stream if pair[0] != "none").values()) == {1}


def test_calls_after_a_commit(tmp_path: Path) -> None:
    place = Place("sqlite", "session", tmp_path, None)
    toril = Shop(place).toril
    said: list[str] = []

    def say(what: str) -> None:
        toril.outbox.on_commit(session, lambda: said.append(what))

    engine = create_engine(place.url(is_async=False))
    with Session(engine) as session:
        say("before anything")
        session.execute(text(f"INSERT INTO {place.notes} VALUES (1)"))
        say("committed")
        with session.begin_nested():
            say("in a savepoint")
            with suppress(LookupError), session.begin_nested():
                say("in one that is rolled back")
                raise LookupError
        assert said == []
        session.commit()
        assert said == ["before anything", "committed", "in a savepoint"]
        session.execute(text(f"INSERT INTO {place.notes} VALUES (2)"))
        say("rolled back")
        session.rollback()
        session.execute(text(f"INSERT INTO {place.notes} VALUES (3)"))
        session.commit()
    assert said == ["before anything", "committed", "in a savepoint"]
    with closing(place.connect()) as connection, pytest.raises(ConfigError, match="expected a Session or AsyncSession"):
        toril.outbox.on_commit(connection, lambda: None)
    with engine.connect() as plain, pytest.raises(ConfigError, match="expected a Session or AsyncSession"):
        toril.outbox.on_commit(plain, lambda: None)


async def test_what_is_refused(tmp_path: Path) -> None:
    place = Place("sqlite", "driver", tmp_path, None)
    toril = Shop(place).toril
    ship = toril.task(name="other")(lambda n: n)
    with pytest.raises(ConfigError, match="expected a session or connection of SQLAlchemy, or a connection"):
        await ship.enqueue_in(object(), n=1)
    async with AsyncSession(create_async_engine(place.url(is_async=True))) as session:
        with pytest.raises(ConfigError, match="await enqueue_in"):
            ship.enqueue_in_sync(session, n=1)
    with closing(place.connect()) as connection, pytest.raises(InvalidArguments):
        await ship.enqueue_in(connection)
    for key in ("", "x" * 256):
        with pytest.raises(ConfigError, match="1 to 255 characters"):
            ordered(object(), key)
    for wrong in ("nonsense", "oracle://x", 17):
        with pytest.raises(ConfigError):
            Toril("sqlite://", outbox=wrong)
    with pytest.raises(ConfigError, match="TORIL_OUTBOX_TABLE"):
        Toril("sqlite://", settings=Settings(outbox=OutboxSettings(table="a b; DROP")))
    with pytest.raises(ConfigError, match="has no database"):
        await Toril("sqlite://").outbox.stats()


async def test_a_database_without_the_table_is_told_and_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place("sqlite", "driver", tmp_path, None)
    with closing(place.connect()) as connection:
        connection.execute(f"ALTER TABLE {place.table} RENAME TO away")
        connection.commit()
    async with opened(place) as shop:
        with pytest.raises(EngineUnavailable, match="toril outbox sql"):
            await shop.toril.outbox.stats()
        async with shop.toril.worker():
            await until(lambda: "Jobs wait in the outbox" in caplog.text)
            with closing(place.connect()) as connection:
                connection.execute(f"ALTER TABLE away RENAME TO {place.table}")
                handle = await shop.ship.enqueue_in(connection, 2)
                connection.commit()
            assert await handle.result(timeout=PATIENCE_S) == 4
