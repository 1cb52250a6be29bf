"""DocSnap never connects to the inside of a network, whatever a name, a redirect or a resolver says."""

from collections.abc import Iterable

import httpcore
import pytest

from docsnap.addresses import GuardedBackend, Resolver, refusal
from docsnap.errors import AddressRefused


class RecordingBackend(httpcore.AsyncNetworkBackend):
    """Notes where a connection would have gone."""

    def __init__(self, dead: frozenset[str] = frozenset()) -> None:
        self.connected: list[tuple[str, int]] = []
        self._dead = dead

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        if host in self._dead:
            raise httpcore.ConnectError("nobody there")
        return httpcore.AsyncMockStream([])


def names(*addresses: str) -> Resolver:
    async def answer(host: str, port: int) -> list[str]:
        return list(addresses)

    return answer


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.9.10", "loopback"),
        ("::1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("fd00::1", "private"),
        ("fec0::1", "private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("100.64.0.1", "reserved"),
        ("255.255.255.255", "private"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
    ],
)
def test_addresses_inside_a_network_are_refused(address: str, word: str) -> None:
    assert word in (refusal(address) or "")


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8"])
def test_public_addresses_pass(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"])
async def test_a_name_that_resolves_to_a_private_address_is_refused_before_connecting(address: str) -> None:
    network = RecordingBackend()
    guard = GuardedBackend(resolver=names(address), backend=network)
    with pytest.raises(AddressRefused, match="only public sites are crawled"):
        await guard.connect_tcp("innocent.example", 80)
    assert network.connected == []


async def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    network = RecordingBackend()
    guard = GuardedBackend(resolver=names("93.184.216.34", "10.0.0.1"), backend=network)
    with pytest.raises(AddressRefused):
        await guard.connect_tcp("mixed.example", 443)
    assert network.connected == []


async def test_the_connection_goes_to_the_checked_address_and_the_name_is_asked_once() -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    network = RecordingBackend()

    async def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    await GuardedBackend(resolver=rebinding, backend=network).connect_tcp("rebind.example", 80)
    assert network.connected == [("93.184.216.34", 80)]


async def test_the_next_address_is_tried_when_one_is_dead() -> None:
    network = RecordingBackend(dead=frozenset({"2606:2800::1"}))
    guard = GuardedBackend(resolver=names("2606:2800::1", "93.184.216.34"), backend=network)
    await guard.connect_tcp("two.example", 80)
    assert network.connected == [("2606:2800::1", 80), ("93.184.216.34", 80)]


async def test_only_the_allowed_port_of_a_private_host_is_open() -> None:
    network = RecordingBackend()
    guard = GuardedBackend({"127.0.0.1:8080"}, resolver=names("127.0.0.1"), backend=network)
    await guard.connect_tcp("127.0.0.1", 8080)
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1:8081 is a loopback address"):
        await guard.connect_tcp("127.0.0.1", 8081)
    assert network.connected == [("127.0.0.1", 8080)]


async def test_numbers_that_only_look_like_names_are_resolved_and_refused() -> None:
    for spelling in ("2130706433", "0x7f.1", "127.1"):
        with pytest.raises(AddressRefused, match="loopback"):
            await GuardedBackend(backend=RecordingBackend()).connect_tcp(spelling, 80)


async def test_an_unknown_name_is_an_ordinary_connection_error() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(httpcore.ConnectError, match="cannot be resolved"):
        await GuardedBackend(resolver=unknown).connect_tcp("missing.example", 80)


async def test_local_sockets_are_refused() -> None:
    with pytest.raises(AddressRefused, match="local socket"):
        await GuardedBackend().connect_unix_socket("/run/secret.sock")
