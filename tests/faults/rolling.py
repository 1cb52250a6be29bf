"""Jobs that flow while all worker processes are replaced, several times, and the account of what became of them."""

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.worker.yard import Station
from toril.jobs.model import NewJob
from toril.jobs.states import State

CHUNK = 500


@dataclass
class Account:
    """What was seen. `starts` and `ends` are written by the handlers, by number of the job."""

    jobs: int
    rolls: int = 0
    processes: set[str] = field(default_factory=set)
    replaced: int = 0
    seconds: float = 0.0
    roll_seconds: list[float] = field(default_factory=list)
    starts: Counter[int] = field(default_factory=Counter)
    ends: Counter[int] = field(default_factory=Counter)
    steps: list[list[str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Jobs that no handler has brought to its end, or that the store does not have as completed."""
        return max(self.jobs - len(self.ends), self.jobs - self.counts["completed"])

    @property
    def failed(self) -> int:
        return self.counts["failed"]

    @property
    def duplicates(self) -> int:
        return sum(number - 1 for number in self.starts.values())

    def __str__(self) -> str:
        longest = max(self.roll_seconds, default=0.0)
        return (
            f"{self.jobs:,} jobs in {self.seconds:.0f} s over {self.rolls} rolling restarts, {self.replaced} processes "
            f"replaced (longest roll {longest:.1f} s): {self.lost} lost, {self.failed} failed, {self.duplicates} twice"
        )


async def roll_under_load(
    station: Station, *, processes: int, slots: int, jobs: int, rolls: int, seconds: tuple[float, float]
) -> Account:
    """Run `jobs` jobs of some `seconds` on `processes` workers with `slots` each, replaced `rolls` times meanwhile."""
    account = Account(jobs)
    began = time.monotonic()
    supervisor = await station.supervise(processes, f"wide:{slots}", timeout=60)
    rolled = asyncio.Semaphore(0)
    up = asyncio.Semaphore(0)
    reading = asyncio.create_task(_read(supervisor.stdout, account, up, rolled))
    for _ in range(processes):
        await up.acquire()
    producing = asyncio.create_task(_produce(station, jobs, processes * slots * 4, seconds))
    for _ in range(rolls):
        asked = time.monotonic()
        supervisor.send_signal(signal.SIGHUP)
        await rolled.acquire()
        account.roll_seconds.append(time.monotonic() - asked)
        account.rolls += 1
    await producing
    while len(account.ends) < jobs or (await station.toril.queue("default").counts()).active:
        await asyncio.wait([reading], timeout=0.05)
        assert not reading.done(), "the supervisor ended too early"
    account.counts = (await station.toril.queue("default").counts())._asdict()
    account.seconds = time.monotonic() - began
    supervisor.terminate()
    await reading
    assert await supervisor.wait() == 0
    return account


async def _produce(station: Station, jobs: int, backlog: int, seconds: tuple[float, float]) -> None:
    """Add jobs, so that there is always more to do than can be done at once, but not all from the begin on."""
    draw = random.Random(jobs)
    store, clock = station.toril.engine.jobs, station.toril.clock
    for first in range(0, jobs, CHUNK):
        while (await station.toril.queue("default").counts()).waiting > backlog:
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.02)
        now = clock.now_ms()
        chunk = [
            NewJob(
                f"job-{number}",
                "work",
                f'{{"number":{number},"seconds":{draw.uniform(*seconds):.3f}}}',
                '{"attempts":3,"toril":{"v":1}}',
                now,
            )
            for number in range(first, min(first + CHUNK, jobs))
        ]
        await store.add("default", chunk, batch=f"chunk-{first}", now=now)


async def _read(
    stdout: asyncio.StreamReader | None, account: Account, up: asyncio.Semaphore, rolled: asyncio.Semaphore
) -> None:
    assert stdout is not None
    while line := (await stdout.readline()).decode():
        match line.split():
            case ["began", number]:
                account.starts[int(number)] += 1
            case ["ran", number]:
                account.ends[int(number)] += 1
            case ["up", pid]:
                account.processes.add(pid)
                account.steps.append(["up", pid])
                up.release()
            case ["RollEnded", replaced, kept]:
                account.replaced += int(replaced)
                assert kept == "0"
                rolled.release()
            case ["ProcessReplaced" | "down" as word, pid, *_]:
                account.steps.append([word, pid])


async def unfinished(station: Station) -> list[str]:
    """Ids of jobs that are not completed, for a message."""
    states = [state for state in State if state is not State.COMPLETED]
    return [job.id for job in (await station.toril.engine.inspect.list("default", states)).jobs]
