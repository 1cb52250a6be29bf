"""Several worker processes under one parent: started, started again when they crash, and stopped together."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from toril.kernel.backoff import wait_s
from toril.kernel.telemetry import ProcessEnded, ProcessStarted, Telemetry
from toril.worker.shutdown import StopSignals

T = TypeVar("T")

PARENT_VARIABLE = "TORIL_SUPERVISOR_PID"
WRONG_USE = 2
"""The exit code of a child that cannot start at all, such as one with a wrong option; it is not started again."""

_HEALTHY_AFTER_S = 30.0
_LONGEST_WAIT_S = 10.0
_KILL_AFTER_S = 5.0


def worker_command(app: str, *arguments: str) -> list[str]:
    """The command of one worker process of `app`, such as `"app:toril"`."""
    return [sys.executable, "-m", "toril", "worker", app, *arguments]


def run_processes(
    command: Sequence[str],
    count: int,
    *,
    shutdown_timeout_s: float,
    telemetry: Telemetry | None = None,
) -> int:
    """Keep `count` processes of `command` running until SIGTERM or SIGINT, and answer the exit code: 0 after a signal,
    2 when a child says that it cannot start.

    Crashed children are started again with a growing wait. Signals are passed on; children that are still there some
    seconds after `shutdown_timeout_s` are killed. Children find this process in `TORIL_SUPERVISOR_PID`.
    """
    supervisor = Supervisor(command, count, shutdown_timeout_s=shutdown_timeout_s, telemetry=telemetry or Telemetry())
    return run(supervisor.run())


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


class Supervisor:
    """The parent of some worker processes."""

    def __init__(self, command: Sequence[str], count: int, *, shutdown_timeout_s: float, telemetry: Telemetry) -> None:
        self._command = tuple(command)
        self._count = count
        self._shutdown_timeout_s = shutdown_timeout_s
        self._telemetry = telemetry
        self._children: set[Process] = set()
        self._stopping = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Work until a signal arrives; answers the exit code."""
        with StopSignals(self.ask_to_stop):
            keepers = [asyncio.create_task(self._keep()) for _ in range(self._count)]
            await self._stopping.wait()
            everything = asyncio.gather(*keepers)
            try:
                async with asyncio.timeout(self._shutdown_timeout_s + _KILL_AFTER_S):
                    await asyncio.shield(everything)
            except TimeoutError:
                for child in list(self._children):
                    child.kill()
                await everything
        return self._code

    def ask_to_stop(self, *, now: bool = False) -> None:
        """Pass a stop on to the children; each further one makes them stop at once."""
        self._stopping.set()
        for child in list(self._children):
            with suppress(ProcessLookupError):
                child.terminate()

    async def _keep(self) -> None:
        """Keep one child running."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            child = await self._start()
            code = await child.wait()
            self._children.discard(child)
            failures = 1 if time.monotonic() - began > _HEALTHY_AFTER_S else failures + 1
            stopping = self._stopping.is_set()
            if code == WRONG_USE and not stopping:
                self._code = WRONG_USE
                self.ask_to_stop()
                stopping = True
            wait = wait_s(failures, base_s=0.2, cap_s=_LONGEST_WAIT_S, jitter=0.5)
            self._telemetry.emit(ProcessEnded("worker", child.pid, code, None if stopping else wait))
            if not stopping:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._stopping.wait()

    async def _start(self) -> Process:
        # A session of its own: Ctrl-C in a terminal reaches this process alone, which passes it on once.
        child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        )
        self._children.add(child)
        self._telemetry.emit(ProcessStarted("worker", child.pid))
        if self._stopping.is_set():
            with suppress(ProcessLookupError):
                child.terminate()
        return child
