"""Values in this process's memory, in front of the store: bounded by their number and their bytes.

Who is asked for stays: when room is needed, values that were not asked for since the last round go first, the oldest of
them before the others.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# What a value costs beside its own bytes, about.
_OVERHEAD_BYTES = 400


class Node:
    """One value in memory. `dead` is true once it must not be served any more."""

    __slots__ = ("asked", "dead", "fresh_until", "key", "memos", "refresh_at", "shape", "size", "tags", "value")

    def __init__(
        self,
        key: str,
        value: Any,
        *,
        shape: object,
        fresh_until: int,
        refresh_at: int,
        size: int,
        tags: tuple[str, ...],
    ) -> None:
        self.key = key
        self.value = value
        self.shape = shape
        self.fresh_until = fresh_until
        self.refresh_at = refresh_at
        self.size = size + _OVERHEAD_BYTES
        self.tags = tags
        self.asked = False
        self.dead = False
        # Shorter ways to this node, which end with it.
        self.memos: list[tuple[dict[Hashable, Node], Hashable]] = []


class Making:
    """A value that is being made. `spoiled`: its key was dropped meanwhile, and the value may be the old one."""

    __slots__ = ("key", "spoiled")

    def __init__(self, key: str) -> None:
        self.key = key
        self.spoiled = False


class LocalTier:
    """The values of one process. Safe to share between threads; reading takes no lock."""

    def __init__(self, *, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._nodes: OrderedDict[str, Node] = OrderedDict()
        self._by_tag: dict[str, set[Node]] = {}
        self._makings: set[Making] = set()
        self._lock = threading.Lock()
        self.bytes = 0
        # Grows with everything that was dropped on demand: whoever read the store before must not keep what it read.
        self.epoch = 0
        self.is_on = most > 0 and most_bytes > 0

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, key: str) -> Node | None:
        """The node of a key, fresh or not."""
        node = self._nodes.get(key)
        if node is not None:
            node.asked = True
        return node

    def put(self, node: Node, *, epoch: int) -> None:
        """Keep a node, unless something was dropped since `epoch` or it is too big."""
        if not self.is_on:
            return
        with self._lock:
            if not self.is_on or epoch != self.epoch or node.size > self._most_bytes // 4:
                return
            old = self._nodes.get(node.key)
            if old is not None:
                self._remove(old)
            self._nodes[node.key] = node
            self.bytes += node.size
            for tag in node.tags:
                self._by_tag.setdefault(tag, set()).add(node)
            while len(self._nodes) > self._most or self.bytes > self._most_bytes:
                self._evict()

    def memo(self, node: Node, memos: dict[Hashable, Node], key: Hashable) -> None:
        """Remember a shorter way to a node that is kept."""
        with self._lock:
            if not node.dead and self._nodes.get(node.key) is node:
                memos[key] = node
                node.memos.append((memos, key))

    def drop(self, keys: Iterable[str] = (), tags: Iterable[str] = (), prefixes: tuple[str, ...] = ()) -> None:
        """Forget values by key, by tag and by the begin of their keys."""
        with self._lock:
            self.epoch += 1
            keys = set(keys)
            for making in self._makings:
                if making.key in keys or (prefixes and making.key.startswith(prefixes)):
                    making.spoiled = True
            for key in keys:
                self._drop_if(self._nodes.get(key))
            for tag in tags:
                for node in list(self._by_tag.get(tag, ())):
                    self._remove(node)
            if prefixes:
                for node in [node for key, node in self._nodes.items() if key.startswith(prefixes)]:
                    self._remove(node)

    @contextmanager
    def making(self, key: str) -> Iterator[Making]:
        """Watch a key while its value is being made."""
        making = Making(key)
        with self._lock:
            self._makings.add(making)
        try:
            yield making
        finally:
            with self._lock:
                self._makings.discard(making)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.epoch += 1
            for node in list(self._nodes.values()):
                self._remove(node)

    def _drop_if(self, node: Node | None) -> None:
        if node is not None:
            self._remove(node)

    def _evict(self) -> None:
        while True:
            key, node = next(iter(self._nodes.items()))
            if not node.asked:
                self._remove(node)
                return
            node.asked = False
            self._nodes.move_to_end(key)

    def _remove(self, node: Node) -> None:
        node.dead = True
        if self._nodes.get(node.key) is node:
            del self._nodes[node.key]
            self.bytes -= node.size
        for tag in node.tags:
            found = self._by_tag.get(tag)
            if found is not None:
                found.discard(node)
                if not found:
                    del self._by_tag[tag]
        for memos, key in node.memos:
            if memos.get(key) is node:
                del memos[key]
        node.memos.clear()
