"""Error replies of a Redis server, told apart by their first word."""

from __future__ import annotations

import re

# The command was refused before it did anything, and another or the same server will take it soon.
RECONNECT = frozenset({"LOADING", "MASTERDOWN", "READONLY", "UNBLOCKED"})
PAUSE = frozenset({"BUSY", "CLUSTERDOWN", "TRYAGAIN"})

_CODE = re.compile(r"[A-Z][A-Z0-9_]*\Z")
# Servers before 7.0 wrap what stopped a script: "ERR Error running script (…): @user_script:1: -READONLY You can't …".
_IN_SCRIPT = re.compile(r"\AERR Error running script .*?-(READONLY|OOM|MISCONF|NOREPLICAS|MASTERDOWN) ", re.DOTALL)


class ReplyError(Exception):
    """The server answered a command with an error. Internal: engines turn it into an EngineError.

    `code` is the first word (`ERR`, `WRONGTYPE`, `NOSCRIPT`, `OOM`, `NOPERM`, …), `message` the whole text.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Moved(ReplyError):
    """The key belongs to another node of the cluster: `MOVED` for good, `ASK` for this one command.

    `host` is empty when the server means the host that was asked.
    """

    def __init__(self, code: str, message: str, *, slot: int, host: str, port: int) -> None:
        super().__init__(code, message)
        self.slot = slot
        self.host = host
        self.port = port


def reply_error(text: str) -> ReplyError:
    """The exception for the text of an error reply."""
    code = text.partition(" ")[0]
    if not _CODE.match(code):
        return ReplyError("ERR", text)
    if code in {"MOVED", "ASK"}:
        return _moved(code, text)
    wrapped = _IN_SCRIPT.match(text)
    return ReplyError(wrapped[1] if wrapped else code, text)


def _moved(code: str, text: str) -> ReplyError:
    match text.split():
        case [_, slot, place, *_] if slot.isdigit() and place.rpartition(":")[2].isdigit():
            host, _, port = place.rpartition(":")
            return Moved(code, text, slot=int(slot), host=host, port=int(port))
    return ReplyError(code, text)
