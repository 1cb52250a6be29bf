"""`make demo REDIS=1`: a redis-server of its own for the demo, on a free port, with its data in the demo's folder.

Ends the server with the demo. One that was left running, because this was killed, is found again and used.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

HOST = "127.0.0.1"
STARTS_WITHIN_S = 10.0


def main() -> int:
    """Run the demo with the arguments that were given. Answers its exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data", "--data-dir", type=Path, default=Path("docsnap-data"))
    folder = parser.parse_known_args()[0].data.resolve() / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        print("Expected redis-server on the PATH, found none: install it, or run make demo without REDIS=1.")
        return 1
    note = folder / "port"
    port = int(note.read_text()) if note.exists() else 0
    server = None
    if not (port and answers(port)):
        port = free_port()
        server = start(binary, port, folder)
        note.write_text(str(port))
    url = f"redis://{HOST}:{port}"
    print(f"Jobs are on {url}; a Node worker shares them: REDIS_URL={url} node worker.mjs, in examples/node-peer.")
    # An empty variable counts as none; the flags could say that Redis is not to be used.
    environ = {**os.environ, "REDIS_URL": url, "TORIL_URL": "", "USE_BULLMQ": "true"}
    demo = subprocess.Popen([sys.executable, "-m", "toril", "demo", *sys.argv[1:]], env=environ)
    try:
        while True:
            try:
                return demo.wait()
            except KeyboardInterrupt:
                # Ctrl-C reached the demo too: it ends in order, and the server must outlive it.
                continue
    finally:
        if server is not None:
            server.terminate()
            server.wait()
            note.unlink(missing_ok=True)


def start(binary: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A server that keeps what it is told, outside of the terminal's group. Raises SystemExit when none starts."""
    place = ("--port", str(port), "--bind", HOST, "--dir", str(folder))
    with (folder / "redis.log").open("ab") as log:
        server = subprocess.Popen(
            [binary, *place, "--appendonly", "yes", "--save", ""],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + STARTS_WITHIN_S
    while not answers(port):
        if server.poll() is not None or time.monotonic() > until:
            server.kill()
            raise SystemExit(f"redis-server does not start: {folder / 'redis.log'} says why.")
        time.sleep(0.05)
    return server


def answers(port: int) -> bool:
    """Whether a Redis that has loaded its data listens there."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
