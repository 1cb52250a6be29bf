"""A Redis Cluster of our own: masters that share the slots, and replicas, each a server to be killed and frozen."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import redis

from tests.redis.server import RedisServer, free_port, major

SLOTS = 16_384

_FORMS_S = 30.0
_TAKES_OVER_S = 6.0
_TRIES = 10


class ClusterServers:
    """`masters` servers, and `replicas` replicas of the first one. `options` are words of each command line."""

    def __init__(self, folder: Path, *options: str, masters: int = 3, replicas: int = 0) -> None:
        self._folder = folder
        self._options = options
        self._masters = masters
        self._replicas = replicas
        self._buses: list[int] = []
        self.nodes: list[RedisServer] = []

    @property
    def url(self) -> str:
        """All nodes, without login."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def start(self) -> None:
        """Start the nodes, join them, and return when the cluster takes commands."""
        self.nodes = [self._started(number) for number in range(self._masters + self._replicas)]
        for number in range(self._masters):
            first, last = (SLOTS * each // self._masters for each in (number, number + 1))
            self.ask(number, "CLUSTER", "ADDSLOTS", *range(first, last))
            self.ask(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number in range(1, len(self.nodes)):
            self.ask(number, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, *self._buses[:1])
        self.until(self._has_formed)
        for number in range(self._masters, len(self.nodes)):
            self.ask(number, "CLUSTER", "REPLICATE", self.id(0))
        for number in range(self._masters, len(self.nodes)):
            self.until(partial(self._is_in_step, number))

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.kill()

    def ask(self, number: int, *command: Any) -> Any:
        """The reply of one node."""
        with redis.Redis(port=self.nodes[number].port, decode_responses=True, socket_timeout=_FORMS_S) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def id(self, number: int) -> str:
        """By what name the nodes know one of them."""
        return str(self.ask(number, "CLUSTER", "MYID"))

    def take_over(self, number: int) -> None:
        """Have a replica become the master, in good order."""
        self.ask(number, "CLUSTER", "FAILOVER")
        ends = time.monotonic() + _TAKES_OVER_S
        while "role:master" not in self.ask(number, "INFO", "replication"):
            if time.monotonic() > ends:
                # It gives up after five seconds by itself, when the machine is slow.
                self.take_over(number)
            time.sleep(0.05)

    def owner(self, slot: int) -> int:
        """The number of the node that holds a slot, as the first node that answers sees it."""
        ports = [node.port for node in self.nodes]
        reply = self.ask(0, "CLUSTER", "SLOTS")
        return next(ports.index(master[1]) for first, last, master, *_ in reply if first <= slot <= last)

    def begin_move(self, slot: int, target: int) -> None:
        """Have a slot belong to two nodes: what is not at its owner any more is looked for at the target."""
        source = self.owner(slot)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id(target))

    def move_keys(self, slot: int, target: int, most: int = 1_000_000) -> None:
        """Move keys of a slot, all unless fewer are asked for, between `begin_move` and `end_move`."""
        source, port = self.owner(slot), self.nodes[target].port
        while most > 0 and (keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, min(most, 10))):
            try:
                self.ask(source, "MIGRATE", "127.0.0.1", port, "", 0, 5000, "REPLACE", "KEYS", *keys)
            except redis.ResponseError as error:
                if "IOERR" not in str(error):
                    raise
                # The target is paused, because it becomes a replica.
                continue
            most -= len(keys)

    def end_move(self, slot: int, target: int) -> None:
        """Move the keys that are left, and the slot."""
        ends = time.monotonic() + _FORMS_S
        while True:
            assert time.monotonic() < ends, "the slot cannot be moved"
            self.move_keys(slot, target)
            # The source refuses while it still has keys: some may have been written since.
            try:
                others = [self.owner(slot), *(number for number in self.masters() if number != target)]
                for number in [target, *dict.fromkeys(others)]:
                    self.ask(number, "CLUSTER", "SETSLOT", slot, "NODE", self.id(target))
            except redis.ResponseError:
                continue
            return

    def masters(self) -> list[int]:
        """The numbers of the nodes that are masters now."""
        return [number for number in range(len(self.nodes)) if "role:master" in self.ask(number, "INFO", "replication")]

    def clear(self) -> None:
        """Delete all keys of all masters."""
        for number in range(self._masters):
            self.ask(number, "FLUSHALL")

    def until(self, happened: Callable[[], bool]) -> None:
        """Wait for a condition."""
        ends = time.monotonic() + _FORMS_S
        while not happened():
            assert time.monotonic() < ends, "\n".join(line for node in self.nodes for line in node.said)
            time.sleep(0.05)

    def _has_formed(self) -> bool:
        states = [self.ask(number, "CLUSTER", "INFO") for number in range(len(self.nodes))]
        known = f"cluster_known_nodes:{len(self.nodes)}"
        return all("cluster_state:ok" in state and known in state for state in states)

    def _is_in_step(self, number: int) -> bool:
        return "master_link_status:up" in self.ask(number, "INFO", "replication")

    def _started(self, number: int) -> RedisServer:
        for _ in range(_TRIES):
            # Before Redis 7 the bus has the port of the node and 10,000.
            bus = [free_port()] if major() >= 7 else []
            place = ("--cluster-enabled", "yes", *(word for port in bus for word in ("--cluster-port", str(port))))
            server = RedisServer(self._folder / f"node-{number}", *place, *self._options)
            try:
                server.start()
            except AssertionError:
                continue
            self._buses += bus
            return server
        raise AssertionError("no node of a cluster starts")
