"""Processes for plain functions that need a core of their own.

A process is told which function to call with which JSON, and answers JSON; nothing is pickled. It is killed when it
does not stop in time, and replaced by a fresh one when it is next needed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from toril.errors import NeverRetry
from toril.jobs.signals import RateLimited, Retry, Snooze
from toril.kernel import codec
from toril.kernel.telemetry import ProcessEnded, ProcessStarted, Telemetry
from toril.tasks.task import Task
from toril.worker.pools import ThreadPool
from toril.worker.run import Run, Runs

KILL_WAIT_S = 2.0


class RemoteError(Exception):
    """What a handler raised in its process. `final` says that another attempt would fail in the same way."""

    def __init__(self, reason: str, stack: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stack = stack
        self.final = final


class ProcessPool:
    """At most `size` processes, each with one job at a time."""

    def __init__(self, name: str, size: int, *, runs: Runs, telemetry: Telemetry, grace_s: float) -> None:
        self._runs = runs
        self._telemetry = telemetry
        self._grace_s = grace_s
        self._room = asyncio.Semaphore(size)
        self._threads = ThreadPool(f"{name}-process", size * 2)
        self._idle: list[Child] = []
        self._children: set[Child] = set()

    async def run(self, run: Run, task: Task[Any, Any], data: str) -> str:
        """Call the task's function with `data` in a process; answers the result as JSON text. The timeout counts from
        the call. Raises RemoteError or a signal for what it raised, and CancelledError when the run was stopped.
        """
        loop = asyncio.get_running_loop()
        timeout_s = None if run.options is None else run.options.timeout_s

        def begin() -> None:
            if timeout_s is not None and not run.settled:
                self._runs.arm(run, timeout_s)

        request = codec.encode(_request(run, task, data)).encode()
        async with self._room:
            child = self._idle.pop() if self._idle else self._new_child()
            answer = self._threads.submit(child.ask, (request, run, lambda: loop.call_soon_threadsafe(begin)))
            try:
                message = await self._await_answer(child, answer)
            finally:
                self._settle(child)
        run.saw_stop = run.saw_stop or bool(message.get("saw_stop"))
        if message["kind"] == "done":
            return str(message["result"])
        raise _error_of(message)

    def close(self) -> None:
        """End all processes."""
        for child in list(self._children):
            child.kill()
            self._forget(child)
        self._idle.clear()
        self._threads.close()

    def _new_child(self) -> Child:
        child = Child(self._telemetry)
        self._children.add(child)
        return child

    async def _await_answer(self, child: Child, answer: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            child.tell_to_stop()
            try:
                return await asyncio.wait_for(asyncio.shield(answer), self._grace_s)
            except (asyncio.CancelledError, TimeoutError):
                child.kill()
                raise asyncio.CancelledError from None

    def _settle(self, child: Child) -> None:
        if child.usable:
            self._idle.append(child)
        else:
            child.kill()
            self._forget(child)

    def _forget(self, child: Child) -> None:
        self._children.discard(child)
        child.reap()


class Child:
    """One process and the line to it. `ask` blocks and runs in a thread; the rest is called from the event loop."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._line: Connection | None = None
        self._killed = False
        self.usable = False

    def ask(self, request: bytes, run: Run, begin: Callable[[], Any]) -> dict[str, Any]:
        """Send a call and wait for its answer; what it reports meanwhile goes to the run's reporter."""
        self.usable = False
        try:
            line = self._line or self._open()
            line.send_bytes(request)
            begin()
            while True:
                message: dict[str, Any] = codec.decode(line.recv_bytes())
                if message["kind"] == "progress":
                    run.owner.reports.progress(run.job, run.token, message["value"])
                elif message["kind"] == "log":
                    run.owner.reports.log(run.job, run.token, message["line"], message["keep"])
                else:
                    self.usable = not self._killed
                    return message
        except (EOFError, OSError):
            return {"kind": "crashed", "code": self._exit_code()}

    def tell_to_stop(self) -> None:
        """The function sees it as `ctx.is_cancelled`."""
        if self._line is not None:
            with suppress(OSError):
                self._line.send_bytes(b'{"kind":"stop"}')

    def kill(self) -> None:
        """End the process now, whatever it is doing."""
        self._killed = True
        self.usable = False
        if self._process is not None:
            self._process.kill()
        if self._socket is not None:
            # A process started by the function may hold the other end open: wake our reader all the same.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def reap(self) -> None:
        """Leave no zombie and no open file behind a killed process."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILL_WAIT_S)
            self._telemetry.emit(ProcessEnded("pool", process.pid, process.returncode, None))
        if self._socket is not None:
            self._socket.close()

    def _open(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", "toril.worker.process", str(number)]
            self._process = subprocess.Popen(
                command, pass_fds=(number,), stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": _python_path()}
            )
        self._socket = ours
        self._telemetry.emit(ProcessStarted("pool", self._process.pid))
        self._line = line = Connection(os.dup(ours.fileno()))
        if self._killed:
            self.kill()
        line.recv_bytes()  # it says when it has imported what it needs
        return line

    def _exit_code(self) -> int | None:
        try:
            return None if self._process is None else self._process.wait(KILL_WAIT_S)
        except subprocess.TimeoutExpired:
            return None


def _python_path() -> str:
    return os.pathsep.join(path for path in sys.path if path)


def _request(run: Run, task: Task[Any, Any], data: str) -> dict[str, Any]:
    module, path = task.function.__module__, ""
    if module == "__main__":
        main = sys.modules["__main__"]
        if main.__spec__ is not None:
            module = main.__spec__.name
        else:
            path = str(getattr(main, "__file__", "") or "")
    job = run.job
    return {
        "kind": "call",
        "module": module,
        "path": path,
        "qualname": task.function.__qualname__,
        "queue": run.owner.queue,
        "token": run.token,
        "started": run.started,
        "job": {**job._asdict(), "data": data, "opts": "{}"},
    }


def _error_of(message: dict[str, Any]) -> BaseException:
    match message["kind"]:
        case "retry":
            return Retry(message["reason"], in_=message["delay_s"])
        case "snooze":
            return Snooze(message["delay_s"], message["reason"])
        case "rate_limited":
            return RateLimited(message["delay_s"], message["reason"])
        case "never_retry":
            return NeverRetry(message["reason"])
        case "crashed":
            code = message["code"]
            how = "" if code is None else f" by signal {-code}" if code < 0 else f" with exit code {code}"
            return RemoteError(f"ProcessCrashed: the process that ran the job ended{how}.", "")
    return RemoteError(message["reason"], message["stack"], final=bool(message["final"]))
