"""`aiocache`, as its documentation shows it, with its serializer for JSON."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from aiocache import Cache, cached
from aiocache.serializers import JsonSerializer

from bench.blocks.child import VALUE, Call


class _Aiocache:
    async def memory_hit(self) -> Call:
        return self._cached(cached(ttl=3600))

    async def store_hit(self, url: str) -> Call:
        place = urlsplit(url)
        options = {"endpoint": place.hostname, "port": place.port, "serializer": JsonSerializer()}
        return self._cached(cached(ttl=3600, cache=Cache.REDIS, **options))

    @staticmethod
    def _cached(decorate: Any) -> Call:
        async def load(user_id: str) -> dict[str, Any]:
            return VALUE

        kept = decorate(load)
        return lambda: kept("42")


CONTESTANT = _Aiocache()
