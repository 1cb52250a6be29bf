"""Who does what only one needs to do."""

from __future__ import annotations

import asyncio

from toril.testing.conformance.stage import QUEUE, Cases, Stage

TTL_MS = 10_000
CLOSE_MS = 2_000
"""How far a store's own clock may be from the case's."""


async def hold(stage: Stage, holder: str, queue: str = QUEUE) -> bool:
    """Whether the holder has the lease now."""
    return (await stage.leases.hold(queue, holder, ttl_ms=TTL_MS, now=stage.now)).mine


class LeaseCases(Cases):
    """`LeaseStore`."""

    async def test_one_holder_at_a_time(self, stage: Stage) -> None:
        """Who comes first has it, others learn when it runs out."""
        assert await stage.leases.hold(QUEUE, "a", ttl_ms=TTL_MS, now=stage.now) == (True, TTL_MS)
        mine, left_ms = await stage.leases.hold(QUEUE, "b", ttl_ms=TTL_MS, now=stage.now)
        assert not mine
        assert TTL_MS - CLOSE_MS < left_ms <= TTL_MS
        assert await stage.leases.holders([QUEUE], now=stage.now) == ("a",)

    async def test_a_holder_renews(self, stage: Stage) -> None:
        """Each time it asks the lease lasts its whole time anew."""
        for _ in range(3):
            assert await hold(stage, "a")
            await stage.elapse(TTL_MS - CLOSE_MS)
            assert not await hold(stage, "b")

    async def test_a_lease_runs_out(self, stage: Stage) -> None:
        """Nobody needs to give it back: after its time the next who asks has it, and the old holder has not."""
        assert await hold(stage, "a")
        await stage.elapse(TTL_MS + CLOSE_MS)
        assert await stage.leases.holders([QUEUE], now=stage.now) == (None,)
        assert await hold(stage, "b")
        assert not await hold(stage, "a")
        assert not await stage.leases.release(QUEUE, "a", now=stage.now)
        assert await stage.leases.holders([QUEUE], now=stage.now) == ("b",)

    async def test_a_lease_is_given_back(self, stage: Stage) -> None:
        """The next who asks has it at once; only the holder can give it back."""
        assert await hold(stage, "a")
        assert not await stage.leases.release(QUEUE, "b", now=stage.now)
        assert await stage.leases.release(QUEUE, "a", now=stage.now)
        assert not await stage.leases.release(QUEUE, "a", now=stage.now)
        assert await hold(stage, "b")

    async def test_each_queue_has_its_own(self, stage: Stage) -> None:
        """Also queues that nobody has used yet, and they do not come to be by it."""
        assert await hold(stage, "a", "one")
        assert await hold(stage, "b", "two")
        assert await stage.leases.holders(["two", "none", "one"], now=stage.now) == ("b", None, "a")
        assert await stage.leases.holders([], now=stage.now) == ()
        assert await stage.inspect.queues() == ()

    async def test_of_many_one_has_it(self, stage: Stage) -> None:
        """Of twenty who ask at the same time exactly one gets it, over two engines too."""
        engines = [stage.engine, await stage.second()] if stage.engine.capabilities.shared else [stage.engine]
        asked = (
            engines[number % len(engines)].leases.hold(QUEUE, f"w{number}", ttl_ms=TTL_MS, now=stage.now)
            for number in range(20)
        )
        assert sum(lease.mine for lease in await asyncio.gather(*asked)) == 1

    async def test_a_clock_that_was_set_back(self, stage: Stage) -> None:
        """A lease from the far future keeps nobody away for longer than leases last."""
        assert await hold(stage, "a")
        before = stage.now - 3_600_000
        if not stage.engine.capabilities.own_clock:
            assert (await stage.leases.hold(QUEUE, "b", ttl_ms=TTL_MS, now=before)).mine
        else:
            mine, left_ms = await stage.leases.hold(QUEUE, "b", ttl_ms=TTL_MS, now=before)
            assert not mine
            assert left_ms <= TTL_MS
