"""New code under load: worker processes are replaced one after another, and no job notices."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.rolling import roll_under_load, unfinished
from tests.redis.server import RedisServer
from tests.worker.yard import Station


@pytest.fixture(params=["sqlite", "redis"])
async def station(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Station]:
    server = RedisServer(tmp_path / "redis") if request.param == "redis" else None
    if server is not None:
        server.start()
    station = Station(f"sqlite:///{tmp_path}/jobs.db" if server is None else server.url)
    await station.toril.start()
    yield station
    await station.close()
    if server is not None:
        server.kill()


@pytest.mark.timeout(90)
async def test_processes_are_replaced_one_after_another_under_load(station: Station) -> None:  # A07
    account = await roll_under_load(station, processes=2, slots=10, jobs=300, rolls=1, seconds=(0.05, 0.3))
    assert await unfinished(station) == []
    assert (account.lost, account.failed, account.duplicates) == (0, 0, 0)
    # The first two come up together; then each new one works before an old one is asked to stop, and ends.
    rolling = [word for word, _ in account.steps[2:8]]
    assert rolling == ["up", "ProcessReplaced", "down"] * 2
    assert (account.replaced, len(account.processes)) == (2, 4)
    # Who has gone has left no zombie.
    assert not any(Path(f"/proc/{pid}").exists() for pid in account.processes)


@pytest.mark.soak
@pytest.mark.parametrize("slots", [20, 200])
async def test_ten_workers_are_replaced_three_times(
    station: Station, slots: int, capsys: pytest.CaptureFixture[str]
) -> None:  # A07
    account = await roll_under_load(
        station, processes=10, slots=slots, jobs=20_000, rolls=3, seconds=(0.05, 2.0 if slots == 20 else 10.0)
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{station.toril.engine.name}, 10 processes of {slots} slots: {account}\n")
    assert (account.lost, account.failed, account.duplicates) == (0, 0, 0)
    assert account.replaced == 30
