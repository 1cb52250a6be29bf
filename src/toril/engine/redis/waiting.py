"""Waiting for work: one blocked connection per event loop, however many queues wait on it. In a Cluster one per slot.

Once a worker attends, that connection carries its name for its first queue; connections that do nothing else carry the
others. BullMQ counts them as workers (layout section 8.1).

It blocks in BZPOPMIN on the markers of all queues that somebody waits for. When another queue joins, the connection is
nudged by a key of its own, and blocks anew on the longer list. A popped marker is not put back: it means "look", and
who looks sets it again when there is more to do (layout sections 1 and 8.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic

from toril.engine.redis.blocking import BlockingClient
from toril.engine.redis.keys import QueueKeys
from toril.engine.redis.wire import Caller
from toril.errors import EngineUnavailable
from toril.kernel.ids import token_hex

# It blocks for as long as somebody waits, within these bounds: who waits briefly comes back at once, and the watchdog
# of a connection that has died without a word waits for the end of the block.
_SHORTEST_BLOCK_S = 10.0
_LONGEST_BLOCK_S = 300.0
_TOGETHER_S = 0.05
_LOOKS = 10
_NUDGE_KEPT_S = 60


class WorkWaiter:
    """All who wait for work on one event loop, in a Cluster for that of one slot. `blocking` is used for nothing else,
    `control` for everything else; markers of the queues `unheard` may have been popped before.
    """

    def __init__(self, blocking: BlockingClient, control: Caller, unheard: Iterable[str] = ()) -> None:
        self._blocking = blocking
        self._control = control
        self._id = token_hex(6)
        self._waiting: dict[str, list[asyncio.Future[str]]] = {}
        self._until: dict[asyncio.Future[str], float] = {}
        # Queues whose marker was popped when nobody waited any more: the next who comes need not wait.
        self._unheard = set(unheard)
        self._keys: dict[str, QueueKeys] = {}
        self._blocked_on: frozenset[str] = frozenset()
        self._blocked_before: frozenset[str] = frozenset()
        self._nudge_key: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def wait(self, queues: Mapping[str, QueueKeys], timeout: float) -> frozenset[str]:
        """The queues of `queues` that may have work; none after `timeout` seconds.

        Raises EngineUnavailable when the store is away.
        """
        return await wait_together([(self, queues)], timeout)

    def take_unheard(self, queues: Mapping[str, QueueKeys]) -> frozenset[str]:
        """Those of the queues whose marker was popped while nobody waited; each is told once."""
        unheard = self._unheard & queues.keys()
        self._unheard -= unheard
        return frozenset(unheard)

    def join(self, queues: Mapping[str, QueueKeys], future: asyncio.Future[str], timeout: float) -> None:
        """Have `future` say, for `timeout` seconds, which of the queues may have work."""
        self._until[future] = monotonic() + timeout
        for queue, keys in queues.items():
            self._keys[queue] = keys
            self._waiting.setdefault(queue, []).append(future)

    def part(self, queues: Mapping[str, QueueKeys], future: asyncio.Future[str]) -> None:
        """The end of `join`."""
        del self._until[future]
        for queue in queues:
            self._waiting[queue].remove(future)
            if not self._waiting[queue]:
                del self._waiting[queue]

    async def close(self) -> frozenset[str]:
        """Stop waiting. Who still waits is woken. Answers the queues of which a marker may have been popped unheard."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._wake(list(self._waiting))
        return frozenset(self._keys)

    async def make_blocked(self, queues: Mapping[str, QueueKeys]) -> None:
        """See to it that the connection blocks on these queues too."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._block())
        elif self._blocked_on and not self._blocked_on >= queues.keys() and self._nudge_key is not None:
            await self._control.call("ZADD", self._nudge_key, 0, "look")
            await self._control.call("EXPIRE", self._nudge_key, _NUDGE_KEPT_S)

    async def _block(self) -> None:
        """The task: blocks for as long as anybody waits."""
        while queues := self._wanted():
            if self._blocked_before - queues:
                await self._gather()
                continue
            by_marker = {self._keys[queue].of("marker"): queue for queue in sorted(queues)}
            first = self._keys[min(queues)]
            self._nudge_key = f"{first.own}nudge:{self._id}"
            self._blocked_on = queues
            try:
                block_s = self._block_s()
                popped = await self._blocking.wait("BZPOPMIN", *by_marker, self._nudge_key, block_s, block_s=block_s)
            except EngineUnavailable as error:
                self._fail(error)
                return
            finally:
                self._blocked_on = frozenset()
            if popped is None:
                self._blocked_before = queues
            else:
                self._blocked_before = frozenset()
                queue = by_marker.get(popped[0].decode())
                if queue is not None and not self._wake([queue]):
                    self._unheard.add(queue)

    async def _gather(self) -> None:
        """Some look by themselves and come back at once: block for all of them, and not anew for each."""
        before, self._blocked_before = self._blocked_before, frozenset()
        for _ in range(_LOOKS):
            await asyncio.sleep(_TOGETHER_S / _LOOKS)
            if before <= self._wanted():
                return

    def _block_s(self) -> float:
        longest = max(self._until.values(), default=0.0) - monotonic()
        return round(min(max(longest, _SHORTEST_BLOCK_S), _LONGEST_BLOCK_S), 2)

    def _wanted(self) -> frozenset[str]:
        """The queues that somebody waits for who has not been woken yet."""
        return frozenset(
            queue for queue, futures in self._waiting.items() if any(not future.done() for future in futures)
        )

    def _wake(self, queues: list[str]) -> bool:
        """Wake who waits for the queues. False when nobody does."""
        woken = False
        for queue in queues:
            for future in self._waiting.get(queue, ()):
                if not future.done():
                    future.set_result(queue)
                    woken = True
        return woken

    def _fail(self, error: EngineUnavailable) -> None:
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)


async def wait_together(parts: Sequence[tuple[WorkWaiter, Mapping[str, QueueKeys]]], timeout: float) -> frozenset[str]:
    """As `WorkWaiter.wait`, for queues that are waited for on several connections."""
    unheard: frozenset[str] = frozenset().union(*(waiter.take_unheard(queues) for waiter, queues in parts))
    if unheard:
        return unheard
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    for waiter, queues in parts:
        waiter.join(queues, future, timeout)
    try:
        for waiter, queues in parts:
            await waiter.make_blocked(queues)
        await asyncio.wait([future], timeout=timeout)
        return frozenset({future.result()}) if future.done() else frozenset()
    finally:
        future.cancel()
        for waiter, queues in parts:
            waiter.part(queues, future)
