"""Functions of the application that are called when a lock is lost."""

import asyncio
import logging

import pytest

from tests.worker.workshop import Workshop
from toril import JobLockLost


async def test_who_wants_to_know_is_told_of_a_lost_lock(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:  # A03
    told: list[JobLockLost] = []
    awaited: asyncio.Future[JobLockLost] = asyncio.get_running_loop().create_future()

    @shop.toril.on_lock_lost
    def plain(lost: JobLockLost) -> None:
        told.append(lost)

    @shop.toril.on_lock_lost
    async def slow(lost: JobLockLost) -> None:
        await asyncio.sleep(0)
        awaited.set_result(lost)

    @shop.toril.on_lock_lost
    async def broken(lost: JobLockLost) -> None:
        raise ValueError("no network")

    with caplog.at_level(logging.ERROR, "toril.worker"):
        shop.toril.telemetry.emit(JobLockLost("w", "default", "job-1", "long", running=True))
        lost = await awaited
    assert told == [lost]
    assert (lost.job_id, lost.name, lost.queue, lost.running) == ("job-1", "long", "default", True)
    [record] = [record for record in caplog.records if "failed" in record.getMessage()]
    assert "broken" in record.getMessage()
    assert "no network" in str(record.exc_info)
