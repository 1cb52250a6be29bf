"""Redis' error replies in Toril's words. The only place where they are translated."""

from __future__ import annotations

from toril.engine.redis.replies import ReplyError
from toril.errors import ConfigError, EngineError, EngineUnavailable, StoreFull, TorilError

_PASSING = frozenset({"LOADING", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS", "MOVED", "ASK"})


def translated(error: ReplyError, location: str) -> TorilError:
    """The error of ours that says what `error` means for the store at `location`, and what to do."""
    if error.code == "OOM":
        return StoreFull(
            f"{location}: the server's memory is used up ({error}). Nothing of this call was stored; raise maxmemory, "
            "or delete finished jobs."
        )
    if error.code == "MISCONF":
        return EngineUnavailable(
            f"{location}: the server refuses writes because it could not save to disk ({error}). Look into its log and "
            "free some space."
        )
    if error.code == "READONLY":
        return EngineUnavailable(
            f"{location}: the server is a replica and takes no writes. Name the primary in the URL, or wait for the "
            "fail-over to end."
        )
    if error.code in _PASSING:
        return EngineUnavailable(f"{location}: the server cannot take commands now ({error}). Call again.")
    if error.code in {"NOPERM", "NOAUTH", "WRONGPASS"}:
        return ConfigError(
            f"{location}: the server does not allow this to the user of the URL ({error}). Give the user these rights "
            "(ACL SETUSER), or name another user."
        )
    if error.code == "WRONGTYPE":
        return EngineError(
            f"{location}: a key of the store holds something else than expected ({error}). Another program writes "
            "under the same prefix; choose another one."
        )
    return EngineError(f"{location}: the server refused a command ({error}).")
