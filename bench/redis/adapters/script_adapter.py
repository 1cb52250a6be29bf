"""The floor for Toril's worker: the same batched script on the same layout, called over and over, without tasks,
slots, locks to renew or handlers in between.
"""

from __future__ import annotations

from bench.redis.adapters.protocol import QUEUE
from bench.redis.adapters.toril_adapter import TorilAdapter
from toril.engine.ports.jobs import Finish
from toril.jobs.outcome import Done

_LOCK_MS = 15_000


class ScriptAdapter(TorilAdapter):
    """Enqueues as Toril does; its worker is a bare loop."""

    async def _work(self) -> None:
        await self._toril.start()
        jobs, clock = self._toril.engine.jobs, self._toril.clock
        ended: tuple[Finish, ...] = ()
        seq = 0
        while True:
            seq += 1
            token, now = f"script:{seq}", clock.now_ms()
            answer = await jobs.exchange(
                QUEUE,
                worker="script",
                seq=seq,
                token=token,
                finished=ended,
                want=self._slots,
                lock_ms=_LOCK_MS,
                now=now,
            )
            ended = tuple(Finish(job.id, token, Done("1"), now, now) for job in answer.jobs)
            if not ended:
                await jobs.wait_for_work([QUEUE], timeout=5)


make = ScriptAdapter
