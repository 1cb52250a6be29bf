"""Looking at a server before jobs are entrusted to it: what it is, and whether it would keep them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

from toril.engine.redis.records import text
from toril.engine.redis.replies import ReplyError
from toril.engine.redis.wire import Caller
from toril.errors import ConfigError

# XRANGE without its first entry, ZRANGE … REV, LPOS, COPY.
OLDEST = (6, 2)

_LOCAL = frozenset({"127.0.0.1", "::1", "-::1", "localhost"})
_SETTINGS = ("maxmemory-policy", "save", "bind", "protected-mode", "requirepass")


class Server(NamedTuple):
    """What a server says of itself; None is what it does not tell.

    `persistence` is `aof`, `rdb` or `none`; `open` is true when it listens beyond this machine without a password;
    `clock_ahead_ms` is how far its clock is ahead of ours, as far as the round trip tells.
    """

    version: str | None
    flavour: str
    mode: str | None
    policy: str | None
    persistence: str | None
    open: bool | None
    used_memory: int | None
    max_memory: int | None
    role: str | None
    clock_ahead_ms: int | None = None


async def look(client: Caller) -> Server:
    """Ask the server. What it hides (hosted servers hide CONFIG, some INFO) stays None.

    Raises EngineUnavailable when it does not answer, and ReplyError when it does not let us in.
    """
    await client.call("PING", repeatable=True)
    info = _info_of(await _asked(client, "INFO"))
    settings: dict[str, str] = {}
    for name in _SETTINGS:
        settings |= _pairs_of(await _asked(client, "CONFIG", "GET", name))
    return Server(
        version=info.get("valkey_version") or info.get("redis_version"),
        flavour="valkey" if "valkey_version" in info else "redis",
        mode=info.get("server_mode") or info.get("redis_mode"),
        policy=info.get("maxmemory_policy") or settings.get("maxmemory-policy"),
        persistence=_persistence(info, settings),
        open=_is_open(settings, has_nameless_login=await _lets_anybody_in(client)),
        used_memory=_number(info.get("used_memory")),
        max_memory=_number(info.get("maxmemory")),
        role=info.get("role"),
        clock_ahead_ms=await _clock_ahead_ms(client),
    )


def together(servers: Sequence[Server]) -> Server:
    """The masters of a cluster as if they were one server: of each thing what is worst among them."""
    first = servers[0]
    kinds = [kind for kind in ("none", "rdb", "aof") if any(server.persistence == kind for server in servers)]
    fullest = max(servers, key=lambda server: (server.used_memory or 0) / (server.max_memory or inf))
    ahead = [server.clock_ahead_ms for server in servers if server.clock_ahead_ms is not None]
    return first._replace(
        policy=next((server.policy for server in servers if server.policy != "noeviction"), first.policy),
        persistence=kinds[0] if kinds else None,
        open=any(server.open for server in servers) if any(server.open is not None for server in servers) else None,
        used_memory=fullest.used_memory,
        max_memory=fullest.max_memory,
        clock_ahead_ms=max(ahead, key=abs, default=None),
    )


def check(server: Server, location: str, *, allow_eviction: bool, cluster: bool = False) -> Iterator[str]:
    """Warnings about a server, each with what to do. Raises ConfigError for one that jobs cannot be entrusted to."""
    version = tuple(int(part) for part in re.findall(r"\d+", server.version or "")[:2])
    if version and version < OLDEST:
        wanted = ".".join(str(part) for part in OLDEST)
        raise ConfigError(
            f"{location}: expected Redis {wanted} or newer, or Valkey, found {server.version}. Upgrade the server, or "
            "use sqlite:///toril.db."
        )
    if server.mode == "cluster" and not cluster:
        raise ConfigError(
            f"{location}: expected a single server, found a node of a cluster. Write redis+cluster:// "
            "(rediss+cluster:// with TLS) and name some of its nodes."
        )
    if server.policy is None:
        yield f"{location} hides its eviction policy: make sure that it is noeviction, or jobs may vanish."
    elif server.policy != "noeviction":
        if not allow_eviction:
            raise ConfigError(
                f"{location}: expected the eviction policy noeviction, found {server.policy}: when memory runs out the "
                "server would throw jobs away. Run CONFIG SET maxmemory-policy noeviction, use another server, "
                "or accept it with ?eviction=allow."
            )
        yield f"{location} evicts keys ({server.policy}): when its memory is full, jobs vanish (eviction=allow)."
    if server.persistence == "none":
        yield f"{location} keeps nothing on disk: a restart loses all jobs. Run CONFIG SET appendonly yes."
    if server.open:
        yield (
            f"{location} listens beyond this machine without a password: anybody who reaches it can read and change "
            "jobs. Set requirepass or an ACL user, or bind it to 127.0.0.1."
        )
    if server.role == "slave":
        raise ConfigError(f"{location}: expected a primary, found a replica, which takes no writes. Name the primary.")


async def _asked(client: Caller, *command: str) -> Any:
    """The reply, None when the server refuses to tell."""
    try:
        return await client.call(*command, repeatable=True)
    except ReplyError:
        return None


async def _clock_ahead_ms(client: Caller) -> int | None:
    before = time.time()
    reply = await _asked(client, "TIME")
    after = time.time()
    if reply is None:
        return None
    seconds, micros = (int(part) for part in reply)
    ahead = seconds + micros / 1e6 - (before + after) / 2
    # Half of the round trip is as much as can be told apart.
    return round(ahead * 1000) if abs(ahead) > (after - before) / 2 else 0


async def _lets_anybody_in(client: Caller) -> bool | None:
    """Whether the default user needs no password; None when the server does not tell."""
    reply = await _asked(client, "ACL", "GETUSER", "default")
    if reply is None:
        return None
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    flags = {flag for name, value in pairs if name == b"flags" for flag in value}
    return b"nopass" in flags and b"on" in flags


def _is_open(settings: dict[str, str], *, has_nameless_login: bool | None) -> bool | None:
    if "bind" not in settings or has_nameless_login is None:
        return None
    # Protected mode lets only this machine in as long as there is no password.
    if not has_nameless_login or settings.get("protected-mode") == "yes":
        return False
    addresses = settings["bind"].split()
    return not addresses or any(address not in _LOCAL for address in addresses)


def _persistence(info: dict[str, str], settings: dict[str, str]) -> str | None:
    if info.get("aof_enabled") == "1":
        return "aof"
    if "save" in settings:
        return "rdb" if settings["save"] else "none"
    return None


def _info_of(reply: Any) -> dict[str, str]:
    lines = text(reply).splitlines() if isinstance(reply, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _pairs_of(reply: Any) -> dict[str, str]:
    if reply is None:
        return {}
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {text(name): text(value) for name, value in pairs}


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None
