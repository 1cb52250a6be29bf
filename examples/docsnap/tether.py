"""Runs a Python module as a child that ends with its parent, however the parent ends.

`python -m docsnap.tether FD MODULE [ARGUMENTS…]`: FD is the reading end of a pipe whose other end only the parent
holds. The system closes that end when the parent dies, also by kill -9, and the child then stops as if by SIGTERM.
"""

import os
import runpy
import signal
import sys
import threading

GRACE_SECONDS = 20.0


def main() -> None:
    """Watch the pipe from a thread and become the module."""
    fd = int(sys.argv[1])
    module = sys.argv[2]
    threading.Thread(target=_watch, args=(fd,), name="tether", daemon=True).start()
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch(fd: int) -> None:
    while os.read(fd, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    # Nobody is left who could use force when a clean end takes too long.
    threading.Event().wait(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
