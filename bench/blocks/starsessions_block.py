"""`starsessions`, as its documentation shows it, with sessions loaded for every request."""

from __future__ import annotations

from redis.asyncio import Redis
from starsessions import SessionAutoloadMiddleware, SessionMiddleware
from starsessions.stores.redis import RedisStore

from bench.blocks.child import Call
from bench.blocks.requests import Browser, page


class _Starsessions:
    async def session(self, url: str) -> Call:
        store = RedisStore(connection=Redis.from_url(url))
        browser = Browser(SessionMiddleware(SessionAutoloadMiddleware(page), store=store, lifetime=86_400))
        await browser.get("/begin")
        return browser.get


CONTESTANT = _Starsessions()
