"""An engine whose replies get lost, as those of a server do."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from toril.engine.ports.jobs import Exchanged, Finish
from toril.engine.protocol import Engine
from toril.errors import EngineUnavailable


class FaultyStore:
    """A `JobStore` that forwards everything and loses what `fails` says, before or after it was done."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.lose_reply: Callable[[str], bool] = lambda method: False
        self.refuse: Callable[[str], bool] = lambda method: False
        self.exchanges: list[tuple[int, str, tuple[Finish, ...], int]] = []

    async def exchange(self, queue: str, **given: Any) -> Exchanged:
        self.exchanges.append((given["seq"], given["token"], tuple(given["finished"]), given["want"]))
        answer: Exchanged = await self._forward("exchange", queue, **given)
        return answer

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._forward(name, *args, **kwargs)

        return call

    async def _forward(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if self.refuse(method):
            raise EngineUnavailable(f"{method}: the test took the store away")
        answer = await getattr(self._inner, method)(*args, **kwargs)
        if self.lose_reply(method):
            raise EngineUnavailable(f"{method}: the test lost the reply")
        return answer


def with_faults(engine: Engine) -> tuple[Engine, FaultyStore]:
    """The same engine with a `FaultyStore` for its jobs."""
    store = FaultyStore(engine.jobs)
    parts = {
        name: getattr(engine, name) for name in ("inspect", "keyvalue", "bus", "flows", "leases", "name", "location")
    }
    return cast(Engine, SimpleNamespace(jobs=store, **parts)), store


def once_each(methods: Sequence[str]) -> Callable[[str], bool]:
    """Every second call of each of `methods` fails."""
    counts = dict.fromkeys(methods, 0)

    def fails(method: str) -> bool:
        if method not in counts:
            return False
        counts[method] += 1
        return counts[method] % 2 == 1

    return fails
