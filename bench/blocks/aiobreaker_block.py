"""`aiobreaker`, with the state in memory."""

from __future__ import annotations

from datetime import timedelta

from aiobreaker import CircuitBreaker

from bench.blocks.child import Call, nothing


class _Aiobreaker:
    async def breaker(self, reset_s: float) -> Call:
        breaker = CircuitBreaker(fail_max=5, timeout_duration=timedelta(seconds=reset_s))
        return lambda function=nothing: breaker.call_async(function)


CONTESTANT = _Aiobreaker()
