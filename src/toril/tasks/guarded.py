"""Runs of tasks that are bound to a circuit breaker."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from toril.breaker.breaker import Breaker
from toril.errors import BreakerOpen, ConfigError
from toril.jobs.signals import RateLimited, Snooze
from toril.tasks.context import Context
from toril.tasks.middleware import RunNext

BreakerNamed = Callable[[str], Breaker]
_SPREAD = 0.1


class Guarded:
    """Middleware around the runs of one task: while its breaker is open they are put off, no attempt burned, and the
    first ones afterwards are its probes. The job's own timeout holds, not the breaker's.
    """

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    async def __call__(self, ctx: Context, arguments: dict[str, Any], call_next: RunNext) -> Any:
        breaker = self._breaker
        try:
            ticket = await breaker.enter(limited=False)
        except BreakerOpen as refused:
            # Not all at the same moment.
            wait_s = refused.retry_after * (1 + _SPREAD * random.random())
            raise Snooze(wait_s, str(refused)) from refused
        try:
            result = await call_next(ctx, arguments)
        except BaseException as error:
            # Who was told to come back later has met nothing that fails.
            await breaker.leave(ticket, error, tells=not isinstance(error, Snooze | RateLimited | BreakerOpen))
            raise
        await breaker.leave(ticket, None)
        return result


def breaker_of(given: Breaker | str | None, named: BreakerNamed | None) -> Breaker | None:
    """The breaker that a task names. Raises ConfigError."""
    if given is None or isinstance(given, Breaker):
        return given
    if named is None or not isinstance(given, str):
        raise ConfigError(f"breaker: expected one made by toril.breaker(…), or the name of one, got {given!r}.")
    return named(given)
