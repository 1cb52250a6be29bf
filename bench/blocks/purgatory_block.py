"""`purgatory`, its asyncio side, with the state in memory."""

from __future__ import annotations

from purgatory import AsyncCircuitBreakerFactory

from bench.blocks.child import Call, nothing


class _Purgatory:
    async def breaker(self, reset_s: float) -> Call:
        factory = AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=reset_s)

        async def call(function: Call = nothing) -> object:
            async with await factory.get_breaker("api"):
                return await function()

        return call


CONTESTANT = _Purgatory()
