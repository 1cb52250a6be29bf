"""A redis-server of our own: on a free port of 127.0.0.1, with a data folder of its own, to be killed and frozen."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections import deque
from functools import cache
from pathlib import Path

import pytest

SERVER_VARIABLE = "TORIL_TEST_REDIS_SERVER"
"""The path of another server program to test with."""

_STARTS_S = 8.0
_TRIES = 5


def binary() -> str:
    """Where the server program is. Skips the test without one, and fails it where that must not be (`CI=true`)."""
    found = os.environ.get(SERVER_VARIABLE) or shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        text = "expected redis-server on the PATH, found none: run `make test`, or install it"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return found


@cache
def facts() -> str:
    """What the server says of itself: name, version, build."""
    return subprocess.run([binary(), "--version"], check=True, capture_output=True, text=True).stdout


def major() -> int:
    """The major version of the server, after Redis' count: a Valkey is at least 7."""
    found = re.search(r"v=(\d+)", facts())
    assert found is not None, facts()
    return int(found[1])


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server process. `options` are words of its command line, such as `"--requirepass", "secret"`; `starts_s` is
    how long it may take to load what it has stored.
    """

    def __init__(self, folder: Path, *options: str, plain: bool = True, starts_s: float = _STARTS_S) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.said: deque[str] = deque(maxlen=200)
        self._options = options
        self._plain = plain
        self._starts_s = starts_s
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._frozen = False

    @property
    def url(self) -> str:
        """Without login, without TLS."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it accepts connections. A restart keeps the port."""
        for _ in range(_TRIES):
            if self._start():
                return
            self.port = free_port()
        raise AssertionError("redis-server does not start:\n" + "\n".join(self.said))

    def stop(self) -> None:
        """End it in good order. Stopping twice is once."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a word."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it where it is: its connections stay open, and nobody answers."""
        self._signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)
        self._frozen = False

    def _start(self) -> bool:
        place = ("--port", str(self.port)) if self._plain else ("--port", "0", "--tls-port", str(self.port))
        command = (binary(), *place, "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", *self._options)
        self._process = process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(process, ready), daemon=True)
        self._reader.start()
        assert ready.wait(self._starts_s), "redis-server says nothing"
        if process.poll() is None and any("eady to accept" in line for line in self.said):
            return True
        self.kill()
        return False

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        self.said.clear()
        with process.stdout:
            for line in process.stdout:
                self.said.append(line.rstrip())
                if "eady to accept" in line:
                    ready.set()
        process.wait()
        ready.set()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None or self._reader is None:
            return
        self._process.send_signal(number)
        if self._frozen and number != signal.SIGKILL:
            self.thaw()
        self._frozen = False
        self._process.wait()
        self._reader.join()
        self._process = self._reader = None
