"""`python -m bench.clients`: our Redis client beside redis-py, on one redis-server, in turns.

Measures GET of a small value with 1, 50 and 200 tasks that each await their reply, and EVALSHA with 2 kB of arguments
with 50. Both clients speak RESP3 through hiredis on one connection. Prints medians and ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import NamedTuple

import redis.asyncio
from rich.console import Console
from rich.table import Table

from bench.redis.server import running
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient

_TASKS = (1, 50, 200)
_ARGUMENT = b"x" * 2000
_SCRIPT = "return #ARGV[1]"

Ask = Callable[[], Awaitable[object]]


class Sample(NamedTuple):
    """Replies per second, and µs of this process's CPU time per reply."""

    rate: float
    cpu_us: float


async def measure(ask: Ask, *, tasks: int, calls: int) -> Sample:
    """`tasks` tasks that ask one after the other, `calls` in all."""

    async def one() -> None:
        for _ in range(calls // tasks):
            await ask()

    await asyncio.gather(*[ask() for _ in range(tasks)])
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*[one() for _ in range(tasks)])
    cpu, took = time.process_time() - cpu, time.perf_counter() - began
    done = calls // tasks * tasks
    return Sample(done / took, cpu / done * 1e6)


async def compare(url: str, rounds: int, calls: int) -> dict[str, dict[str, list[Sample]]]:
    """Measure → client → one sample per round."""
    ours = RedisClient(parse_address(url))
    await ours.start()
    theirs = redis.asyncio.Redis.from_url(url, protocol=3, single_connection_client=False, max_connections=1000)
    await ours.call("SET", "key", "value")
    digest: bytes = await ours.call("SCRIPT", "LOAD", _SCRIPT)
    text = digest.decode()
    measures: dict[str, tuple[int, Mapping[str, Ask]]] = {
        f"GET, {tasks} task{'s' if tasks > 1 else ''}": (
            tasks,
            {"toril": lambda: ours.call(b"GET", b"key"), "redis-py": lambda: theirs.get("key")},
        )
        for tasks in _TASKS
    }
    measures["EVALSHA 2 kB, 50 tasks"] = (
        50,
        {
            "toril": lambda: ours.call(b"EVALSHA", digest, 0, _ARGUMENT),
            "redis-py": lambda: theirs.evalsha(text, 0, _ARGUMENT),
        },
    )
    samples: dict[str, dict[str, list[Sample]]] = {}
    for number in range(rounds):
        for name, (tasks, clients) in measures.items():
            for client, ask in sorted(clients.items(), reverse=number % 2 == 1):
                taken = await measure(ask, tasks=tasks, calls=calls)
                samples.setdefault(name, {}).setdefault(client, []).append(taken)
    await theirs.aclose()
    await ours.close()
    return samples


def show(samples: Mapping[str, Mapping[str, list[Sample]]], loop: str, rounds: int) -> None:
    """The table."""
    versions = f"hiredis {version('hiredis')}, redis-py {version('redis')}, {loop}"
    table = Table(title=f"replies per second and µs of CPU each, medians of {rounds} ({versions})")
    for column in ("", "toril", "redis-py", "ratio", "CPU ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name, clients in samples.items():
        rates = {client: statistics.median(one.rate for one in taken) for client, taken in clients.items()}
        costs = {client: statistics.median(one.cpu_us for one in taken) for client, taken in clients.items()}
        cells = [f"{rates[client]:,.0f}  {costs[client]:.1f} µs" for client in ("toril", "redis-py")]
        ratio, saved = rates["toril"] / rates["redis-py"], costs["redis-py"] / costs["toril"]
        table.add_row(name, *cells, f"{ratio:.1f}x", f"{saved:.1f}x")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main(arguments: list[str]) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20_000, help="calls per measure and round")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    options = parser.parse_args(arguments)
    factory = None
    if options.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with running() as server, asyncio.Runner(loop_factory=factory) as runner:
        samples = runner.run(compare(server.url, options.rounds, options.calls))
    show(samples, options.loop, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
