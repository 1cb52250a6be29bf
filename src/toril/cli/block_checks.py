"""What `toril doctor` looks at beside jobs: the blocks."""

from __future__ import annotations

import time

from toril.cli.checks import Check, Level
from toril.engine.protocol import Engine
from toril.errors import ConfigError, TorilError
from toril.kernel.ids import token_hex
from toril.sessions.sessions import Sessions

_LONGEST_S = 5.0
_SLOW_MS = 500.0
_KEPT_MS = 10_000


async def channels(engine: Engine, now: int) -> Check:
    """Whether a message that is published arrives, and how soon."""
    name = f"doctor:{token_hex()}"
    try:
        tail = await engine.channels.tail()
        try:
            tail.follow({name: "0"})
            began = time.perf_counter()
            await engine.channels.publish(name, [b"0"], keep=1, ttl_ms=_KEPT_MS, now=now)
            arrived = await tail.read(timeout=_LONGEST_S)
            took_ms = (time.perf_counter() - began) * 1000
        finally:
            await tail.close()
    except TorilError as error:
        return Check("channels", Level.FAIL, str(error), "see the message, then run toril doctor again")
    if not arrived:
        found = f"a message did not arrive within {_LONGEST_S:g} s"
        return Check("channels", Level.FAIL, found, "look whether the store lets its user read streams")
    found = f"a message arrives after {took_ms:.1f} ms"
    if took_ms > _SLOW_MS:
        return Check("channels", Level.WARN, found, "look what keeps this machine or the store busy")
    return Check("channels", Level.PASS, found)


def sessions(found: Sessions) -> Check | None:
    """Whether sessions are set up safely; None when there is no secret, since nobody uses them then."""
    if found.settings.secret is None:
        return None
    try:
        count = found.signer.secrets
    except ConfigError as error:
        return Check("sessions", Level.FAIL, str(error), "correct TORIL_SESSIONS_SECRET")
    told = f"cookies are signed with {count} secret{'s' if count > 1 else ''}"
    if not found.settings.secure:
        todo = "take TORIL_SESSIONS_SECURE=false away where people log in: anybody on the way can take the cookie"
        return Check("sessions", Level.WARN, f"{told}, and sent without HTTPS too", todo)
    return Check("sessions", Level.PASS, told)
