"""A supervisor for tests: `python -m tests.worker.overseer <url> <mode> <count> <timeout>`. Says what it sees."""

import sys
from typing import Any

from toril.kernel.telemetry import ProcessEnded, ProcessReplaced, ReplacementFailed, RollEnded, Telemetry
from toril.worker.supervisor import run_processes


def say(event: Any) -> None:
    values = " ".join(str(value) for value in event._asdict().values())
    sys.stdout.write(f"{type(event).__name__} {values}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    url, mode, count, timeout = sys.argv[1:]
    telemetry = Telemetry()
    telemetry.subscribe(say, ProcessEnded, ProcessReplaced, ReplacementFailed, RollEnded)
    # Those that end at once need not load anything for it.
    code = {"crash": "7", "wrong": "2"}.get(mode)
    ends = [sys.executable, "-S", "-c", f"import os; os._exit({code})"]
    station = ends if code else [sys.executable, "-m", "tests.worker.station", url, mode]
    sys.exit(run_processes(station, int(count), shutdown_timeout_s=float(timeout), telemetry=telemetry))
