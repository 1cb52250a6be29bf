"""Lua lives in `lua/<folder>/<name>.lua`. This loads it, splices the fragments it names, and calls it by digest.

A line `-- include: <name>` stands for `lua/lib/<name>.lua`, once, however often it is named.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from toril.engine.redis.replies import ReplyError
from toril.engine.redis.slots import is_tagged
from toril.engine.redis.wire import Arg, Caller
from toril.errors import EngineUnavailable

_INCLUDE = re.compile(r"^-- include: (\w+)\s*$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


class Script(NamedTuple):
    """A script as it is sent. `digest` is its SHA-1, by which Redis knows it."""

    name: str
    text: bytes
    digest: bytes


@cache
def load(name: str) -> Script:
    """The script `lua/<name>.lua`, whole."""
    folder = files("toril.engine.redis") / "lua"
    included: set[str] = set()

    def spliced(text: str) -> str:
        def fragment(match: re.Match[str]) -> str:
            if match[1] in included:
                return ""
            included.add(match[1])
            return spliced((folder / "lib" / f"{match[1]}.lua").read_text(encoding="utf-8"))

        return _INCLUDE.sub(fragment, text)

    whole = spliced((folder / f"{name}.lua").read_text(encoding="utf-8"))
    # Comments are for readers of the file; the server parses the script again after each restart.
    text = _COMMENT.sub("", whole).encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def load_all() -> tuple[Script, ...]:
    """Every script there is, by name."""
    folder = files("toril.engine.redis") / "lua"
    names = (
        f"{group.name}/{file.name.removesuffix('.lua')}"
        for group in folder.iterdir()
        if group.is_dir() and group.name != "lib"
        for file in group.iterdir()
        if file.name.endswith(".lua")
    )
    return tuple(load(name) for name in sorted(names))


def keys_of(key: str, *, cluster: bool) -> tuple[str, ...]:
    """The keys that a script names for `key`.

    The scripts of a queue spell most of their keys themselves. While a slot is moved from node to node, key by key,
    such a script would find a part of them and end in its midst. So in a Cluster it names one more key, which never
    exists: both nodes refuse it before it begins (TRYAGAIN), and it is sent again until the slot has arrived.
    """
    return (key, f"{key}::") if cluster and is_tagged(key.encode()) else (key,)


async def run(
    client: Caller,
    script: Script,
    keys: tuple[str, ...],
    *args: Arg,
    repeatable: bool = True,
    timeout_s: float | None = None,
) -> Any:
    """Run a script. `keys` decide the Cluster slot. A server that does not know the script is taught it.

    Nearly every script here may be run again when its reply was lost: batches and exchanges are remembered by the
    store, and the others lead to the same state a second time.
    """
    try:
        return await client.call(
            b"EVALSHA", script.digest, len(keys), *keys, *args, timeout_s=timeout_s, repeatable=repeatable
        )
    except ReplyError as error:
        if error.code != "NOSCRIPT":
            raise
    try:
        return await client.call(
            b"EVAL", script.text, len(keys), *keys, *args, timeout_s=timeout_s, repeatable=repeatable
        )
    except EngineUnavailable as error:
        # A server that was restarted knows no script, but may have run this one before its answer was lost.
        error.ambiguous = True
        raise
