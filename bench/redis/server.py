"""A redis-server of our own: no persistence, a free port, a folder of its own, stopped by its process id."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import redis

_PATIENCE_S = 10.0


class Usage(NamedTuple):
    """What a server has done since it started: commands, also those inside of scripts, and µs of processor time."""

    commands: int
    cpu_us: float

    def since(self, before: Usage) -> Usage:
        """The difference."""
        return Usage(self.commands - before.commands, self.cpu_us - before.cpu_us)


class Server:
    """A running server."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client: redis.Redis = redis.Redis(port=port, socket_timeout=120)

    def version(self) -> str:
        """As it names itself."""
        return str(self._info("server")["redis_version"])

    def empty(self) -> None:
        """Delete everything and forget all scripts."""
        self.client.flushall(asynchronous=False)
        self.client.script_flush()

    def memory(self) -> int:
        """Bytes in use."""
        return int(self._info("memory")["used_memory"])

    def usage(self) -> Usage:
        """Read before and after; the reading itself counts as two commands."""
        cpu = self._info("cpu")
        calls = sum(int(one["calls"]) for one in self._info("commandstats").values())
        return Usage(calls, (float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])) * 1e6)

    def _info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.info(section)
        return found


@contextmanager
def running() -> Iterator[Server]:
    """Start a server, and stop it in the end."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        sys.exit("expected redis-server on the PATH, found none. Do: make redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [found, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = subprocess.Popen([*command, "--dir", folder, "--logfile", "log"], stdin=subprocess.DEVNULL)
        try:
            server = Server(port, process.pid)
            _wait(server)
            yield server
        finally:
            process.terminate()
            process.wait()


def _wait(server: Server) -> None:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            server.client.ping()
            return
        except redis.ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
