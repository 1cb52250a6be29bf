"""What holds for every test: the surroundings say nothing about Toril, and no packet leaves this machine."""

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

LOOPBACK = ("127.", "::1", "localhost")

# A slow machine is no failure, and a run in CI can be repeated exactly.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def refuse_other_machines(address: Any) -> None:
    """Raise unless `address` is a Unix socket or on the loopback interface."""
    if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
        raise AssertionError(f"a test may talk to this machine only, found {address!r}: use a server on 127.0.0.1")


@pytest.fixture(scope="session", autouse=True)
def own_surroundings() -> Iterator[None]:
    """Take away the variables that configure Toril and the sockets that reach further than this machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded_connect(self: socket.socket, address: Any) -> None:
        refuse_other_machines(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        refuse_other_machines(address)
        return connect_ex(self, address)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A run in the background of a script ignores Ctrl-C, and so would every process that a test interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        flags = {"USE_BULLMQ", "BULLMQ_ENABLED"}
        for name in [name for name in os.environ if name.startswith(("TORIL_", "REDIS_")) or name in flags]:
            patch.delenv(name)
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield
