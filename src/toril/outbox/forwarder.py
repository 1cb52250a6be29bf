"""Sending batches to a store: in order, as often as it takes until each is answered, and once in effect.

That it is once rests on two things: what a batch holds and its id are durable before it is sent for the first time, and
the store answers a batch that it remembers without adding it again.
"""

from __future__ import annotations

import logging

from toril.engine.ports.jobs import Added
from toril.engine.ports.spool import Batch, BatchSource, Fate, Sent
from toril.errors import ConfigError, EngineClosed, EngineError, EngineUnavailable, PayloadError
from toril.kernel.clock import Clock
from toril.outbox.destination import Destination

# The store's clock and ours differ, and it began to remember a little later than we sent.
_MARGIN_MS = 60_000

_log = logging.getLogger("toril.spool")


class Forwarder:
    """Sends what `source` holds to `destination`. One `forward` at a time."""

    def __init__(self, source: BatchSource, destination: Destination, clock: Clock) -> None:
        self._source = source
        self._destination = destination
        self._clock = clock
        self.jobs = 0
        """How many jobs were forwarded since this was made."""

    async def forward(self) -> bool:
        """Send all there is. False when something was left because the store took other queues only.

        Raises EngineUnavailable when the store went away, and what the source raises; what was answered until then is
        settled.
        """
        done: list[Sent] = []
        skip: set[str] = set()
        try:
            while True:
                batches = await self._source.claim(done, now=self._clock.now_ms(), skip=skip)
                done = []
                if not batches:
                    return not skip
                held: set[str] = set()
                for batch in batches:
                    if batch.queue in skip or batch.queue in held:
                        continue
                    sent = await self._send(batch, skip)
                    if sent is None:
                        # What comes after it stays behind it.
                        held.add(batch.queue)
                    else:
                        done.append(sent)
                        self.jobs += len(batch.jobs)
        except EngineUnavailable:
            if done:
                await self._source.settle(done, now=self._clock.now_ms())
            raise

    async def _send(self, batch: Batch, skip: set[str]) -> Sent | None:
        """Send a batch. None when it is not settled by that."""
        if self._clock.now_ms() >= batch.until - _MARGIN_MS:
            return await self._too_old(batch)
        try:
            added = await self._destination.forward(batch.queue, batch.jobs, batch=batch.id, now=batch.now)
        except EngineClosed:
            raise
        except EngineUnavailable as error:
            if not error.partial:
                raise
            # Only the part of the store where this queue lies is away.
            skip.add(batch.queue)
            return None
        except (EngineError, ConfigError) as error:
            # Something is wrong with the store, or with this queue in it, but not with these jobs: they are kept.
            skip.add(batch.queue)
            _log.warning("Jobs of queue %s wait: the store does not take them. %s", batch.queue, error)
            return None
        except (PayloadError, ValueError) as error:
            await self._refused(batch, error)
            return None
        return Sent(batch, _others(batch, added))

    async def _too_old(self, batch: Batch) -> Sent | None:
        """A batch that the store may have forgotten: sending it again could run its jobs twice."""
        ids = [job.id for job in batch.jobs]
        if await self._destination.has_any(batch.queue, ids):
            # Batches are added whole or not at all.
            return Sent(batch, {})
        reason = "it was sent, but never answered, and the store may have forgotten it meanwhile"
        await self._source.set_aside(batch, Fate.UNKNOWN, reason, now=self._clock.now_ms())
        _log.error(
            "Batch %s of queue %s is set aside, because %s: its %d jobs (%s) may have run or not. Decide with "
            "toril spool resend, or toril spool drop.",
            batch.id,
            batch.queue,
            reason,
            len(ids),
            _some(ids),
        )
        return None

    async def _refused(self, batch: Batch, error: Exception) -> None:
        if len(batch.jobs) > 1:
            # One bad job must not keep the others back.
            await self._source.split(batch, now=self._clock.now_ms())
            return
        await self._source.set_aside(batch, Fate.REFUSED, str(error), now=self._clock.now_ms())
        _log.error("Job %s of queue %s is set aside: the store refuses it. %s", batch.jobs[0].id, batch.queue, error)


def _others(batch: Batch, added: Added) -> dict[str, str]:
    return {job.id: id_ for job, id_ in zip(batch.jobs, added.ids, strict=True) if id_ != job.id}


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
