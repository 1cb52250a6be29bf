"""The heartbeat on a real server: it needs neither the worker's event loop nor its connection."""

import threading
import time

from tests.redis.server import RedisServer
from tests.worker.workshop import Workshop
from toril.engine.redis.client import RedisClient
from toril.kernel.telemetry import JobLockLost, LoopBlocked, PortCalled


async def test_a_blocked_loop_does_not_keep_locks_from_being_renewed(
    shared_server: RedisServer, client: RedisClient
) -> None:  # A03
    shop = Workshop(shared_server.url)
    renewed: list[PortCalled] = []

    def note(event: PortCalled) -> None:
        if event.method == "renew" and event.error is None:
            renewed.append(event)

    shop.toril.telemetry.subscribe(note, PortCalled)

    @shop.toril.task()
    async def rude() -> int:
        begun, patience = len(renewed), time.monotonic() + 30
        while len(renewed) < begun + 3 and time.monotonic() < patience:
            # Nothing that the worker's loop has to read can arrive meanwhile.
            threading.Event().wait(0.01)
        return len(renewed) - begun

    async with shop.toril:
        handle = await rude.enqueue()
        async with shop.worker(heartbeat_ms=150, blocked_after_s=0.2):
            job = await shop.finished(handle.id)
    assert int(job.result or 0) >= 3
    assert (job.stalls, job.starts) == (0, 1)
    assert not any(isinstance(event, JobLockLost) for event in shop.told)
    [blocked] = [event for event in shop.told if isinstance(event, LoopBlocked)]
    assert (blocked.job_id, blocked.name) == (handle.id, "rude")
    assert "in rude" in blocked.stack
