"""The processes beside the demo: started tethered, stopped in order, with their output in log files."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

PACKAGE_HOME = Path(__file__).resolve().parent.parent
STOP_SECONDS = 15.0


class ChildFailed(Exception):
    """A process of the demo ended by itself."""


class Child:
    """One tethered process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, tether: int, log: Path) -> None:
        self.name = name
        self._process = process
        self._tether = tether
        self._log = log

    @classmethod
    async def start(cls, name: str, arguments: list[str], environ: Mapping[str, str], logs: Path) -> Self:
        """Run `python -m …` with these arguments; output is added to `<name>.log`.

        Raises:
            OSError: the process cannot be started or the log file not written.
        """
        log = logs / f"{name}.log"
        reading, writing = os.pipe()
        try:
            with log.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "docsnap.tether", str(reading), *arguments),
                    env={**environ, "PYTHONPATH": _python_path(environ), "PYTHONUNBUFFERED": "1"},
                    pass_fds=(reading,),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # Out of the terminal's group: Ctrl-C is for the demo, which then stops its children in order.
                    start_new_session=True,
                )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return cls(name, process, writing, log)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise ChildFailed, with its last words, when the process has ended."""
        if self._process.returncode is not None:
            raise ChildFailed(
                f"the {self.name} process ended with code {self._process.returncode}; "
                f"the end of {self._log} says:\n{_tail(self._log)}"
            )

    async def wait(self) -> int:
        """Wait until the process ends by itself. Returns its exit code."""
        code = await self._process.wait()
        self._let_go()
        return code

    async def stop(self) -> int:
        """End the process: SIGTERM, and SIGKILL if that was not enough in 15 s. Returns its exit code."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        return await self.wait()

    def _let_go(self) -> None:
        if self._tether >= 0:
            os.close(self._tether)
            self._tether = -1


def _python_path(environ: Mapping[str, str]) -> str:
    return os.pathsep.join(filter(None, (str(PACKAGE_HOME), environ.get("PYTHONPATH", ""))))


def _tail(log: Path, lines: int = 12) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return "(nothing)"
