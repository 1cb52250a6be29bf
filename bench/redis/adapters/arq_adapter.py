"""arq: polls, so the shortest poll that leaves the processor alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from bench.redis.adapters.protocol import NAP_S, stamp_now
from bench.redis.child import run

_POLL_S = 0.005
_TOGETHER = 50


class ArqAdapter:
    """One queue and one pool."""

    def __init__(self, url: str, slots: int) -> None:
        self._settings = RedisSettings.from_dsn(url)
        self._slots = slots

    async def open(self) -> None:
        self._pool = await create_pool(self._settings)

    async def close(self) -> None:
        await self._pool.aclose()

    async def enqueue(self, task: str, number: int) -> None:
        await self._pool.enqueue_job(task, number)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), _TOGETHER):
            await asyncio.gather(
                *(self._pool.enqueue_job(task, number) for number in numbers[start : start + _TOGETHER])
            )

    def work(self) -> None:
        run(self._work())

    async def _work(self) -> None:
        worker = Worker(
            [func(_noop, name="noop"), func(_nap, name="nap"), func(_stamp, name="stamp")],
            redis_settings=self._settings,
            max_jobs=self._slots,
            poll_delay=_POLL_S,
            max_tries=3,
            handle_signals=False,
        )
        await worker.async_run()


async def _noop(ctx: dict[str, Any], number: int) -> int:
    return number


async def _nap(ctx: dict[str, Any], number: int) -> int:
    await asyncio.sleep(NAP_S)
    return number


async def _stamp(ctx: dict[str, Any], number: int) -> int:
    return stamp_now(number)


make = ArqAdapter
