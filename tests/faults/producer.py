"""A process that enqueues numbered jobs: `python -m tests.faults.producer LANE LANES TOTAL PER_SECOND SEED KINDS MS`.

Lane `i` of `n` offers the numbers i, i+n, i+2n, … and goes on until TOTAL jobs were accepted. Where it is stands in the
file `lane-<i>` beside the journal, so that another process can go on where this one was killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults import journal as j
from tests.faults.site import blocking, broken, flaky, heavy, journal, plain, quick, toril
from toril import EngineError, EngineUnavailable
from toril.tasks.call import Call

TASKS = {task.name: task for task in (quick, plain, blocking, flaky, broken, heavy)}
MOST_AT_ONCE = 50


class Lane:
    """The next number and how many were accepted, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        stored = os.pread(self._file, 16, 0)
        self.next = int.from_bytes(stored[:8], "little")
        self.accepted = int.from_bytes(stored[8:], "little")

    def store(self) -> None:
        """Write it down."""
        os.pwrite(self._file, self.next.to_bytes(8, "little") + self.accepted.to_bytes(8, "little"), 0)


class Producer:
    """Offers the jobs of a lane."""

    def __init__(self, lane: int, lanes: int, total: int, per_second: float, seed: str, kinds: str, ms: str) -> None:
        self._first, self._step, self._total = lane, lanes, total
        self._per_second = per_second
        self._lane = Lane(Path(os.environ["FAULTS_JOURNAL"]).parent / f"lane-{lane}")
        self._random = random.Random(f"{seed}/{lane}/{self._lane.next}")
        weights = dict(pair.split("=") for pair in kinds.split(","))
        self._ms_choices = [int(text) for text in ms.split(",")]
        self._names = list(weights)
        self._weights = [float(weight) for weight in weights.values()]

    async def run(self) -> None:
        """Offer until enough were accepted."""
        began, sent = time.monotonic(), 0
        async with toril:
            while self._lane.accepted < self._total:
                size = min(self._random.choice((1, 1, 5, 20, MOST_AT_ONCE)), self._total - self._lane.accepted)
                numbers = [self._first + self._step * (self._lane.next + place) for place in range(size)]
                self._lane.next += size
                self._lane.store()
                journal.write_many(j.OFFERED, ([number] for number in numbers))
                if self._random.random() < 0.5:
                    await self._together(numbers)
                else:
                    await asyncio.gather(*(self._one(number) for number in numbers))
                self._lane.store()
                sent += size
                await asyncio.sleep(max(0.0, began + sent / self._per_second - time.monotonic()))

    async def _together(self, numbers: list[int]) -> None:
        try:
            handles = await toril.enqueue_many(self._call(number) for number in numbers)
        except EngineError as error:
            self._failed(numbers, error)
            await asyncio.sleep(0.05)
        else:
            self._accepted([(number, handle.id) for number, handle in zip(numbers, handles, strict=True)])

    async def _one(self, number: int) -> None:
        call = self._call(number)
        options = {"delay": 0.2} if number % 11 == 0 else {"priority": 1 + number % 3} if number % 7 == 0 else {}
        task = TASKS[call.plan.name].with_options(**options)
        asked = time.monotonic_ns()
        try:
            handle = await task.enqueue(number, ms=self._ms(number))
        except EngineError as error:
            self._failed([number], error)
            await asyncio.sleep(0.05)
        else:
            self._accepted([(number, handle.id, (time.monotonic_ns() - asked) // 1000)])

    def _call(self, number: int) -> Call[str]:
        name = random.Random(number).choices(self._names, self._weights)[0]
        return TASKS[name].call(number, ms=self._ms(number))

    def _ms(self, number: int) -> int:
        return random.Random(number).choice(self._ms_choices)

    def _accepted(self, stored: Sequence[tuple[object, ...]]) -> None:
        journal.write_many(j.ACCEPTED, stored)
        self._lane.accepted += len(stored)

    def _failed(self, numbers: list[int], error: EngineError) -> None:
        is_doubtful = isinstance(error, EngineUnavailable) and error.ambiguous
        journal.write_many(j.DOUBTFUL if is_doubtful else j.REFUSED, ([number] for number in numbers))


if __name__ == "__main__":
    lane_, lanes_, total_, per_second_, seed_, kinds_, ms_ = sys.argv[1:]
    asyncio.run(Producer(int(lane_), int(lanes_), int(total_), float(per_second_), seed_, kinds_, ms_).run())
