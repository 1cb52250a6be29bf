"""The long trials: `make soak`, or one of them with `ARGS="-k kill_every_second"`. Each prints its figures (-s shows
them). FAULTS_SCALE makes them shorter or longer: 0.1 is a tenth of the jobs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.faults import FULL_DISK, Fault, kill_busy_worker
from tests.faults.stores import RedisStore, SqliteStore, Store
from tests.faults.test_trials import passed
from tests.faults.trial import RANDOM, Shape

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

SCALE = float(os.environ.get("FAULTS_SCALE", "1"))
ENGINES = ("sqlite", "redis", "redis-everysec")
RANDOM_SHAPE = Shape(
    jobs=int(2_500 * SCALE),
    per_second=60,
    lock_s=3.0,
    gap_s=(1.0, 4.0),
    skew_ms=200,
    kinds="quick=80,plain=10,flaky=5,broken=2,blocking=3,heavy=0.2",
)


def store_of(engine: str, folder: Path, *, through_network: bool = True) -> Store:
    if engine == "sqlite":
        return SqliteStore(folder)
    fsync = "everysec" if engine.endswith("everysec") else "always"
    return RedisStore(folder, fsync=fsync, through_network=through_network)


@pytest.mark.parametrize("seed", range(1, 21))
@pytest.mark.parametrize("engine", ENGINES)
async def test_random_faults(engine: str, seed: int, tmp_path: Path) -> None:
    # A01, A02, A03
    faults: dict[str, Fault] = RANDOM[engine.partition("-")[0]]
    await passed("random", store_of(engine, tmp_path), replace(RANDOM_SHAPE, faults=faults), seed, tmp_path)


@pytest.mark.parametrize("engine", ENGINES[:2])
async def test_a_worker_is_killed_every_second(engine: str, tmp_path: Path) -> None:
    # A02: 100,000 jobs, locks as by default
    faults: dict[str, Fault] = {"kill_busy_worker": kill_busy_worker}
    shape = Shape(jobs=int(100_000 * SCALE), faults=faults, producers=4, supervisors=8, processes=1, drain_s=600)
    store = store_of(engine, tmp_path, through_network=False)
    await passed("kill a worker every second", store, shape, 1, tmp_path)


@pytest.mark.parametrize("engine", ENGINES[:2])
async def test_a_million_jobs_without_a_fault(engine: str, tmp_path: Path) -> None:
    # A03, A05
    shape = Shape(
        jobs=int(1_000_000 * SCALE), producers=2, supervisors=1, slots=50, per_second=4_000, kinds="quick=1", ms="0",
        faultless=True, drain_s=1800, hang_s=7000,
    )  # fmt: skip
    store = store_of(engine, tmp_path, through_network=False)
    await passed("no fault", store, shape, 1, tmp_path)


@pytest.mark.parametrize("seed", range(1, 4))
async def test_a_disk_that_is_full_at_times(seed: int, tmp_path: Path) -> None:
    # A02, A17
    if os.getuid() != 0:
        pytest.skip("expected the right to mount a small disk: run as root")
    shape = replace(RANDOM_SHAPE, faults=FULL_DISK)
    await passed("full disk", SqliteStore(tmp_path, size="48m"), shape, seed, tmp_path)
