"""Trials that are short enough for every day: real processes on real stores, broken at random instants of fixed seeds.

`make soak` runs the long ones of test_soak.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.faults import REDIS, SQLITE, Fault, kill_server, kill_worker
from tests.faults.stores import RedisStore, SqliteStore, Store
from tests.faults.trial import Shape, Trial, said

# The limits are for a machine that does much else at the same time; on a quiet one each takes about ten seconds.
pytestmark = pytest.mark.timeout(240)

SHORT = Shape(
    jobs=240,
    producers=2,
    supervisors=1,
    processes=2,
    per_second=60,
    lock_s=1.5,
    gap_s=(0.4, 1.2),
    shutdown_s=1.0,
    drain_s=90,
    hang_s=150,
    skew_ms=200,
    least_faults=3,
)


async def passed(name: str, store: Store, shape: Shape, seed: int, folder: Path) -> None:
    report = await Trial(name, store, shape, seed=seed, folder=folder).run()
    said(report)
    assert report.verdict.problems == []
    assert report.verdict.figures.jobs >= shape.jobs
    assert report.faults >= shape.least_faults


async def test_nothing_is_lost_or_done_twice_on_a_file(tmp_path: Path) -> None:
    # A02, A03
    await passed("random", SqliteStore(tmp_path), replace(SHORT, faults=SQLITE), 7, tmp_path)


async def test_nothing_is_lost_or_done_twice_on_a_server(tmp_path: Path) -> None:
    # A01, A02, A03
    await passed("random", RedisStore(tmp_path), replace(SHORT, faults=REDIS), 7, tmp_path)


async def test_a_server_that_crashes_costs_no_more_than_its_last_second(tmp_path: Path) -> None:
    # A02
    faults: dict[str, Fault] = {"kill_server": kill_server, "kill_worker": kill_worker}
    shape = replace(SHORT, faults=faults, jobs=160)
    await passed("crash", RedisStore(tmp_path, fsync="everysec"), shape, 3, tmp_path)
