"""Keys behind a URL: fetched, kept, rotated, and never a way to reach anything else."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.web.tokens import Rsa, bearer, claims, request
from toril.web.auth import Identity, JWTAuth
from toril.web.jwks import COOLDOWN_S, LIFETIME_S, STALE_S, KeysUnavailable, LoadedKeys, fetch
from toril.web.problems import ApiError

OLD, NEW = Rsa("old"), Rsa("new")


class Provider(ThreadingHTTPServer):
    """An identity provider on loopback. `answer` is what it says, `asked` the paths it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.answer: tuple[int, bytes] = (200, b"{}")
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks.json"

    def offer(self, *keys: Rsa) -> None:
        self.answer = (200, json.dumps({"keys": [key.public() for key in keys]}).encode())


class Page(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, body = self.server.answer
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Hands:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def loaded(provider: Provider, hands: Hands) -> LoadedKeys:
    return LoadedKeys(lambda: fetch(provider.url), provider.url, hands)


async def test_keys_are_fetched_once_for_many_tokens(provider: Provider) -> None:
    provider.offer(OLD)
    auth = JWTAuth(jwks=provider.url)
    found = await asyncio.gather(
        *(auth.identify(request(headers=bearer(OLD.token(claims(f"user-{n}"))))) for n in range(20))
    )
    assert found == [Identity(f"user-{n}") for n in range(20)]
    assert provider.asked == ["/jwks.json"]


async def test_a_rotated_key_is_found_after_the_cooldown(provider: Provider) -> None:
    provider.offer(OLD)
    hands = Hands()
    keys = loaded(provider, hands)
    assert await keys.find("old", "RS256") is not None
    provider.offer(OLD, NEW)
    assert await keys.find("new", "RS256") is None
    hands.now += COOLDOWN_S
    assert await keys.find("new", "RS256") is not None
    assert len(provider.asked) == 2


async def test_invented_key_ids_do_not_become_requests(provider: Provider) -> None:
    provider.offer(OLD)
    hands = Hands()
    keys = loaded(provider, hands)
    await asyncio.gather(*(keys.find(f"invented-{n}", "RS256") for n in range(50)))
    hands.now += COOLDOWN_S
    await asyncio.gather(*(keys.find(f"invented-{n}", "RS256") for n in range(50)))
    assert len(provider.asked) == 2


async def test_a_withdrawn_key_is_forgotten_when_the_set_has_aged(provider: Provider) -> None:
    provider.offer(OLD, NEW)
    hands = Hands()
    keys = loaded(provider, hands)
    assert await keys.find("old", "RS256") is not None
    provider.offer(NEW)
    hands.now += LIFETIME_S
    assert await keys.find("old", "RS256") is None
    assert await keys.find("new", "RS256") is not None


async def test_known_keys_outlive_their_source_for_an_hour(provider: Provider) -> None:
    provider.offer(OLD)
    hands = Hands()
    keys = loaded(provider, hands)
    assert await keys.find("old", "RS256") is not None
    provider.answer = (500, b"")
    hands.now += LIFETIME_S
    assert await keys.find("old", "RS256") is not None
    hands.now += STALE_S
    with pytest.raises(KeysUnavailable):
        await keys.find("old", "RS256")
    provider.offer(OLD)
    hands.now += COOLDOWN_S
    assert await keys.find("old", "RS256") is not None


@pytest.mark.parametrize(
    "answer", [(500, b""), (302, b""), (200, b"no json"), (200, b'{"keys": []}'), (200, b" " * 300_000), (204, b"")]
)
async def test_without_any_key_the_answer_is_503(provider: Provider, answer: tuple[int, bytes]) -> None:
    provider.answer = answer
    auth = JWTAuth(jwks=provider.url)
    with pytest.raises(ApiError) as caught:
        await auth.identify(request(headers=bearer(OLD.token(claims()))))
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (503, "auth_unavailable", True)
    assert caught.value.headers["Retry-After"]
    assert provider.asked == ["/jwks.json"], "a redirect was followed, or a failure repeated at once"


async def test_a_source_that_is_not_there_is_503_too(provider: Provider) -> None:
    auth = JWTAuth(jwks=provider.url)
    provider.shutdown()
    provider.server_close()
    with pytest.raises(ApiError, match="not available"):
        await auth.identify(request(headers=bearer(OLD.token(claims()))))


def test_an_answer_in_drops_ends_at_the_deadline() -> None:
    """Each drop is in time for a socket's time-out, all of them together are not."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while not over.wait(0.02):
                    with contextlib.suppress(OSError):
                        client.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(TimeoutError, match="longer than"):
            fetch(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_s=0.2)
        over.set()
        thread.join()


async def test_a_file_is_read_again_for_an_unknown_key(tmp_path: Path) -> None:
    file, hands = tmp_path / "jwks.json", Hands()
    file.write_text(json.dumps({"keys": [OLD.public()]}))
    keys = LoadedKeys(file.read_bytes, str(file), hands)
    assert await keys.find("old", "RS256") is not None
    file.write_text(json.dumps({"keys": [NEW.public()]}))
    hands.now += COOLDOWN_S
    assert await keys.find("new", "RS256") is not None


async def test_one_who_gives_up_does_not_end_the_load_of_the_others() -> None:
    go = threading.Event()

    def load() -> bytes:
        go.wait(5)
        return json.dumps({"keys": [OLD.public()]}).encode()

    keys = LoadedKeys(load, "a slow source")
    first, second = (asyncio.create_task(keys.find("old", "RS256")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go.set()
    assert await second is not None
    assert first.cancelled()
