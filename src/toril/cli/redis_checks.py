"""What `toril doctor` looks at on a Redis or Valkey. What a server hides is said, and nothing is made up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from toril.cli.checks import Check, Level
from toril.cli.moments import size
from toril.engine.protocol import Health
from toril.kernel.durations import human

_SLOW_MS = 100
_SKEW_MS = 1_000
_NEARLY_FULL = 0.8
_SLOTS = 16_384
_DISK = {
    "aof": "every change goes to the append-only file",
    "rdb": "snapshots: a crash loses what came after the last one",
    "none": "nothing is kept on disk: a restart loses all jobs",
}


def server(health: Health) -> Iterator[Check]:
    """One line for each thing that decides whether jobs are safe there."""
    detail = health.detail
    if not health.ok:
        todo = "see that it runs and can be reached from here: host, port, user, password, rediss:// for TLS"
        yield Check("store", Level.FAIL, str(detail.get("error", "it does not answer")), todo)
        return
    yield _store(health)
    if "nodes" in detail:
        yield _nodes(detail["nodes"])
    yield _eviction(detail.get("policy"))
    yield _persistence(detail.get("persistence"))
    yield _access(detail.get("open"))
    yield _memory(detail.get("used_memory"), detail.get("max_memory"))
    yield _server_clock(detail.get("clock_ahead_ms"))
    yield _scripts(detail)


def _store(health: Health) -> Check:
    detail = health.detail
    kind = {"redis": "Redis", "valkey": "Valkey"}.get(str(detail.get("flavour")), "Redis")
    found = (
        f"{kind} {detail.get('version') or 'of a hidden version'} at {detail['location']}, keys begin with "
        f"{detail['prefix']}, wire {detail['wire']}, answers in {health.round_trip_ms:.1f} ms"
    )
    if health.round_trip_ms > _SLOW_MS:
        return Check("store", Level.WARN, found, "bring it nearer: each job takes a few round trips")
    return Check("store", Level.PASS, found)


def _nodes(nodes: list[dict[str, Any]]) -> Check:
    """The masters of a cluster. What the other lines say is what is worst among them."""
    found = ", ".join(
        f"{node['location']} ({node['slots']} slots, {'away' if 'error' in node else node.get('version') or 'hidden'})"
        for node in nodes
    )
    if any("error" in node for node in nodes):
        todo = "start what is away, or let a replica take over: the queues of its slots stand still"
        return Check("nodes", Level.WARN, found, todo)
    if sum(node["slots"] for node in nodes) < _SLOTS:
        todo = "give every slot to a node (redis-cli --cluster fix): queues whose slot nobody holds stand still"
        return Check("nodes", Level.WARN, found, todo)
    return Check("nodes", Level.PASS, found)


def _eviction(policy: str | None) -> Check:
    if policy is None:
        todo = "look at your provider's settings: it must be noeviction, or jobs may vanish"
        return Check("eviction", Level.WARN, "the server hides its policy", todo)
    if policy != "noeviction":
        todo = "CONFIG SET maxmemory-policy noeviction"
        return Check("eviction", Level.WARN, f"{policy}: when memory is full, jobs vanish", todo)
    return Check("eviction", Level.PASS, policy)


def _persistence(kind: str | None) -> Check:
    if kind is None:
        return Check("persistence", Level.PASS, "the server hides it: look at your provider's settings")
    level = Level.WARN if kind == "none" else Level.PASS
    todo = "CONFIG SET appendonly yes, and the same in its configuration file" if kind == "none" else ""
    return Check("persistence", level, f"{kind}: {_DISK[kind]}" if kind != "none" else _DISK[kind], todo)


def _access(is_open: bool | None) -> Check:
    if is_open:
        todo = "set requirepass or an ACL user, or bind it to 127.0.0.1"
        found = "it listens beyond this machine and needs no password: whoever reaches it can read and change jobs"
        return Check("access", Level.WARN, found, todo)
    found = "the server hides it" if is_open is None else "not open to everybody"
    return Check("access", Level.PASS, found)


def _memory(used: int | None, most: int | None) -> Check:
    if used is None:
        return Check("memory", Level.PASS, "the server hides it")
    if not most:
        return Check("memory", Level.PASS, f"{size(used)} used, no limit set")
    found = f"{size(used)} used of {size(most)}"
    if used > _NEARLY_FULL * most:
        todo = "raise maxmemory, or shorten the retention of finished jobs: a full server takes no more jobs"
        return Check("memory", Level.WARN, found, todo)
    return Check("memory", Level.PASS, found)


def _server_clock(ahead_ms: int | None) -> Check:
    if ahead_ms is None:
        return Check("server clock", Level.PASS, "the server hides it")
    if abs(ahead_ms) > _SKEW_MS:
        found = f"it is {human(abs(ahead_ms) / 1000)} {'ahead of' if ahead_ms > 0 else 'behind'} this machine's"
        todo = "set both clocks (NTP): delays go by this machine's clock, locks by the server's"
        return Check("server clock", Level.WARN, found, todo)
    return Check("server clock", Level.PASS, f"{abs(ahead_ms)} ms from this machine's")


def _scripts(detail: dict[str, Any]) -> Check:
    if "scripts" not in detail:
        return Check("scripts", Level.PASS, "the user may not ask for them; each is loaded at its first use")
    found = f"{detail['scripts_loaded']} of {detail['scripts']} loaded"
    return Check("scripts", Level.PASS, f"{found}; the others are at their first use")
