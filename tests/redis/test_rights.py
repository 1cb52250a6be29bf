"""A user of the server's access control list with no more rights than the documentation names."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import timedelta

from tests.layout.sources import ROOT
from tests.redis.conftest import StartServer
from toril import Context, Fixed, Settings, Toril
from toril.errors import JobFailed
from toril.settings import CacheSettings, LimitSettings

PAGE = ROOT / "docs" / "how-to" / "redis.md"


def documented() -> list[str]:
    """The rules of the ACL line in the documentation, without the password."""
    found = re.search(r"^ACL SETUSER toril (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1].split()


async def test_the_documented_rights_are_enough_for_everything(start_server: StartServer) -> None:
    # S0-28
    rules = documented()
    assert "allcommands" not in rules
    assert "+@all" not in rules
    server = start_server("--user", "toril", *rules, "--user", "default", "off", "--appendonly", "yes")
    patient = Settings(limits=LimitSettings(timeout=30), cache=CacheSettings(timeout=30))
    toril = Toril(f"redis://toril:PASSWORD@127.0.0.1:{server.port}", settings=patient)

    @toril.task(queue="rights", attempts=2, backoff=Fixed(0.05))
    async def work(ctx: Context, n: int) -> int:
        await ctx.progress(50, "half")
        await ctx.log("a line")
        if n == 13:
            raise ValueError("bad luck")
        return n

    queue = toril.queue("rights")
    async with toril:
        async with toril.worker():
            one = await work.enqueue(1)
            assert [event.kind async for event in one.events()][-1] in ("completed", "snapshot")
            assert await one.result(timeout=5) == 1
            with suppress(JobFailed):
                await (await work.enqueue(13)).result(timeout=5)
            slow = await work.with_options(delay=0.1, priority=3).enqueue(4)
            assert await slow.result(timeout=5) == 4
            stats = await toril.stats()
            assert stats.health.ok
            assert stats.workers
            assert stats.health.detail["scripts_loaded"] > 3
        assert (await toril.limit("rights", "5/m").hit("a")).counted == "store"
        await toril.cache.set("a", 1, tags=["t"])
        await toril.cache.invalidate("t")
        assert await toril.cache.get("a") is None
        assert (await toril.cache.stats()).store_ready
        assert await toril.cache.clear() == 1
        await queue.pause()
        waiting = await work.enqueue(5)
        later = await work.with_options(delay=timedelta(hours=1)).enqueue(6)
        assert await later.cancel()
        assert (await waiting.info()) is not None
        assert (await one.logs()).lines
        assert (await queue.counts()).failed == 2
        assert [job async for job in queue.jobs()]
        assert await queue.retry_failed() == 2
        await queue.resume()
        await queue.drain()
        await queue.clean("completed")
        await queue.obliterate(force=True)
        assert (await queue.counts()).total == 0
    await asyncio.sleep(0)
