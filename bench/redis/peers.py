"""Who takes part on Redis, and in which setting. Nothing of the libraries is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

QUEUE = "bench"
OURS = "toril"
NODE = "node"
_BOUNDED = frozenset({"single", "nap", "latency", "behind", "equal"})


class Progress(NamedTuple):
    """How to see from outside how far a worker is: the sum of what `commands` answer, which grows with each finished
    job, or shrinks when `falls`.
    """

    commands: tuple[tuple[str, ...], ...]
    falls: bool = False


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A library in one setting.

    `library` names the adapter, `requirements` what its environment holds, the library itself first; none for Toril,
    which is in ours. `slots` and `nap_slots` are jobs at a time, of no-ops and of sleeping ones. `paces` are rough jobs
    a second (one by one, no-op, sleeping): they only choose how many jobs are measured. `skips` are stages without it.
    """

    name: str
    library: str
    setting: str
    progress: Progress
    slots: int
    nap_slots: int = 200
    paces: tuple[int, int, int] = (1, 1, 1)
    requirements: tuple[str, ...] = ()
    acknowledges: bool = True
    python: bool = True
    skips: frozenset[str] = frozenset({"behind", "equal"})
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether it is Toril in some setting."""
        return not self.requirements


_COMPLETED = Progress((("ZCARD", f"bull:{QUEUE}:completed"),))

OURS_SETTINGS = (
    Peer(
        name=OURS,
        library="toril",
        setting="full wire, all events, results kept, attempts 3, exponential backoff, 100 slots; sleeping jobs 200",
        progress=_COMPLETED,
        slots=100,
        paces=(5_000, 20_000, 10_000),
        skips=frozenset({"equal"}),
    ),
    Peer(
        name="toril-200",
        library="toril",
        setting="the same with 200 slots for no-op jobs",
        progress=_COMPLETED,
        slots=200,
        paces=(5_000, 20_000, 10_000),
        skips=_BOUNDED,
    ),
    Peer(
        name="toril-script",
        library="script",
        setting="the floor of toril's worker: its own batched script called over and over for 100 jobs, no handlers",
        progress=_COMPLETED,
        slots=100,
        paces=(5_000, 25_000, 1),
        skips=_BOUNDED,
    ),
    Peer(
        name="toril-equal",
        library="equal",
        setting="toril with the options of npm-equal and given ids of 20 characters",
        progress=_COMPLETED,
        slots=100,
        skips=frozenset({"single", "noop", "nap", "latency", "behind"}),
    ),
)

NODE_PEERS = (
    Peer(
        name="npm-bullmq",
        library=NODE,
        setting="Node's bullmq, attempts 3 with exponential backoff, concurrency 100; sleeping jobs 200",
        progress=_COMPLETED,
        slots=100,
        paces=(5_500, 7_000, 6_000),
        requirements=("bullmq", "ioredis"),
        python=False,
        skips=frozenset({"equal"}),
    ),
    Peer(
        name="npm-equal",
        library=NODE,
        setting="Node's bullmq with given ids of 20 characters",
        progress=_COMPLETED,
        slots=100,
        requirements=("bullmq", "ioredis"),
        python=False,
        skips=frozenset({"single", "noop", "nap", "latency", "behind"}),
        variables={"BENCH_IDS": "1"},
    ),
)

PYTHON_PEERS = (
    Peer(
        name="bullmq",
        library="bullmq",
        setting="bullmq of PyPI, uvloop, attempts 3 with exponential backoff, concurrency 20; sleeping jobs 200",
        progress=_COMPLETED,
        slots=20,
        paces=(3_500, 1_500, 700),
        requirements=("bullmq", "hiredis", "uvloop"),
    ),
    Peer(
        name="dramatiq",
        library="dramatiq",
        setting="one process, 8 threads, results in Redis; sleeping jobs 200 threads",
        progress=Progress((("HLEN", f"dramatiq:{QUEUE}.msgs"),), falls=True),
        slots=8,
        paces=(4_500, 2_000, 1_600),
        requirements=("dramatiq[redis]", "hiredis"),
    ),
    Peer(
        name="taskiq",
        library="taskiq",
        setting="stream broker, acknowledged when saved, uvloop, 20 tasks, 20 prefetched; sleeping jobs 200",
        progress=Progress((("DBSIZE",),)),
        slots=20,
        paces=(2_500, 1_900, 1_500),
        requirements=("taskiq", "taskiq-redis", "hiredis", "uvloop", "orjson"),
    ),
    Peer(
        name="taskiq-list",
        library="taskiq",
        setting="at most once; list broker, uvloop, 20 tasks, 20 prefetched; sleeping jobs 200",
        # The list is gone when it is empty.
        progress=Progress((("EVAL", f"return redis.call('DBSIZE') - redis.call('EXISTS', '{QUEUE}')", "0"),)),
        slots=20,
        paces=(2_500, 2_500, 1_500),
        requirements=("taskiq", "taskiq-redis", "hiredis", "uvloop", "orjson"),
        acknowledges=False,
        variables={"BENCH_BROKER": "list"},
    ),
    Peer(
        name="arq",
        library="arq",
        setting="uvloop, 200 jobs at a time, polls every 5 ms",
        progress=Progress((("ZCARD", "arq:queue"),), falls=True),
        slots=200,
        paces=(3_200, 1_400, 1_500),
        requirements=("arq", "hiredis", "uvloop"),
    ),
    Peer(
        name="saq",
        library="saq",
        setting="Redis queue, uvloop, concurrency 200",
        progress=Progress((("ZCARD", f"saq:{QUEUE}:incomplete"),), falls=True),
        slots=200,
        paces=(3_000, 1_200, 1_000),
        requirements=("saq[redis]", "hiredis", "uvloop", "typing-extensions"),
    ),
    Peer(
        name="streaq",
        library="streaq",
        setting="uvloop, concurrency 64; sleeping jobs 200",
        progress=Progress((("ZCARD", f"streaq:{QUEUE}:index:results"),)),
        slots=64,
        paces=(1_900, 700, 900),
        requirements=("streaq", "uvloop"),
    ),
    Peer(
        name="celery",
        library="celery",
        setting="prefork with 2 processes, acknowledged late, prefetch 64; sleeping jobs 200 threads",
        progress=Progress((("LLEN", QUEUE), ("HLEN", "unacked")), falls=True),
        slots=2,
        paces=(1_200, 600, 300),
        requirements=("celery[redis]", "hiredis"),
    ),
    Peer(
        name="rq",
        library="rq",
        setting="SimpleWorker, which runs one job at a time, also sleeping ones",
        progress=Progress((("ZCARD", f"rq:finished:{QUEUE}"),)),
        slots=1,
        nap_slots=1,
        paces=(2_500, 250, 64),
        requirements=("rq", "hiredis"),
    ),
    Peer(
        name="huey",
        library="huey",
        setting="at most once; RedisHuey, blocking, results kept, 1 thread; sleeping jobs 200 threads",
        progress=Progress((("HLEN", f"huey.results.{QUEUE}"),)),
        slots=1,
        paces=(6_500, 3_200, 1_300),
        requirements=("huey", "redis", "hiredis"),
        acknowledges=False,
    ),
)

PEERS = (*OURS_SETTINGS, *NODE_PEERS, *PYTHON_PEERS)
