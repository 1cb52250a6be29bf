"""What a Redis holds, in the form of the recorded states; and recorded states written back into a Redis."""

from __future__ import annotations

import json
import time
from typing import Any

import redis

from tests.interop.recorded import Dump, Value

JSON_FIELDS = frozenset({"data", "opts", "parent", "progress", "returnvalue", "pd"})
JSON_EVENT_FIELDS = frozenset({"returnvalue", "data"})

Client = Any
"""A client of redis-py that decodes replies; its types tell what any client may answer, not what this one does."""


def connected(port: int) -> Client:
    """A client for a server of the tests."""
    return redis.Redis(host="127.0.0.1", port=port, decode_responses=True)


def read(client: Client) -> Dump:
    """Every key there is."""
    return {key: _value(client, key) for key in sorted(client.keys("*"))}


def write(client: Client, before: Dump, after: Dump) -> None:
    """Bring Redis from one recorded state to the next, and leave alone what is not recorded."""
    for key in before.keys() - after.keys():
        client.delete(key)
    for key, value in after.items():
        if before.get(key) != value:
            _put(client, key, before.get(key), value)


def plain(value: Any) -> str:
    """A value of a hash or an event as Redis holds it."""
    return json.dumps(value["$json"], ensure_ascii=False, separators=(",", ":")) if isinstance(value, dict) else value


def _value(client: Client, key: str) -> Value:
    kind = client.type(key)
    value: Any
    if kind == "string":
        value = client.get(key)
    elif kind == "list":
        value = client.lrange(key, 0, -1)
    elif kind == "set":
        value = sorted(client.smembers(key))
    elif kind == "zset":
        value = [[member, _score(score)] for member, score in client.zrange(key, 0, -1, withscores=True)]
    elif kind == "hash":
        value = {field: _parsed(field, text, JSON_FIELDS) for field, text in client.hgetall(key).items()}
    else:
        entries = client.xrange(key)
        value = [
            {name: _parsed(name, text, JSON_EVENT_FIELDS) for name, text in fields.items()} for _, fields in entries
        ]
    ttl = client.pttl(key)
    return {"type": kind, "value": value} | ({"ttl": ttl} if ttl >= 0 else {})


def _score(score: float) -> str:
    return format(score, ".17g")


def _parsed(field: str, text: str, names: frozenset[str]) -> Any:
    if field == "stacktrace":
        return {"$json": [entry.partition("\n")[0] for entry in json.loads(text)]}
    return {"$json": json.loads(text)} if field in names else text


def _put(client: Client, key: str, before: Value | None, after: Value) -> None:
    kind, value = after["type"], after["value"]
    if kind == "hash":
        gone = (before["value"].keys() if before else set()) - value.keys()
        if gone:
            client.hdel(key, *gone)
        client.hset(key, mapping={field: plain(text) for field, text in value.items()})
    elif kind == "stream":
        for fields in value[len(before["value"]) if before else 0 :]:
            client.xadd(key, {name: plain(text) for name, text in fields.items()})
    else:
        client.delete(key)
        if kind == "string":
            client.set(key, value)
        elif kind == "list":
            client.rpush(key, *value)
        elif kind == "set":
            client.sadd(key, *value)
        else:
            client.zadd(key, {member: float(score) for member, score in value})
    if "ttl" in after:
        client.pexpireat(key, int(time.time() * 1000) + after["ttl"])
