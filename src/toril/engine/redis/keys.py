"""Every Redis key that Toril reads or writes is spelled here (and, from the bases given here, in `lua/`).

The job side is BullMQ's layout: `<prefix>:<queue>:<key>`. What is Toril's own lies outside it, so that BullMQ's
clean-up of orphans cannot take it for a job: `toril:<prefix>:<queue>:<key>` in the same Cluster slot, and
`toril:<namespace>:<key>`. In a Cluster all keys of a queue lie in one slot, and each key of a namespace in its own.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

from toril.engine.redis.slots import is_tagged, tag_of
from toril.errors import ConfigError

DEFAULT_PREFIX = "bull"
CLUSTER_PREFIX = "{bull-<queue>}"
"""What stands for the default prefix in a Cluster: a slot for each queue."""


class QueueKeys(NamedTuple):
    """The two bases of a queue's keys: BullMQ's and Toril's own. Both end with a colon."""

    base: str
    own: str

    def of(self, name: str) -> str:
        """A key of BullMQ's layout: `meta`, `wait`, `events`, …, or a job id."""
        return self.base + name

    @property
    def lease(self) -> str:
        """Who does the maintenance of the queue."""
        return self.own + "lease"


class Keys:
    """The keys of one store. `prefix` is BullMQ's; in Cluster it holds the hash tag, and may contain `<queue>`.

    Raises ConfigError for a prefix without a hash tag when `cluster` is true, and for queue names that BullMQ refuses.
    """

    def __init__(self, prefix: str = DEFAULT_PREFIX, *, cluster: bool = False) -> None:
        if cluster and not is_tagged(prefix.encode()):
            raise ConfigError(
                "prefix: expected a hash tag, such as '{bull}' or '{bull-<queue>}', because all keys of a queue "
                f"must lie in one slot of a Cluster, got {prefix!r}."
            )
        self._prefix = prefix
        self.cluster = cluster
        self.spread = cluster and tag_of(prefix.encode()) != tag_of(self.prefix("a").encode())
        """Whether the keys of two queues may lie in two slots."""

    def queue(self, queue: str) -> QueueKeys:
        """The keys of a queue. Raises ConfigError for an empty name or one with a colon, and in a Cluster for one that
        would put the keys of the queue into several slots.
        """
        if not queue or ":" in queue:
            raise ConfigError(f"queue: expected a name without colons, got {queue!r}.")
        prefix = self.prefix(queue)
        if self.spread and not is_tagged(prefix.encode()):
            raise ConfigError(f"queue: expected a name that does not begin with a brace, got {queue!r}.")
        return QueueKeys(f"{prefix}:{queue}:", f"toril:{prefix}:{queue}:")

    def prefix(self, queue: str) -> str:
        """BullMQ's prefix for a queue."""
        return self._prefix.replace("<queue>", queue)

    def queues(self) -> str:
        """The set of queues that Toril knows."""
        return f"toril:{self._prefix}:queues"

    def slot_tag(self, queue: str) -> str:
        """What decides the Cluster slot of a queue's keys."""
        prefix = self.prefix(queue).encode()
        return tag_of(prefix).decode() if is_tagged(prefix) else f"{self.prefix(queue)}:{queue}"

    def split(self, key: str) -> tuple[str, str]:
        """Queue and id out of a job's key. A queue's name has no colon, but an id of another producer may have some."""
        start = f"{self._prefix}:"
        if key.startswith(start):
            queue, _, id_ = key[len(start) :].partition(":")
            return queue, id_
        above, _, id_ = key.rpartition(":")
        return above.rpartition(":")[2], id_

    def value(self, key: str) -> str:
        """A value of the key-value port."""
        return f"toril:kv:{key}"

    def channel(self, name: str) -> str:
        """The stream of a channel. All channels lie in one slot of a Cluster, so that one connection follows many."""
        return f"toril:{{channels}}:{name}"

    def channel_nudge(self, reader: str) -> str:
        """The stream that wakes one reader of channels; no channel has its name."""
        return f"toril:{{channels}}-nudge:{reader}"

    def meter(self, key: str) -> str:
        """What was counted for a key of the limits port."""
        return f"toril:limits:{key}"

    def worker_name(self, queue: str, worker: str) -> str:
        """The name that one connection of a worker carries for each queue, so that BullMQ counts it."""
        name = "".join(letter if "!" <= letter <= "~" else "_" for letter in worker)
        return f"{self.prefix(queue)}:{base64.b64encode(queue.encode()).decode()}:w:{name}"
