"""`LimitStore` on Redis: one script, by the server's clock. What is asked in one turn of the event loop is one call."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from toril.engine.ports.limits import Check, LimitStore, Verdict
from toril.engine.ports.metering import check_key
from toril.engine.redis.clients import Clients
from toril.engine.redis.keys import Keys
from toril.engine.redis.replies import ReplyError
from toril.engine.redis.scripts import load, run
from toril.engine.redis.wire import Caller
from toril.errors import EngineUnavailable

_TAKE = load("limits/take")
_MOST_JOINED = 200

Arg = str | int


class _Demand(NamedTuple):
    """What one caller asks, as arguments of the script."""

    args: list[Arg]
    checks: int
    future: asyncio.Future[Sequence[int]]


class RedisLimitStore:
    """What was counted, on one Redis."""

    def __init__(self, clients: Clients, keys: Keys) -> None:
        self._clients = clients
        self._keys = keys
        self._lines: WeakKeyDictionary[Caller, _Line] = WeakKeyDictionary()

    async def take(
        self, checks: Sequence[Check], *, now: int, count: bool = True, timeout_s: float | None = None
    ) -> tuple[Verdict, ...]:
        if not checks:
            return ()
        args = self._args(checks)
        if self._keys.cluster and len(checks) > 1:
            return await self._one_by_one(checks, now=now, count=count, timeout_s=timeout_s)
        if not count or self._keys.cluster:
            key = str(args[1])
            return _verdicts(await self._clients.run(_TAKE, key, int(count), *args, timeout_s=timeout_s))
        client = await self._clients.client()
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = _Line(client)
        return _verdicts(await self._clients.guarded(line.ask(args, len(checks), timeout_s)))

    async def reset(self, keys: Sequence[str]) -> int:
        named = [self._named(key) for key in keys]
        return int(await self._clients.call("DEL", *named)) if named else 0

    async def _one_by_one(
        self, checks: Sequence[Check], *, now: int, count: bool, timeout_s: float | None
    ) -> tuple[Verdict, ...]:
        """In a Cluster keys lie on several servers: all are asked before any is counted."""

        async def each(count: bool) -> tuple[Verdict, ...]:
            parts = [self.take([check], now=now, count=count, timeout_s=timeout_s) for check in checks]
            return tuple(itertools.chain.from_iterable(await asyncio.gather(*parts)))

        asked = await each(False)
        return await each(True) if count and not any(verdict.retry_ms for verdict in asked) else asked

    def _args(self, checks: Sequence[Check]) -> list[Arg]:
        args: list[Arg] = [len(checks)]
        for key, most, per_ms, burst, cost in checks:
            args += (self._named(key), most, per_ms * 1000, burst, cost)
        return args

    def _named(self, key: str) -> str:
        check_key(key)
        return self._keys.meter(key)


class _Line:
    """What is asked on one connection. A caller alone is sent at once; who comes while answers are awaited is joined
    with the others of that turn of the loop.
    """

    def __init__(self, client: Caller) -> None:
        self._client = client
        self._waiting: list[_Demand] = []
        self._timeout_s: float | None = None
        self._under_way = 0
        self._teaching: set[asyncio.Task[None]] = set()

    async def ask(self, args: list[Arg], checks: int, timeout_s: float | None) -> Sequence[int]:
        loop = asyncio.get_running_loop()
        demand = _Demand(args, checks, loop.create_future())
        if self._waiting and (timeout_s != self._timeout_s or len(self._waiting) >= _MOST_JOINED):
            self._flush()
        self._timeout_s = timeout_s
        if not self._under_way and not self._waiting:
            self._send([demand], timeout_s)
        else:
            self._waiting.append(demand)
            if len(self._waiting) == 1:
                loop.call_soon(self._flush)
        return await demand.future

    def _flush(self) -> None:
        # Those who have gone meanwhile do not count.
        demands = [demand for demand in self._waiting if not demand.future.done()]
        self._waiting = []
        if demands:
            self._send(demands, self._timeout_s)

    def _send(self, demands: list[_Demand], timeout_s: float | None) -> None:
        args: list[Arg] = [1]
        for demand in demands:
            args += demand.args
        key = str(demands[0].args[1])
        self._under_way += 1
        call = self._client.call(b"EVALSHA", _TAKE.digest, 1, key, *args, timeout_s=timeout_s, repeatable=True)

        def answered(call: asyncio.Future[Any]) -> None:
            error = call.exception()
            if isinstance(error, ReplyError) and error.code == "NOSCRIPT":
                # Teaching the server its script needs a second call.
                teaching = call.get_loop().create_task(self._teach(demands, key, args, timeout_s))
                self._teaching.add(teaching)
                teaching.add_done_callback(self._teaching.discard)
                return
            self._under_way -= 1
            _tell(demands, None if error else call.result(), error)

        call.add_done_callback(answered)

    async def _teach(self, demands: list[_Demand], key: str, args: list[Arg], timeout_s: float | None) -> None:
        try:
            reply = await run(self._client, _TAKE, (key,), *args, timeout_s=timeout_s)
        except (ReplyError, EngineUnavailable) as error:
            _tell(demands, None, error)
        else:
            _tell(demands, reply, None)
        finally:
            self._under_way -= 1


def _tell(demands: list[_Demand], reply: Any, error: BaseException | None) -> None:
    at = 0
    for demand in demands:
        end = at + 3 * demand.checks
        if not demand.future.done():
            if error is not None:
                demand.future.set_exception(_of_one(error))
            else:
                demand.future.set_result(reply[at:end])
        at = end


def _of_one(error: BaseException) -> BaseException:
    """The error for one of several callers: each gets one of its own, with its own traceback."""
    if isinstance(error, EngineUnavailable):
        return EngineUnavailable(str(error), ambiguous=error.ambiguous)
    return error


def _verdicts(numbers: Sequence[int]) -> tuple[Verdict, ...]:
    if len(numbers) == 3:
        return (Verdict(*numbers),)
    return tuple([Verdict(*numbers[at : at + 3]) for at in range(0, len(numbers), 3)])


_: type[LimitStore] = RedisLimitStore
