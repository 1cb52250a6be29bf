"""Toril, with its defaults; for hits on the server without values in memory."""

from __future__ import annotations

from typing import Any

from bench.blocks.child import TAGGED, VALUE, Call, nothing
from bench.blocks.fanout import deliveries_per_s
from bench.blocks.requests import Browser, page
from toril import Settings, Toril
from toril.settings import CacheSettings, SessionSettings
from toril.web import SessionMiddleware


class _Toril:
    async def limit(self, url: str) -> Call:
        limit = Toril(url).limit("bench", "100000000/15m")
        return lambda: limit.hit("1.2.3.4")

    async def memory_hit(self) -> Call:
        call = self._cached(Toril("sqlite://"))
        await call()
        return call

    async def store_hit(self, url: str) -> Call:
        return self._cached(Toril(url, settings=Settings(cache=CacheSettings(local_entries=0))))

    async def tagged(self, url: str) -> Call:
        toril = Toril(url)
        for at in range(0, TAGGED, 1_000):
            await toril.cache.set_many({f"k{number}": number for number in range(at, at + 1_000)}, tags=["all"])
        return lambda: toril.cache.invalidate("all")

    async def session(self, url: str) -> Call:
        toril = Toril(url, settings=Settings(sessions=SessionSettings(secret="s" * 40)))
        browser = Browser(SessionMiddleware(page, sessions=toril.sessions))
        await browser.get("/begin")
        return browser.get

    async def fan_out(self) -> float:
        return 1e6 / await deliveries_per_s(1_000)

    async def breaker(self, reset_s: float) -> Call:
        breaker = Toril("sqlite://").breaker("api", volume=5, reset_after=reset_s)
        return lambda function=nothing: breaker.call(function)

    @staticmethod
    def _cached(toril: Toril) -> Call:
        @toril.cached(ttl="1h")
        async def load(user_id: str) -> dict[str, Any]:
            return VALUE

        return lambda: load("42")


CONTESTANT = _Toril()
