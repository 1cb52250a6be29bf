"""A PostgreSQL server of our own: on a free port of 127.0.0.1, with a data folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from tests.redis.server import free_port

_STARTS_S = 40.0
_USER = "toril"


def binaries() -> Path:
    """Where initdb and postgres are. Skips the test without them, and fails it where that must not be (`CI=true`)."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    for place in [*([Path(found).resolve().parent] if found else []), *places]:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    text = "expected a PostgreSQL server under /usr/lib/postgresql or on the PATH, found none: run `make test`"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


class PostgresServer:
    """One server process. It runs as another user where this is root, whom PostgreSQL refuses."""

    def __init__(self) -> None:
        self._bin = binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="toril-postgres-"))
        self._user: int | None = None
        if os.geteuid() == 0:
            self._user = _harmless_user().pw_uid
            os.chown(self._folder, self._user, -1)
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    def url(self, driver: str) -> str:
        """The address of its database, as SQLAlchemy writes it."""
        return f"postgresql+{driver}://{_USER}@127.0.0.1:{self.port}/postgres"

    @property
    def conninfo(self) -> str:
        """The same, as drivers write it."""
        return f"host=127.0.0.1 port={self.port} user={_USER} dbname=postgres"

    def start(self) -> None:
        """Make the data folder and start, and return when it takes connections."""
        data = str(self._folder / "data")
        self._run("initdb", "-D", data, "-U", _USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        command = [str(self._bin / "postgres"), "-D", data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=50"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            user=self._user,
            extra_groups=None if self._user is None else [],
        )
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self._process, ready), daemon=True).start()
        assert ready.wait(_STARTS_S), "postgres does not start"
        assert self._process.poll() is None, "postgres has ended at once"

    def stop(self) -> None:
        """End it, and delete what it has written."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *words: str) -> None:
        ran = subprocess.run(
            [str(self._bin / program), *words],
            cwd=self._folder,
            user=self._user,
            extra_groups=None if self._user is None else [],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr

    @staticmethod
    def _read(process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                if "ready to accept connections" in line:
                    ready.set()
        ready.set()


def _harmless_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("expected a user postgres or nobody, found neither")
