"""What is broken in a trial, by name. Each fault draws its times from the trial's own chance, and heals itself."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from typing import Protocol

from tests.faults import journal as j
from tests.faults.crew import Crew
from tests.faults.journal import Journal
from tests.faults.stores import RedisStore, SqliteStore, Store


class Broken(Protocol):
    """What a fault sees of a trial."""

    crew: Crew
    journal: Journal
    store: Store
    random: random.Random
    lock_s: float

    def set_clock(self, off_ms: int) -> None:
        """Set wall time, for everybody."""
        ...

    def staff(self) -> None:
        """Start what was killed anew, as a service manager does."""
        ...

    def at_work(self) -> list[int]:
        """Workers that have begun a job."""
        ...


Fault = Callable[[Broken], Awaitable[None]]

_LOOKS = 100


def _one_worker(trial: Broken) -> int | None:
    pids = trial.crew.workers()
    return trial.random.choice(pids) if pids else None


def _one_producer(trial: Broken) -> subprocess.Popen[bytes] | None:
    """One that has not come to its end, if any."""
    going_on = [producer for _, producer in sorted(trial.crew.producers.items()) if producer.poll() is None]
    return trial.random.choice(going_on) if going_on else None


async def kill_worker(trial: Broken) -> None:
    pid = _one_worker(trial)
    if pid is not None:
        trial.crew.kill(pid)
    trial.staff()


async def kill_busy_worker(trial: Broken) -> None:
    """One of several that are at work: on a busy machine they would else all be killed while they start."""
    for _ in range(_LOOKS):
        if len(pids := trial.at_work()) > 1:
            trial.crew.kill(trial.random.choice(pids))
            break
        await asyncio.sleep(0.1)
    trial.staff()


async def freeze_worker(trial: Broken) -> None:
    """Half of the times for longer than its locks last."""
    pid = _one_worker(trial)
    if pid is not None:
        await _frozen(trial, pid, trial.random.uniform(0.1, 2.0) * trial.lock_s)


async def _frozen(trial: Broken, pid: int, seconds: float) -> None:
    trial.crew.freeze(pid)
    await asyncio.sleep(seconds)
    trial.crew.thaw(pid)


async def kill_supervisor(trial: Broken) -> None:
    """Its workers are left alone, and end by themselves."""
    trial.crew.kill(trial.random.choice(trial.crew.supervisors).pid)
    await asyncio.sleep(0.1)
    trial.staff()


async def freeze_supervisor(trial: Broken) -> None:
    await _frozen(trial, trial.random.choice(trial.crew.supervisors).pid, trial.random.uniform(0.2, 2.0))


async def stop_supervisor(trial: Broken) -> None:
    """A deploy: what runs is handed back when it does not end in time."""
    trial.crew.dismiss(trial.random.choice(trial.crew.supervisors))
    trial.staff()


async def kill_producer(trial: Broken) -> None:
    if producer := _one_producer(trial):
        trial.crew.kill(producer.pid)
        producer.wait()
    trial.staff()


async def freeze_producer(trial: Broken) -> None:
    if producer := _one_producer(trial):
        await _frozen(trial, producer.pid, trial.random.uniform(0.2, 1.5) * trial.lock_s)


async def kill_all(trial: Broken) -> None:
    """The machine goes down, but for its disk."""
    for pid in trial.crew.all_pids():
        trial.crew.kill(pid)
    await asyncio.sleep(trial.random.uniform(0.0, 1.0))
    trial.staff()


async def set_clock(trial: Broken) -> None:
    """Wall time is set, by up to a minute, forward and back again."""
    off = trial.random.choice((-60_000, -5_000, -500, 500, 5_000, 60_000))
    for moment in (off, -off):
        trial.journal.write(j.JUMPED, moment)
        trial.set_clock(off if moment == off else 0)
        await asyncio.sleep(trial.random.uniform(0.2, 1.0) * trial.lock_s)


# SQLite


async def hold_database(trial: Broken) -> None:
    """A program of somebody else's keeps the file to itself for a while."""
    assert isinstance(trial.store, SqliteStore)
    seconds = trial.random.uniform(0.2, 3.0)
    database = sqlite3.connect(trial.store.path, isolation_level=None, timeout=5)
    try:
        database.execute("BEGIN IMMEDIATE")
        trial.journal.write(j.PAUSED, "held", round(seconds * 1000))
        await asyncio.sleep(seconds)
    finally:
        database.close()


async def fill_disk(trial: Broken) -> None:
    assert isinstance(trial.store, SqliteStore)
    trial.store.fill()
    trial.journal.write(j.DOWN, "full")
    await asyncio.sleep(trial.random.uniform(0.5, 4.0))
    trial.store.free()
    trial.journal.write(j.UP)


# Redis


def _redis(trial: Broken) -> RedisStore:
    assert isinstance(trial.store, RedisStore)
    return trial.store


async def kill_server(trial: Broken) -> None:
    server = _redis(trial).server
    trial.journal.write(j.DOWN, "crash")
    server.kill()
    await asyncio.sleep(trial.random.choice((0.0, 0.2, 1.0, 3.0)))
    await asyncio.to_thread(server.start)
    trial.journal.write(j.UP)


async def freeze_server(trial: Broken) -> None:
    server = _redis(trial).server
    trial.journal.write(j.DOWN, "frozen")
    server.freeze()
    await asyncio.sleep(trial.random.uniform(0.2, 1.5) * trial.lock_s)
    server.thaw()
    trial.journal.write(j.UP)


async def kill_clients(trial: Broken) -> None:
    await _redis(trial).call("CLIENT", "KILL", "TYPE", "normal")


async def cut_network(trial: Broken) -> None:
    await _redis(trial).network.cut()


async def black_hole(trial: Broken) -> None:
    """Nothing goes through and nothing is closed; half of the times the connections of before stay dead for ever."""
    network = _redis(trial).network
    trial.journal.write(j.DOWN, "hole")
    network.swallows = True
    if trial.random.random() < 0.5:
        network.forget()
    await asyncio.sleep(trial.random.uniform(0.5, 1.5) * trial.lock_s)
    network.swallows = False
    trial.journal.write(j.UP)


async def forget_connections(trial: Broken) -> None:
    """Connections of before are dead and nobody is told; new ones work."""
    trial.journal.write(j.DOWN, "forgotten")
    _redis(trial).network.forget()
    trial.journal.write(j.UP)


async def lose_replies(trial: Broken) -> None:
    """Requests arrive, replies do not; then the connections break."""
    network = _redis(trial).network
    trial.journal.write(j.DOWN, "replies")
    network.loses_replies = True
    await asyncio.sleep(trial.random.uniform(0.05, 1.0))
    await network.cut()
    network.loses_replies = False
    trial.journal.write(j.UP)


async def slow_network(trial: Broken) -> None:
    network = _redis(trial).network
    network.delay_s = trial.random.uniform(0.02, 0.4)
    trial.journal.write(j.PAUSED, "slow", 5000)
    await asyncio.sleep(trial.random.uniform(0.5, 3.0))
    network.delay_s = 0.0


PROCESSES: dict[str, Fault] = {
    "kill_worker": kill_worker,
    "freeze_worker": freeze_worker,
    "kill_supervisor": kill_supervisor,
    "freeze_supervisor": freeze_supervisor,
    "stop_supervisor": stop_supervisor,
    "kill_producer": kill_producer,
    "freeze_producer": freeze_producer,
    "kill_all": kill_all,
    "set_clock": set_clock,
}
SQLITE: dict[str, Fault] = {**PROCESSES, "hold_database": hold_database}
FULL_DISK: dict[str, Fault] = {"fill_disk": fill_disk, "kill_worker": kill_worker}
REDIS: dict[str, Fault] = {
    **PROCESSES,
    "kill_server": kill_server,
    "freeze_server": freeze_server,
    "kill_clients": kill_clients,
    "cut_network": cut_network,
    "black_hole": black_hole,
    "forget_connections": forget_connections,
    "lose_replies": lose_replies,
    "slow_network": slow_network,
}
EVERY: dict[str, Fault] = {**SQLITE, **REDIS, **FULL_DISK, "kill_busy_worker": kill_busy_worker}
