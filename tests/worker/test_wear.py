"""When a worker process is worn out."""

import asyncio

import pytest

from toril.errors import ConfigError
from toril.kernel.telemetry import JobDone, JobNotDone, Telemetry
from toril.worker.wear import Wear, WearLimits, resident_bytes

MIB = 1024 * 1024
DONE = JobDone("w", "q", "j", "task", 1, 0.1)
NOT_DONE = JobNotDone("w", "q", "j", "task", 1, 0.1, "retry", "", "", 0.0)


class Process:
    """What a process looks like."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.rss = 80 * MIB
        self.telemetry = Telemetry()

    def wear(self, limits: WearLimits) -> Wear:
        return Wear(limits, self.telemetry, monotonic=lambda: self.now, memory=lambda: self.rss)


async def test_every_run_counts_however_it_ends() -> None:
    process = Process()
    wear = process.wear(WearLimits(max_jobs=2))
    waiting = asyncio.create_task(wear.worn_out())
    process.telemetry.emit(DONE)
    await asyncio.sleep(0)
    assert not waiting.done()
    process.telemetry.emit(NOT_DONE)
    assert await waiting == "it has run 2 jobs"


async def test_age() -> None:
    process = Process()
    wear = process.wear(WearLimits(max_age_s=3600))
    process.now += 3599
    assert wear.reason() == ""
    process.now += 1
    assert wear.reason() == "it is 1 h old"


async def test_memory() -> None:
    process = Process()
    wear = process.wear(WearLimits(max_rss=512 * MIB))
    process.rss = 511 * MIB
    assert wear.reason() == ""
    process.rss = 512 * MIB
    assert wear.reason() == "it takes 512 MiB of memory"


async def test_a_limit_that_a_fresh_process_exceeds_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than the 80 MiB"):
        Process().wear(WearLimits(max_rss=80 * MIB))


async def test_without_limits_nothing_wears_out() -> None:
    process = Process()
    wear = process.wear(WearLimits())
    process.telemetry.emit(DONE)
    process.now += 1e9
    process.rss = 1 << 50
    assert not WearLimits().any
    assert wear.reason() == ""
    assert not process.telemetry.wants(JobDone)


def test_the_memory_of_this_process_is_measured() -> None:
    before = resident_bytes()
    block = b"x" * (64 * MIB)
    assert 48 * MIB < resident_bytes() - before < 96 * MIB
    assert len(block) == 64 * MIB
