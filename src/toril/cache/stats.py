"""How well the cache works, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from toril.kernel import codec


@dataclass(slots=True)
class NameStats:
    """What became of the look-ups of one name since the process began.

    `local` and `store` are hits in memory and in the store, `stale` those that served an old value, `misses` those that
    found nothing; `loads` how often a value was made, `load_errors` how often that failed, `load_ms` the time it took
    in all; `unreached` look-ups while the store was away.
    """

    local: int = 0
    store: int = 0
    stale: int = 0
    misses: int = 0
    loads: int = 0
    load_errors: int = 0
    load_ms: int = 0
    unreached: int = 0

    @property
    def hits(self) -> int:
        """Look-ups that were answered without making the value."""
        return self.local + self.store + self.stale

    @property
    def hit_rate(self) -> float | None:
        """Hits among look-ups, 0 to 1; None before the first."""
        looked = self.hits + self.misses
        return self.hits / looked if looked else None


class CacheStats(NamedTuple):
    """The cache at a glance. `names` has the look-ups by name, `keys` and `bytes` say what is in this process's memory,
    `store_ready` whether the store can be reached, `processes` how many were added up.
    """

    hits: int
    misses: int
    hit_rate: float | None
    keys: int
    bytes: int
    store_ready: bool
    names: dict[str, NameStats]
    processes: int = 1


@dataclass(slots=True)
class Counters:
    """The counters of one process."""

    names: dict[str, NameStats] = field(default_factory=dict)

    def of(self, name: str) -> NameStats:
        """The counters of a name."""
        found = self.names.get(name)
        if found is None:
            found = self.names[name] = NameStats()
        return found

    def stored(self, keys: int, size: int) -> str:
        """As JSON, for others to add up."""
        names = {name: asdict(stats) for name, stats in list(self.names.items())}
        return codec.encode({"names": names, "keys": keys, "bytes": size})


def added_up(parts: list[Any], *, store_ready: bool) -> CacheStats:
    """The sum over processes, each as `Counters.stored` has written it."""
    names: dict[str, NameStats] = {}
    known = [each.name for each in fields(NameStats)]
    for part in parts:
        for name, values in part["names"].items():
            stats = names.setdefault(name, NameStats())
            for each in known:
                setattr(stats, each, getattr(stats, each) + int(values.get(each, 0)))
    whole = NameStats(**{each: sum(getattr(stats, each) for stats in names.values()) for each in known})
    return CacheStats(
        hits=whole.hits,
        misses=whole.misses,
        hit_rate=whole.hit_rate,
        keys=sum(part["keys"] for part in parts),
        bytes=sum(part["bytes"] for part in parts),
        store_ready=store_ready,
        names=dict(sorted(names.items())),
        processes=len(parts),
    )
