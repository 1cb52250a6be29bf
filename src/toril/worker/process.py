"""What runs inside a process of the pool: `python -m toril.worker.process <number of the open socket>`."""

from __future__ import annotations

import asyncio
import importlib
import os
import runpy
import signal
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import FrameType, SimpleNamespace
from typing import Any

from toril.errors import ConfigError, InvalidArguments, InvalidResult, NeverRetry
from toril.jobs.model import TakenJob
from toril.jobs.signals import RateLimited, Retry, Snooze
from toril.kernel import codec
from toril.tasks.context import Context
from toril.tasks.signature import Signature
from toril.tasks.task import Task
from toril.worker.stack import reason_of, stack_of


class Line:
    """The connection to the worker: calls and the wish to stop come in, reports and answers go out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.calls: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.saw_stop = False

    def listen(self) -> None:
        """Read until the worker is gone; then nobody needs this process."""
        while True:
            try:
                message: dict[str, Any] = codec.decode(self._connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)
            if message["kind"] == "stop":
                self._stop.set()
            else:
                self._stop.clear()
                self.saw_stop = False
                self.calls.put(message)

    def send(self, **message: Any) -> None:
        """Send a message, from any thread. Ends the process when the worker is gone."""
        with self._lock:
            try:
                self._connection.send_bytes(codec.encode(message).encode())
            except OSError:
                os._exit(0)

    def progress(self, job: TakenJob, token: str, value: str) -> None:
        self.send(kind="progress", value=value)

    def log(self, job: TakenJob, token: str, line: str, keep: int) -> None:
        self.send(kind="log", line=line, keep=keep)

    def is_cancelled(self) -> bool:
        """What the function's context answers."""
        self.saw_stop = self._stop.is_set()
        return self.saw_stop


class Calls:
    """Finds functions and calls them."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._found: dict[tuple[str, str, str], tuple[Any, Signature]] = {}

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        """Run one call; whatever happens becomes a message."""
        try:
            function, signature = self._find(call["module"], call["path"], call["qualname"])
            job = TakenJob(**call["job"])
            arguments = signature.load(job.data)
            context = (self._context(call, job),) if signature.wants_context else ()
            value = function(*context, **arguments)
            if signature.is_async:
                value = asyncio.run(value)
            return {"kind": "done", "result": signature.dump_result(value)}
        except Retry as asked:
            return {"kind": "retry", "reason": asked.reason, "delay_s": asked.delay_s}
        except Snooze as asked:
            return {"kind": "snooze", "reason": asked.reason, "delay_s": asked.delay_s}
        except RateLimited as asked:
            return {"kind": "rate_limited", "reason": asked.reason, "delay_s": asked.delay_s}
        except NeverRetry as asked:
            return {"kind": "never_retry", "reason": str(asked)}
        # SystemExit too: a handler that exits fails its attempt as any other error does.
        except BaseException as error:  # noqa: BLE001
            final = isinstance(error, InvalidArguments | InvalidResult)
            return {"kind": "error", "reason": reason_of(error), "stack": stack_of(error), "final": final}

    def _context(self, call: dict[str, Any], job: TakenJob) -> Context:
        return Context(
            job,
            queue=call["queue"],
            token=call["token"],
            worker=call["token"].rpartition(":")[0],
            started_ms=call["started"],
            reporter=self._line,
            is_cancelled=self._line.is_cancelled,
        )

    def _find(self, module: str, path: str, qualname: str) -> tuple[Any, Signature]:
        key = (module, path, qualname)
        if key not in self._found:
            found: Any = _script(path) if path else importlib.import_module(module)
            for name in qualname.split("."):
                found = getattr(found, name, None)
            if isinstance(found, Task):
                self._found[key] = (found.function, found.signature)
            elif callable(found):
                self._found[key] = (found, Signature(found, qualname))
            else:
                raise ConfigError(
                    f'pool="process": expected {qualname} at the top level of {path or module}, where another process '
                    "can import it, and found nothing there."
                )
        return self._found[key]


def _script(path: str) -> SimpleNamespace:
    """The names of a script that was started as `python script.py`. Its `if __name__ == "__main__"` part is not run."""
    return SimpleNamespace(**runpy.run_path(path, run_name="__toril_process__"))


def main() -> None:
    """Answer calls until the worker goes away."""
    # Ctrl-C and service managers signal this process too; the worker decides when its jobs end. Caught and not
    # ignored, since programs that a handler starts would inherit the ignoring.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _leave_it_to_the_worker)
    number = int(sys.argv[1])
    os.set_inheritable(number, False)
    line = Line(Connection(number))
    calls = Calls(line)
    line.send(kind="ready")
    threading.Thread(target=line.listen, name="line", daemon=True).start()
    while True:
        answer = calls.answer(line.calls.get())
        line.send(**answer, saw_stop=line.saw_stop)


def _leave_it_to_the_worker(number: int, frame: FrameType | None) -> None:
    pass


if __name__ == "__main__":
    main()
