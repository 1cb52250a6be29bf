"""Looking at a whole store: one server, or each master of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from toril.engine.redis.clients import Clients
from toril.engine.redis.scripts import load_all
from toril.engine.redis.server import Server, look, together
from toril.engine.redis.wire import Caller
from toril.errors import ConfigError, EngineUnavailable


class Survey(NamedTuple):
    """What was found. `server` stands for all masters of a cluster; `nodes` is one entry for each, for people, with
    `location`, `slots` and what it says of itself, or `error`; empty on a single server. `there` are those that answer.
    """

    server: Server
    nodes: tuple[dict[str, Any], ...]
    there: tuple[Caller, ...]


async def survey(clients: Clients) -> Survey:
    """Ask every master. Raises EngineUnavailable when none answers, and ConfigError when one does not let us in."""
    masters = await clients.guarded(clients.masters())
    if not masters:
        client = await clients.client()
        return Survey(await clients.guarded(look(client)), (), (client,))
    found = await asyncio.gather(*(clients.guarded(look(master.client)) for master in masters), return_exceptions=True)
    servers: list[Server] = []
    there: list[Caller] = []
    nodes: list[dict[str, Any]] = []
    for master, server in zip(masters, found, strict=True):
        node: dict[str, Any] = {"location": master.address.redacted, "slots": master.slots}
        if isinstance(server, BaseException):
            if not isinstance(server, EngineUnavailable):
                raise server
            nodes.append(node | {"error": str(server)})
        else:
            servers.append(server)
            there.append(master.client)
            nodes.append(node | shown(server))
    if not servers:
        raise next(error for error in found if isinstance(error, EngineUnavailable))
    return Survey(together(servers), tuple(nodes), tuple(there))


def shown(server: Server) -> dict[str, Any]:
    """What people want to know of a server; what it hides is left out."""
    return {name: value for name, value in server._asdict().items() if value is not None}


async def scripts_loaded(clients: Clients, there: Sequence[Caller]) -> dict[str, Any]:
    """How many of the scripts the server holds, or the one that holds fewest; nothing when it does not tell."""
    scripts = load_all()
    words = [script.digest for script in scripts]
    try:
        flags = await asyncio.gather(
            *(clients.guarded(_asked(caller.call("SCRIPT", "EXISTS", *words, repeatable=True))) for caller in there)
        )
    except ConfigError:
        return {}
    return {"scripts": len(scripts), "scripts_loaded": min(sum(each) for each in flags)}


async def _asked(future: asyncio.Future[Any]) -> Any:
    return await future
