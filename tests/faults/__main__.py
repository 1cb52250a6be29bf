"""`python -m tests.faults --engine sqlite --seed 7`: one trial by hand, as for the figures of docs/reliability.md."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.faults.faults import EVERY
from tests.faults.stores import RedisStore, SqliteStore, Store
from tests.faults.trial import RANDOM, Shape, Trial, said


def main() -> int:
    """Run a trial; the exit code is 1 when something was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "redis", "redis-everysec"), default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=5_000)
    parser.add_argument("--faults", default="random", help="'random', 'none', or names with commas between them")
    parser.add_argument("--gap", type=float, nargs=2, default=(0.3, 2.0), metavar="S", help="pause between two faults")
    parser.add_argument("--lock", type=float, default=3.0, help="seconds that a lock lasts; Toril's default is 15")
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--supervisors", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2, help="of each supervisor")
    parser.add_argument("--slots", type=int, default=10, help="of each process")
    parser.add_argument("--rate", type=float, default=300.0, help="jobs per second that are offered")
    parser.add_argument("--kinds", default="quick=80,plain=10,flaky=5,broken=2,blocking=3,heavy=0.2")
    parser.add_argument("--ms", default="0,0,1,5,20,20,100,300", help="how long tasks take; one of these, each")
    parser.add_argument("--skew", type=int, default=0, metavar="MS", help="by how much clocks of processes differ")
    parser.add_argument(
        "--drain", type=float, default=180.0, help="seconds until all must be done after the last fault"
    )
    parser.add_argument("--straight", action="store_true", help="to the server without a network of the trial's own")
    parser.add_argument("--disk", help="size of a disk of its own, such as 64m; needs the right to mount one")
    parser.add_argument("--folder", type=Path, help="where to keep journal and logs")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="toril-faults-"))
    store: Store
    if given.engine == "sqlite":
        store = SqliteStore(folder, size=given.disk)
    else:
        store = RedisStore(
            folder,
            fsync="everysec" if given.engine == "redis-everysec" else "always",
            through_network=not given.straight,
        )
    names = {"random": RANDOM[store.name], "none": {}}.get(given.faults)
    shape = Shape(
        jobs=given.jobs,
        faults=names if names is not None else {name: EVERY[name] for name in given.faults.split(",")},
        gap_s=tuple(given.gap),
        producers=given.producers,
        supervisors=given.supervisors,
        processes=given.processes,
        slots=given.slots,
        per_second=given.rate,
        lock_s=given.lock,
        kinds=given.kinds,
        ms=given.ms,
        skew_ms=given.skew,
        drain_s=given.drain,
        hang_s=7000,
        faultless=given.faults == "none",
    )
    report = asyncio.run(Trial(given.faults, store, shape, seed=given.seed, folder=folder).run())
    said(report)
    sys.stdout.write(f"journal and logs: {folder}\n")
    return 1 if report.verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
