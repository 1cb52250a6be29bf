"""Start and stop stress that every `Service` must survive.

    async def test_my_service() -> None:
        await stress(lambda: MyService(...))

Each scenario gets a service of its own. Afterwards no task and no thread of Toril may be left that was not there
before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from toril.kernel.service import Service

Make = Callable[[], Service]
Scenario = Callable[[Service], Awaitable[None]]

DEADLINE_S = 5.0
"""Seconds within which a start or a stop must be done, in a test, where nothing is slow."""


async def stress(make: Make, *, rounds: int = 3, deadline_s: float = DEADLINE_S) -> None:
    """Run every scenario. Raises AssertionError that names the scenario which a service did not survive."""
    for scenario in SCENARIOS:
        before, threads = asyncio.all_tasks(), set(threading.enumerate())
        service = make()
        try:
            async with asyncio.timeout(deadline_s * rounds):
                for _ in range(rounds):
                    await scenario(service)
        except TimeoutError:
            raise AssertionError(f"{_said(scenario, service)}: it hangs") from None
        finally:
            async with asyncio.timeout(deadline_s):
                await service.stop()
        assert not runs(service), f"{_said(scenario, service)}: it still runs"
        left = sorted(task.get_name() for task in asyncio.all_tasks() - before)
        assert left == [], f"{_said(scenario, service)}: it left tasks behind: {', '.join(left)}"
        lasting = [each.name for each in set(threading.enumerate()) - threads if await _lasts(each, deadline_s)]
        assert lasting == [], f"{_said(scenario, service)}: it left threads behind: {', '.join(sorted(lasting))}"


def runs(service: Service) -> bool:
    """Whether a service runs now; a call, since a type checker takes an attribute for unchanged over an await."""
    return service.is_running


async def starts_and_stops(service: Service) -> None:
    """Starts, says that it has started, stops, and says that it is finished."""
    await service.start()
    assert runs(service), "start returned before it ran"
    await service.started()
    await service.stop()
    assert not runs(service), "stop returned while it ran"
    await service.finished()


async def stops_before_it_starts(service: Service) -> None:
    """A stop without a start does nothing, and does not keep it from starting later."""
    await service.stop()
    await service.start()
    await service.stop()


async def does_all_twice(service: Service) -> None:
    """The second start and the second stop find it done."""
    await service.start()
    await service.start()
    assert runs(service)
    await service.stop()
    await service.stop()


async def is_started_by_many(service: Service) -> None:
    """Starts at the same time are one start, stops at the same time are one stop."""
    await asyncio.gather(*(service.start() for _ in range(5)))
    assert runs(service)
    await asyncio.gather(*(service.stop() for _ in range(5)))
    assert not runs(service)


async def is_stopped_while_it_starts(service: Service) -> None:
    """A stop that comes in the middle of a start leaves nothing half done."""
    start = asyncio.create_task(service.start())
    await asyncio.sleep(0)
    await service.stop()
    await start
    await service.stop()
    assert not runs(service)


async def is_cancelled_while_it_starts(service: Service) -> None:
    """A start that is cancelled has either happened or not; both can be stopped and started again."""
    start = asyncio.create_task(service.start())
    await asyncio.sleep(0)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await service.stop()
    await service.start()
    assert runs(service)
    await service.stop()


async def is_started_and_stopped_at_once(service: Service) -> None:
    """Starts and stops in any order at the same time end in one of the two, and a last stop ends it."""
    await asyncio.gather(*(call() for _ in range(4) for call in (service.start, service.stop)))
    await service.stop()
    assert not runs(service)


async def is_waited_for(service: Service) -> None:
    """Who waits for the start and for the end is told of both."""
    waiting = asyncio.create_task(service.started())
    await asyncio.sleep(0)
    await service.start()
    await waiting
    ending = asyncio.create_task(service.finished())
    await asyncio.sleep(0)
    assert not ending.done(), "finished returned while it ran"
    await service.stop()
    await ending


async def is_a_context(service: Service) -> None:
    """It runs inside `async with`, and no longer than that, also when the body raises."""
    try:
        async with service:
            assert runs(service)
            raise LookupError
    except LookupError:
        assert not runs(service)
    else:
        raise AssertionError("async with kept the error of its body to itself")


SCENARIOS: tuple[Scenario, ...] = (
    starts_and_stops,
    stops_before_it_starts,
    does_all_twice,
    is_started_by_many,
    is_stopped_while_it_starts,
    is_cancelled_while_it_starts,
    is_started_and_stopped_at_once,
    is_waited_for,
    is_a_context,
)


async def _lasts(thread: threading.Thread, deadline_s: float) -> bool:
    """Whether a thread goes on; the event loop keeps some for later, which are not the service's."""
    if not thread.name.startswith("toril"):
        return False
    await asyncio.to_thread(thread.join, deadline_s)
    return thread.is_alive()


def _said(scenario: Scenario, service: Service) -> str:
    return f"{type(service).__name__}, {getattr(scenario, '__name__', 'scenario').replace('_', ' ')}"
