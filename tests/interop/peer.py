"""A process that does what it is told, line by line: `node/peer.mjs`, `node/board.mjs` and `python/peer.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from tests.interop.packages import FOLDER, PACKAGES, PYTHON, PYTHON_FOLDER

Notice = dict[str, Any]

_LINE_LIMIT = 16 * 1024 * 1024
_ENDS_S = 5.0


class PeerError(Exception):
    """The peer answered with an error. `code` is BullMQ's number, if it has one."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code


class Peer:
    """One process. `notices` are the lines that nobody asked for: events, runs of jobs, errors."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.notices: list[Notice] = []
        self._process = process
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._heard = asyncio.Event()
        self._ready = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read())

    async def ask(self, op: str, **request: Any) -> Any:
        """Do one operation and give its result. Raises PeerError."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"number": number, "op": op, **request}).encode() + b"\n")
        await self._process.stdin.drain()
        return await answer

    async def queue(self, queue: str, method: str, *args: Any) -> Any:
        """Call a method of BullMQ's Queue."""
        return await self.ask("queue", queue=queue, method=method, args=args)

    async def job(self, queue: str, id: str, method: str, *args: Any) -> Any:
        """Call a method of BullMQ's Job."""
        return await self.ask("job", queue=queue, id=id, method=method, args=args)

    async def get(self, queue: str, id: str) -> dict[str, Any] | None:
        """`Job.fromId`, or None."""
        found: dict[str, Any] | None = await self.ask("get", queue=queue, id=id)
        return found

    async def until(self, found: Callable[[list[Notice]], Any]) -> Any:
        """Wait until `found`, asked of all notices, gives something true; give that."""
        while not (value := found(self.notices)):
            self._heard.clear()
            await self._heard.wait()
        return value

    async def event(self, event: str, job_id: str | None = None) -> Notice:
        """Wait for an event that QueueEvents told of."""

        def heard(notices: list[Notice]) -> Notice | None:
            for notice in notices:
                if notice.get("event") == event and job_id in {None, notice.get("jobId")}:
                    return notice
            return None

        notice: Notice = await self.until(heard)
        return notice

    def runs(self) -> list[str]:
        """Ids of the jobs whose handler began here, in order."""
        return [notice["id"] for notice in self.notices if notice["notice"] == "ran"]

    def errors(self) -> list[str]:
        """What BullMQ's objects reported as errors."""
        return [notice["message"] for notice in self.notices if notice["notice"] == "error"]

    async def ready(self) -> None:
        """Wait until the process takes requests."""
        await self._ready

    async def kill(self) -> None:
        """End the process without a word."""
        self._process.kill()
        await self._reading

    async def close(self) -> None:
        """Let the process close what it opened, and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _ENDS_S)
        except TimeoutError:
            self._process.kill()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "number" in message:
                self._answered(message)
            elif "ready" in message:
                self._ready.set_result(None)
            else:
                self.notices.append(message)
                self._heard.set()
        await self._process.wait()
        gone = ConnectionError("the peer's process ended")
        for answer in (*self._answers.values(), self._ready):
            if not answer.done():
                answer.set_exception(gone)

    def _answered(self, message: dict[str, Any]) -> None:
        answer = self._answers.pop(message["number"])
        if answer.done():
            return
        if "error" in message:
            answer.set_exception(PeerError(message["error"], message["code"]))
        else:
            answer.set_result(message["result"])


@asynccontextmanager
async def started(script: str, major: int, port: int, *words: str) -> AsyncIterator[Peer]:
    """A Node process with one major version of BullMQ, ready for requests."""
    async with _talking("node", str(FOLDER / script), PACKAGES[major], str(port), *words) as peer:
        yield peer


@asynccontextmanager
async def started_python(port: int) -> AsyncIterator[Peer]:
    """A Python process with the BullMQ of PyPI, ready for requests."""
    async with _talking(str(PYTHON), str(PYTHON_FOLDER / "peer.py"), str(port)) as peer:
        yield peer


@asynccontextmanager
async def _talking(*command: str) -> AsyncIterator[Peer]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_LIMIT
    )
    peer = Peer(process)
    try:
        await peer.ready()
        yield peer
    finally:
        await peer.close()
