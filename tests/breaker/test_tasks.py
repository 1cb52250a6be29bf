"""Tasks that are bound to a breaker."""

import asyncio
from typing import Any

import pytest

from tests.breaker.site import until
from toril import Job, JobHandle, RateLimited, Toril
from toril.errors import ConfigError
from toril.jobs.states import State
from toril.tasks.guarded import breaker_of
from toril.testing.clock import ManualClock

pytestmark = pytest.mark.timeout(60)


async def told(handle: JobHandle[Any]) -> Job:
    job = await handle.info()
    assert job is not None
    return job


# S4-14, A21
async def test_jobs_are_parked_while_it_is_open_and_resumed_by_probes() -> None:
    """No attempt is burned; when the time is over as many as there are probes are tried, then all."""
    clock, works, runs = ManualClock(), False, 0
    toril = Toril("sqlite://", clock=clock)
    breaker = toril.breaker("api", volume=2, reset_after=30)

    @toril.task(attempts=2, breaker="api", backoff=None)
    async def ask(number: int) -> int:
        nonlocal runs
        runs += 1
        if not works:
            raise ValueError("it is down")
        return number

    async with toril, toril.worker(concurrency=4):
        first = await ask.enqueue(0)
        await until(lambda: breaker.opened)
        await toril.breakers.told()
        more = [await ask.enqueue(number) for number in range(1, 4)]

        async def parked() -> int:
            jobs = [await told(handle) for handle in more]
            return sum(job.state is State.DELAYED for job in jobs)

        async with asyncio.timeout(30):
            while await parked() < 3:
                await asyncio.sleep(0)
        assert runs == 2
        assert (await told(first)).state is State.FAILED
        for job in [await told(handle) for handle in more]:
            assert (job.attempts_made, job.history[-1].outcome) == (0, "snooze")
            assert job.due is not None
            assert 30_000 <= job.due - clock.now_ms() <= 33_000
        works = True
        clock.advance_ms(33_001)
        while not all([(await told(handle)).state is State.COMPLETED for handle in more]):
            # Who met a probe under way has been put off once more.
            clock.advance_ms(1_500)
            await toril.engine.inspect.promote("default", [handle.id for handle in more], now=clock.now_ms())
            await asyncio.sleep(0)
        assert [await handle.result(timeout=30) for handle in more] == [1, 2, 3]
        assert breaker.state == "closed"
        assert all([(await told(handle)).attempts_made == 1 for handle in more])


async def test_who_is_told_to_come_back_has_met_no_failure() -> None:
    """A rate limit elsewhere opens nothing."""
    toril = Toril("sqlite://")
    breaker = toril.breaker("api", volume=1)

    @toril.task(breaker=breaker)
    async def ask() -> None:
        raise RateLimited(in_=60)

    async with toril, toril.worker():
        handle = await ask.enqueue()
        async with asyncio.timeout(30):
            while not (await told(handle)).history:
                await asyncio.sleep(0)
        assert (breaker.state, breaker.stats.calls) == ("closed", 0)


async def test_only_a_breaker_or_the_name_of_one_will_do() -> None:
    toril = Toril("sqlite://")
    with pytest.raises(ConfigError, match="breaker"):
        toril.task(breaker="\n")(_nothing)
    with pytest.raises(ConfigError, match="breaker"):
        breaker_of("api", None)
    bound = toril.task(breaker="later")(_nothing)
    assert bound.breaker is toril.breaker("later", volume=3)
    await toril.close()


async def _nothing() -> None:
    """Do nothing."""
