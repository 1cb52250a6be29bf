"""When a worker process has done its part and is better replaced by a fresh one."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toril.errors import ConfigError
from toril.kernel.durations import human
from toril.kernel.telemetry import JobDone, JobNotDone, Telemetry

_LOOK_EVERY_S = 1.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WearLimits:
    """What a worker process may do before it is replaced: runs of jobs, seconds, bytes of resident memory (those of
    the process itself, not of the processes it starts). None is without a limit.
    """

    max_jobs: int | None = None
    max_age_s: float | None = None
    max_rss: int | None = None

    @property
    def any(self) -> bool:
        """True when there is a limit."""
        return not (self.max_jobs is None and self.max_age_s is None and self.max_rss is None)


def resident_bytes() -> int:
    """The resident memory of this process; where the system does not tell (macOS), the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


class Wear:
    """Measures a worker process from now on. Belongs to the worker's event loop.

    Raises ConfigError when the process has reached the limit of memory before it has done anything: it would be
    replaced for ever.
    """

    def __init__(
        self,
        limits: WearLimits,
        telemetry: Telemetry,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        memory: Callable[[], int] = resident_bytes,
    ) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._memory = memory
        self._began = monotonic()
        self._jobs = 0
        self._enough = asyncio.Event()
        rss = memory()
        if limits.max_rss is not None and rss >= limits.max_rss:
            raise ConfigError(
                f"max_rss: expected more than the {rss // _MIB} MiB that this application takes before its first "
                f"job, got {limits.max_rss // _MIB} MiB."
            )
        if limits.max_jobs is not None:
            telemetry.subscribe(self._count, JobDone, JobNotDone)

    def reason(self) -> str:
        """Why the process is worn out, for people; empty while it is not."""
        limits = self._limits
        if limits.max_jobs is not None and self._jobs >= limits.max_jobs:
            return f"it has run {self._jobs:,} jobs"
        age_s = self._monotonic() - self._began
        if limits.max_age_s is not None and age_s >= limits.max_age_s:
            return f"it is {human(age_s)} old"
        if limits.max_rss is not None and (rss := self._memory()) >= limits.max_rss:
            return f"it takes {rss // _MIB:,} MiB of memory"
        return ""

    async def worn_out(self) -> str:
        """Wait until the process is worn out, for ever without limits; answers why."""
        while not (self._limits.any and (reason := self.reason())):
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S if self._limits.any else None):
                    await self._enough.wait()
        return reason

    def _count(self, event: Any) -> None:
        self._jobs += 1
        if self._limits.max_jobs is not None and self._jobs >= self._limits.max_jobs:
            self._enough.set()
