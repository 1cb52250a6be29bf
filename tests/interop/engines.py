"""How the tests here open Toril's engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from toril.engine.protocol import Engine
from toril.engine.redis.engine import RedisEngine


@asynccontextmanager
async def opened(url: str, *, wire: str = "auto") -> AsyncIterator[Engine]:
    """A started Redis engine, closed at the end."""
    engine = RedisEngine(url, wire=wire)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
