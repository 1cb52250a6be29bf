"""Getting in: passwords, users, TLS, Unix sockets, and what is said when the server does not let us."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import trustme

from tests.redis.conftest import StartServer
from tests.redis.fake import FakeRedis, Peer
from tests.redis.server import RedisServer
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.link import ClientOptions
from toril.errors import EngineUnavailable


async def answer_of(url: str) -> object:
    """What PING says there, or why it is not reached. It must not take longer than the refusal itself."""
    client = RedisClient(parse_address(url), options=ClientOptions(timeout_s=8, backoff_s=0.01, backoff_cap_s=0.05))
    answers: list[object] = await asyncio.gather(client.call("PING"), return_exceptions=True)
    await client.close()
    return answers[0]


def acl(rules: str) -> list[str]:
    return ["--user", *rules.split()]


async def test_password_and_acl_user(start_server: StartServer) -> None:  # S0-28
    server = start_server("--requirepass", "s3c/ret", *acl("app on >p@ss ~* &* +@all"))
    place = f"127.0.0.1:{server.port}"
    assert await answer_of(f"redis://:s3c%2Fret@{place}/1") == b"PONG"
    assert await answer_of(f"redis://default:s3c%2Fret@{place}") == b"PONG"
    assert await answer_of(f"redis://app:p%40ss@{place}?protocol=2") == b"PONG"
    for login in ("", ":wrong@", "app:s3c%2Fret@", "nobody:p%40ss@"):
        said = str(await answer_of(f"redis://{login}{place}"))
        assert "NOAUTH" in said or "WRONGPASS" in said or "requires authentication" in said
        assert "s3c" not in said
        assert "wrong@" not in said


async def test_a_user_without_rights_is_told_which_are_missing(start_server: StartServer) -> None:
    server = start_server(*acl("app on >pass ~* +get"))
    assert "NOPERM" in str(await answer_of(f"redis://app:pass@127.0.0.1:{server.port}"))


async def test_a_password_that_is_put_right_lets_us_in(start_server: StartServer) -> None:
    server = start_server("--requirepass", "old")
    options = ClientOptions(backoff_s=0.01, backoff_cap_s=0.02)
    admin = RedisClient(parse_address(f"redis://:old@127.0.0.1:{server.port}"))
    client = RedisClient(parse_address(f"redis://:new@127.0.0.1:{server.port}"), options=options)
    with pytest.raises(EngineUnavailable, match="WRONGPASS"):
        await client.start()
    # While it is refused, nobody waits for nothing.
    with pytest.raises(EngineUnavailable, match="WRONGPASS"):
        await client.start()
    await admin.call("CONFIG", "SET", "requirepass", "new")
    for _ in range(1000):
        try:
            await client.start()
            break
        except EngineUnavailable:
            await admin.call("PING", repeatable=True)
    assert client.is_connected
    await client.close()
    await admin.close()


async def test_a_database_that_is_not_there_is_said(start_server: StartServer) -> None:
    server = start_server("--databases", "2")
    assert "DB index is out of range" in str(await answer_of(f"{server.url}/9"))


async def test_a_unix_socket(start_server: StartServer, tmp_path: Path) -> None:
    # Paths of sockets are short: 108 bytes on Linux.
    path = tmp_path / "r.sock"
    start_server("--unixsocket", str(path))
    assert await answer_of(f"unix://{path}?db=1") == b"PONG"
    assert "No such file" in str(await answer_of_absent(tmp_path / "none.sock"))


async def answer_of_absent(path: Path) -> object:
    options = ClientOptions(timeout_s=0.1, backoff_s=0.01)
    client = RedisClient(parse_address(f"unix://{path}"), options=options)
    with pytest.raises(EngineUnavailable) as caught:
        await client.start()
    await client.close()
    return caught.value


class Secured:
    """A TLS server with certificates of its own CA."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.port = server.port
        self.ca, self.certificate, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))


@pytest.fixture
def secured(start_server: StartServer, tmp_path: Path) -> Secured:
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    for number, pem in enumerate(issued.cert_chain_pems):
        pem.write_to_path(str(tmp_path / "cert.pem"), append=number > 0)
    files = ("--tls-cert-file", tmp_path / "cert.pem", "--tls-key-file", tmp_path / "key.pem")
    server = start_server(*map(str, files), "--tls-ca-cert-file", str(tmp_path / "ca.pem"), plain=False)
    return Secured(server, tmp_path)


def client_files(secured: Secured) -> str:
    return f"ssl_ca_certs={secured.ca}&ssl_certfile={secured.certificate}&ssl_keyfile={secured.key}"


async def test_tls_with_its_own_ca(secured: Secured) -> None:  # S0-25 S0-29
    url = f"rediss://127.0.0.1:{secured.port}?{client_files(secured)}"
    assert await answer_of(url) == b"PONG"
    unchecked = url.replace(f"ssl_ca_certs={secured.ca}", "ssl_cert_reqs=none")
    assert await answer_of(unchecked) == b"PONG"


async def test_a_large_value_goes_through_tls(secured: Secured) -> None:
    client = RedisClient(parse_address(f"rediss://127.0.0.1:{secured.port}?{client_files(secured)}"))
    value = b"x" * 3_000_000
    written = [client.call("SET", n, value) for n in range(3)]
    assert [await future for future in written] == [b"OK"] * 3
    assert await client.call("GET", 2) == value
    await client.close()


async def test_tls_refuses_what_it_cannot_check(secured: Secured, tmp_path: Path) -> None:  # S0-29
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    files = client_files(secured)
    place = f"127.0.0.1:{secured.port}"
    for query in ("", f"ssl_ca_certs={other}"):
        assert "certificate is not trusted" in str(await answer_of(f"rediss://{place}?{query}"))
    # The certificate is for 127.0.0.1, not for this name.
    assert "certificate is not trusted" in str(await answer_of(f"rediss://localhost:{secured.port}?{files}"))
    nameless = f"rediss://localhost:{secured.port}?{files}&ssl_check_hostname=false"
    assert await answer_of(nameless) == b"PONG"
    assert "expected a file with PEM certificates" in str(await answer_of(f"rediss://{place}?ssl_ca_certs=/none"))


async def test_tls_and_plain_text_do_not_mix(start_server: StartServer, secured: Secured) -> None:
    plain = start_server()
    # A server without TLS waits for the end of what it takes for a command.
    options = ClientOptions(connect_timeout_s=0.2, timeout_s=0.5)
    for url, hint in (
        (f"rediss://127.0.0.1:{plain.port}", "a server without TLS is redis://"),
        (f"redis://127.0.0.1:{secured.port}", "a server with TLS is rediss://"),
    ):
        client = RedisClient(parse_address(url), options=options)
        with pytest.raises(EngineUnavailable, match=f"was not executed.*{hint}") as caught:
            await client.start()
        assert not caught.value.ambiguous
        await client.close()


async def test_what_is_no_redis_is_said() -> None:
    async def web_server(peer: Peer, command: list[bytes]) -> bytes | None:
        return b"HTTP/1.1 400 Bad Request\r\n\r\n"

    async with FakeRedis(web_server) as fake:
        client = RedisClient(parse_address(fake.url), options=ClientOptions(timeout_s=0.2))
        with pytest.raises(EngineUnavailable, match="does not speak RESP"):
            await client.start()
        await client.close()
