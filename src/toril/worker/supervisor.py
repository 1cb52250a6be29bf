"""Several worker processes under one parent: started, started again when they crash, replaced when they are worn out or
when new code is to be used, and stopped together.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from toril.kernel.backoff import wait_s
from toril.kernel.telemetry import (
    LoopFailed,
    ProcessEnded,
    ProcessReplaced,
    ProcessStarted,
    ReplacementFailed,
    RollEnded,
    SourcesChanged,
    Telemetry,
)
from toril.worker.offspring import Offspring
from toril.worker.shutdown import StopSignals

T = TypeVar("T")

WRONG_USE = 2
"""The exit code of a child that cannot start at all, such as one with a wrong option."""

_HEALTHY_AFTER_S = 30.0
_LONGEST_WAIT_S = 10.0
_KILL_AFTER_S = 5.0
_READY_WITHIN_S = 60.0
_ANOTHER_TRY_S = 30.0
_ROLL = "a rolling restart"


def worker_command(app: str, *arguments: str) -> list[str]:
    """The command of one worker process of `app`, such as `"app:toril"`."""
    return [sys.executable, "-m", "toril", "worker", app, *arguments]


def run_processes(
    command: Sequence[str],
    count: int,
    *,
    shutdown_timeout_s: float,
    telemetry: Telemetry | None = None,
    changes: Callable[[], AsyncIterator[Sequence[str]]] | None = None,
) -> int:
    """Keep `count` processes of `command` running until SIGTERM or SIGINT, and answer the exit code: 0 after a signal,
    2 when the first children say that they cannot start.

    Crashed children are started again with a growing wait. A child that says it is worn out is replaced; at SIGHUP, and
    whenever `changes` yields the names of files, all are, one after another: a successor must be ready before the old
    one is asked to stop, and when it does not get ready the old ones are kept. Signals are passed on; children that are
    still there some seconds after `shutdown_timeout_s` are killed.
    """
    supervisor = Supervisor(command, count, shutdown_timeout_s=shutdown_timeout_s, telemetry=telemetry or Telemetry())
    return run(supervisor.run(None if changes is None else changes()))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a new event loop, on uvloop where it is installed, and end even if a handler will not.

    `asyncio.run` waits for every task at the end; a handler that refuses to be cancelled would keep the process.
    """
    with _runner() as runner:
        try:
            return runner.run(main)
        finally:
            runner.run(_leave_behind())


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _leave_behind() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        _, stuck = await asyncio.wait(tasks, timeout=1.0)
        if stuck:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


class Place:
    """Room for one child, and who has it. `settled` is cleared while a successor is on its way."""

    def __init__(self) -> None:
        self.child: Offspring | None = None
        self.settled = asyncio.Event()
        self.settled.set()


class Supervisor:
    """The parent of some worker processes."""

    def __init__(self, command: Sequence[str], count: int, *, shutdown_timeout_s: float, telemetry: Telemetry) -> None:
        self._command = tuple(command)
        self._patience_s = max(0.0, shutdown_timeout_s + _KILL_AFTER_S)
        self._telemetry = telemetry
        self._places = [Place() for _ in range(count)]
        self._children: set[Offspring] = set()
        self._generation = 0
        self._rolled = 0
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._ever_ready = False
        self._code = 0

    async def run(self, changes: AsyncIterator[Sequence[str]] | None = None) -> int:
        """Work until a signal arrives; answers the exit code."""
        with StopSignals(self.ask_to_stop, on_hangup=self.ask_to_roll):
            tasks = [asyncio.create_task(self._keep(place)) for place in self._places]
            tasks.append(asyncio.create_task(self._tend()))
            follower = None if changes is None else asyncio.create_task(self._follow(changes))
            await self._stopping.wait()
            if follower is not None:
                follower.cancel()
            everything = asyncio.gather(*tasks)
            try:
                async with asyncio.timeout(self._patience_s):
                    await asyncio.shield(everything)
            except TimeoutError:
                for child in list(self._children):
                    child.kill()
                await everything
        return self._code

    def ask_to_stop(self, *, now: bool = False) -> None:
        """Pass a stop on to the children; with `now` they stop at once."""
        self._stopping.set()
        self._changed.set()
        for child in list(self._children):
            child.stop(now=now)

    def ask_to_roll(self) -> None:
        """Replace all children, one after another."""
        self._generation += 1
        self._changed.set()

    async def _keep(self, place: Place) -> None:
        """See to it that there is a child in a place."""
        failures = 0
        while not self._stopping.is_set():
            try:
                place.child = await self._start()
            except OSError as error:
                # No process, no memory, no file to be had: that passes, and the place must not stay empty for ever.
                failures += 1
                await self._rest(self._refused(error, failures))
                continue
            child, code = await self._last_of(place)
            lived_s = time.monotonic() - child.began
            failures = 1 if lived_s > _HEALTHY_AFTER_S else failures + 1
            # Later on it is the new code or the surroundings that are wrong: the others go on as they are.
            if code == WRONG_USE and not self._ever_ready and not self._stopping.is_set():
                self._code = WRONG_USE
                self.ask_to_stop()
            stopping = self._stopping.is_set()
            wait = _wait_after(failures)
            self._telemetry.emit(ProcessEnded("worker", child.pid, code, None if stopping else wait))
            if not stopping:
                await self._rest(wait)

    async def _rest(self, seconds: float) -> None:
        """Wait, unless it is time to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _refused(self, error: OSError, failures: int) -> float:
        """The system would not start a process: say so, and answer for how long to leave it alone."""
        wait = _wait_after(failures)
        self._telemetry.emit(LoopFailed("supervisor", "start of a worker process", error, wait))
        return wait

    async def _last_of(self, place: Place) -> tuple[Offspring, int]:
        """Wait until a child has ended that nobody replaces; answers it and its exit code."""
        while True:
            child = place.child
            assert child is not None  # noqa: S101 - the caller has put one there
            code = await child.ended
            self._children.discard(child)
            await place.settled.wait()
            if place.child is child:
                return child, code
            self._telemetry.emit(ProcessEnded("worker", child.pid, code, None))

    async def _start(self) -> Offspring:
        child = await Offspring.start(self._command, generation=self._generation, changed=self._heard)
        self._children.add(child)
        self._telemetry.emit(ProcessStarted("worker", child.pid))
        if self._stopping.is_set():
            child.stop()
        return child

    def _heard(self) -> None:
        self._ever_ready = True
        self._changed.set()

    # replacing

    async def _follow(self, changes: AsyncIterator[Sequence[str]]) -> None:
        async for files in changes:
            self._telemetry.emit(SourcesChanged(tuple(files)))
            self.ask_to_roll()

    async def _tend(self) -> None:
        """Replace children that are worn out or of an older generation, one at a time."""
        while not self._stopping.is_set():
            self._changed.clear()
            place, reason = self._next_to_replace()
            if place is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ANOTHER_TRY_S):
                        await self._changed.wait()
            elif await self._replace(place, reason):
                self._rolled += reason is _ROLL
            elif not self._stopping.is_set():
                self._keep_as_it_is(place, reason)

    def _next_to_replace(self) -> tuple[Place | None, str]:
        now = time.monotonic()
        for place in self._places:
            child = place.child
            if child is not None and child.is_alive and child.generation < self._generation:
                return place, _ROLL
        if self._rolled:
            rolled, self._rolled = self._rolled, 0
            self._telemetry.emit(RollEnded(rolled, kept=0))
        for place in self._places:
            child = place.child
            if child is not None and child.is_alive and child.worn and child.rests_until <= now:
                return place, child.worn
        return None, ""

    async def _replace(self, place: Place, reason: str) -> bool:
        """Start a successor, and stop the old one when it is ready. False when it did not get ready."""
        old = place.child
        assert old is not None  # noqa: S101 - the caller has looked
        place.settled.clear()
        try:
            try:
                new = await self._start()
            except OSError as error:
                self._refused(error, 1)
                return False
            if not await new.until_ready(_READY_WITHIN_S):
                await new.end(self._patience_s)
                self._children.discard(new)
                code = new.ended.result()
                self._telemetry.emit(ProcessEnded("worker", new.pid, code, None))
                if not self._stopping.is_set():
                    self._telemetry.emit(ReplacementFailed(old.pid, new.pid, code, reason))
                return False
            place.child = new
        finally:
            place.settled.set()
        self._telemetry.emit(ProcessReplaced(old.pid, new.pid, reason))
        await old.end(self._patience_s)
        return True

    def _keep_as_it_is(self, place: Place, reason: str) -> None:
        if reason is not _ROLL:
            if place.child is not None:
                place.child.rests_until = time.monotonic() + _ANOTHER_TRY_S
            return
        rolled, self._rolled = self._rolled, 0
        kept = 0
        for each in self._places:
            if each.child is not None and each.child.generation < self._generation:
                each.child.generation = self._generation
                kept += 1
        self._telemetry.emit(RollEnded(rolled, kept))


def _wait_after(failures: int) -> float:
    return wait_s(failures, base_s=0.2, cap_s=_LONGEST_WAIT_S, jitter=0.5)
