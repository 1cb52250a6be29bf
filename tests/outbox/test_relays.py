"""The outbox's table as a source of batches: relays that die at any point, and databases that cannot be had here."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import mysql
from sqlalchemy.sql.elements import TextClause

from tests.outbox.databases import Place
from tests.outbox.postgres import PostgresServer
from tests.outbox.stores import Store, fine, job, lost
from toril.engine.ports.jobs import LONG_MEMORY_MS
from toril.engine.ports.spool import Fate
from toril.errors import ConfigError, EngineUnavailable, PayloadError, StoreFull
from toril.jobs.model import NewJob
from toril.outbox.forwarder import Forwarder
from toril.outbox.opening import database_of
from toril.outbox.plain import Execute
from toril.outbox.statements import create_sql, create_statements, positional, statements, styled
from toril.outbox.table import LEASE_MS, Database, OutboxTable
from toril.outbox.writer import OutboxWriter
from toril.tasks.transaction import ordered
from toril.testing.clock import ManualClock

T = TypeVar("T")

pytestmark = pytest.mark.timeout(60)


class Killed(BaseException):
    """As kill -9: nobody catches it."""


class Mortal:
    """A database whose user dies at one of its transactions: before it begins, before it commits, or after."""

    def __init__(self, inner: Database, dice: random.Random) -> None:
        self._inner = inner
        self._dice = dice
        self.location = inner.location
        self.dies_in = -1

    @property
    def dialect(self) -> str:
        return self._inner.dialect

    async def run(self, operation: Callable[[Execute], T]) -> T:
        self.dies_in -= 1
        if self.dies_in != 0:
            return await self._inner.run(operation)
        at = self._dice.randrange(3)
        if at == 0:
            raise Killed

        def until_the_commit(execute: Execute) -> T:
            answer = operation(execute)
            if at == 1:
                raise Killed
            return answer

        await self._inner.run(until_the_commit)
        raise Killed

    async def close(self) -> None:
        await self._inner.close()


class Bench:
    """An outbox, a store, a clock that stands still, and who writes."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.clock, self.store = ManualClock(), Store()
        self.table = self.another()
        self.forwarder = Forwarder(self.table, self.store, self.clock)
        self._writer = OutboxWriter(place.table, lambda: None)

    def another(self, database: Database | None = None) -> OutboxTable:
        return OutboxTable(database or database_of(self.place.database), self.place.table)

    def put(self, *jobs: NewJob, queue: str = "q", key: str | None = None, commit: bool = True) -> None:
        with closing(self.place.connect()) as connection:
            for each in jobs:
                target = connection if key is None else ordered(connection, key)
                self._writer.put_sync(target, queue, each, self.clock.now_ms())
            if commit:
                connection.commit()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Place("sqlite", "driver", tmp_path, None))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_and_nothing_doubled_wherever_relays_are_killed(
    kind: str, seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # S1-21, A18
    server: PostgresServer | None = None if kind == "sqlite" else request.getfixturevalue("postgres")
    bench, dice = Bench(Place(kind, "driver", tmp_path, server)), random.Random(seed)
    written: dict[str | None, list[str]] = {None: [], "a": [], "b": []}

    def relay() -> tuple[Mortal, Forwarder]:
        mortal = Mortal(database_of(bench.place.database), dice)
        return mortal, Forwarder(bench.another(mortal), bench.store, bench.clock)

    relays = [relay(), relay()]
    for n in range(40):
        key = dice.choice((None, "a", "b"))
        ids = [f"j{n}-{k}" for k in range(dice.choice((1, 3)))]
        commit = dice.random() < 0.8
        bench.put(*map(job, ids), key=key, commit=commit)
        written[key] += ids if commit else []
        number = dice.randrange(2)
        mortal, forwarder = relays[number]
        mortal.dies_in = dice.choice((-1, 1, 2, 3))
        bench.store.before = [dice.choice((fine, fine, lost)) for _ in range(2)]
        bench.store.after = [dice.choice((fine, fine, lost)) for _ in range(2)]
        try:
            await forwarder.forward()
        except EngineUnavailable:
            pass
        except Killed:
            relays[number] = relay()
        if dice.random() < 0.3:
            bench.clock.advance_ms(LEASE_MS + 1)
    bench.store.before, bench.store.after = [], []
    for mortal, forwarder in relays * 2:
        mortal.dies_in = -1
        bench.clock.advance_ms(LEASE_MS + 1)
        assert await forwarder.forward()
    came = bench.store.of("q")
    assert sorted(came) == sorted(id_ for ids in written.values() for id_ in ids)
    for key in ("a", "b"):
        mine = set(written[key])
        assert [id_ for id_ in came if id_ in mine] == written[key]
    assert (await bench.table.stats()).jobs == 0


async def test_of_a_key_only_one_relay_has_jobs(bench: Bench) -> None:
    bench.put(*(job(f"k{n}") for n in range(3)), key="k")
    bench.put(job("free"))
    now = bench.clock.now_ms()
    [first] = await bench.table.claim([], now=now)
    assert [each.id for each in first.jobs] == ["k0", "k1", "k2", "free"]
    bench.put(job("k3"), key="k")
    bench.put(job("other"))
    other = bench.another()
    [second] = await other.claim([], now=now)
    assert [each.id for each in second.jobs] == ["other"]
    # Of a relay that says no more, all is taken over, under the same id, with the same content.
    assert (await other.claim([], now=now + LEASE_MS)) == (second,)
    third = bench.another()
    bench.clock.advance_ms(LEASE_MS + 1)
    assert set(await third.claim([], now=bench.clock.now_ms())) == {first, second}


async def test_what_the_store_may_have_forgotten_is_set_aside_and_blocks_nothing(bench: Bench) -> None:
    bench.put(job("a"), key="k")
    bench.store.after = [lost]
    with pytest.raises(EngineUnavailable):
        await bench.forwarder.forward()
    bench.clock.advance_ms(LONG_MEMORY_MS)
    bench.put(job("b"), key="k")
    assert await bench.forwarder.forward()
    assert bench.store.of("q") == ["a", "b"]
    [aside] = await bench.table.listed()
    assert (aside.fate, aside.job_ids, aside.queue) == (Fate.UNKNOWN, ("a",), "q")
    stats = await bench.table.stats()
    assert (stats.jobs, stats.set_aside) == (0, 1)
    assert await bench.table.again(aside.id)
    assert not await bench.table.again(aside.id)
    await bench.forwarder.forward()
    assert bench.store.of("q") == ["a", "b", "a"]


async def test_one_bad_job_keeps_no_other_back_and_order_holds(bench: Bench) -> None:
    bench.put(*(job(f"j{n}") for n in range(4)))
    bench.store.refuses = {"j1": PayloadError("not like this")}
    assert await bench.forwarder.forward()
    assert bench.store.of("q") == ["j0", "j2", "j3"]
    [aside] = await bench.table.listed()
    assert (aside.fate, aside.job_ids, aside.reason) == (Fate.REFUSED, ("j1",), "not like this")
    assert await bench.table.drop(aside.id)
    assert not await bench.table.drop(aside.id)


async def test_a_queue_that_the_store_does_not_take_holds_no_other_back(bench: Bench) -> None:
    bench.put(job("a"), queue="stuck")
    bench.put(job("b"), queue="free")
    bench.store.closed_queues = {"stuck": StoreFull("no memory")}
    for _ in range(3):
        assert not await bench.forwarder.forward()
    assert bench.store.added == [("free", "b")]
    bench.store.closed_queues = {}
    assert await bench.forwarder.forward()
    assert bench.store.added == [("free", "b"), ("stuck", "a")]


async def test_a_delay_counts_from_the_enqueue(bench: Bench) -> None:
    bench.put(job("later", delay_ms=10_000))
    bench.clock.advance_ms(4_000)
    [batch] = await bench.table.claim([], now=bench.clock.now_ms())
    assert batch.jobs[0].delay_ms == 6_000


def test_the_table_is_made_in_every_dialect() -> None:
    assert create_sql("postgresql").startswith("CREATE TABLE toril_outbox (")
    assert "GENERATED BY DEFAULT AS IDENTITY" in create_sql("postgresql")
    assert "AUTO_INCREMENT" in create_sql("mysql")
    assert "AUTOINCREMENT" in create_sql("sqlite")
    assert create_sql("mariadb", "app.out") == create_sql("mysql", "app.out")
    assert "CREATE INDEX out_batch ON app.out (batch)" in create_sql("mysql", "app.out")
    assert [len(create_statements(name)) for name in ("postgresql", "mysql", "sqlite")] == [3, 3, 3]
    with pytest.raises(ConfigError, match="oracle"):
        create_sql("oracle")


def test_statements_for_a_mysql() -> None:
    # There is no server of it here: that its statements are what MySQL 8 takes is checked by reading only.
    mine = statements("mysql", "out")
    assert mine["heads"].endswith("ORDER BY o.seq LIMIT 1000 FOR UPDATE SKIP LOCKED")
    assert "SKIP LOCKED" not in statements("sqlite", "out")["heads"]
    for sql in mine.values():
        # MySQL refuses a change of a table that a subquery reads, and names that are its words.
        changed = sql.partition(" ")[0] in {"UPDATE", "DELETE"}
        assert not (changed and "SELECT" in sql)
        clause: TextClause = text(sql.replace("{seqs}", "1"))
        assert ":" not in str(clause.compile(dialect=mysql.dialect()))


def test_values_are_written_as_the_driver_wants_them() -> None:
    assert styled("a = :one AND b LIKE '%' AND c = :two", "pyformat") == "a = %(one)s AND b LIKE '%%' AND c = %(two)s"
    assert styled("a = :one", "named") == "a = :one"
    assert positional("a = :two, b = :one, c = :two", {"one": 1, "two": 2}) == ("a = %s, b = %s, c = %s", [2, 1, 2])
    with pytest.raises(ConfigError, match="use SQLAlchemy"):
        styled("a = :one", "numeric")


async def test_a_relay_that_is_not_the_quickest_takes_nothing(bench: Bench) -> None:
    bench.put(job("a"))
    other, now = bench.another(), bench.clock.now_ms()
    database: Any = other._database
    inner = database.run

    async def late(operation: Callable[[Execute], T]) -> T:
        def slow(execute: Execute) -> T:
            def watched(sql: str, values: Any) -> Any:
                answer = execute(sql, values)
                if "ORDER BY o.seq" in sql:
                    # Between looking and taking, where rows are not locked.
                    with closing(bench.place.connect()) as connection:
                        connection.execute(f"UPDATE {bench.place.table} SET batch = 'x', lease = {now + LEASE_MS}")
                        connection.commit()
                return answer

            return operation(watched)

        return cast(T, await inner(slow))

    database.run = late
    with pytest.raises(EngineUnavailable, match="Another relay"):
        await other.claim([], now=now)
    with suppress(EngineUnavailable):
        assert await bench.table.claim([], now=now) == ()
