"""Routes without auth answer on this machine only. S1-06"""

from typing import Any

import pytest

from tests.web.tokens import SECRET, request
from toril.errors import AuthRequired
from toril.web.access import EVERYBODY, Gate
from toril.web.auth import JWTAuth
from toril.web.loopback import is_loopback, why_not_local
from toril.web.problems import ApiError


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "api.localhost", "::ffff:127.0.0.1"]
)
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "0.0.0.0",
        "::",
        "192.168.0.2",
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "/run/a",
    ],
)
def test_other_hosts(host: str | None) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"client": ("::1", 1), "server": ("::1", 80), "headers": {"Host": "[::1]:8000"}},
        {"headers": {"Host": "localhost"}},
        {"headers": {"Origin": "http://localhost:5173"}},
    ],
)
async def test_this_machine_may_do_everything(scope: dict[str, Any]) -> None:
    assert await Gate(None).admit(request(**scope)) == EVERYBODY


@pytest.mark.parametrize(
    ("scope", "says"),
    [
        ({"client": ("192.0.2.7", 1)}, "client is not on loopback"),
        ({"client": None}, "client is not on loopback"),
        ({"client": ("", 0), "server": ("/run/app.sock", None)}, "client is not on loopback"),
        ({"server": ("192.0.2.1", 80)}, "server's address"),
        ({"server": None}, "server's address"),
        ({"headers": {"X-Forwarded-For": "127.0.0.1"}}, "proxy has added 'x-forwarded-for'"),
        ({"headers": {"Forwarded": "for=192.0.2.60"}}, "proxy has added 'forwarded'"),
        ({"headers": {"X-Real-IP": "127.0.0.1"}}, "proxy has added 'x-real-ip'"),
        ({"headers": {"Via": "1.1 proxy"}}, "proxy has added 'via'"),
        ({"headers": {"Host": "rebound.example.com"}}, "Host"),
        ({"headers": {"Host": "[::1"}}, "Host"),
        ({"headers": {"Host": ""}}, "Host"),
        ({"headers": {"Origin": "https://evil.example"}}, "Origin"),
        ({"headers": {"Origin": "null"}}, "Origin"),
        ({"headers": {"Origin": "http://[::1"}}, "Origin"),
    ],
)
async def test_what_may_come_from_elsewhere_is_refused(scope: dict[str, Any], says: str) -> None:
    assert says in (why_not_local(request(**scope)) or "")
    with pytest.raises(AuthRequired, match="auth=JWTAuth"):
        await Gate(None).admit(request(**scope))


async def test_with_auth_the_address_does_not_matter_but_the_token_does() -> None:
    with pytest.raises(ApiError) as caught:
        await Gate(JWTAuth(secret=SECRET)).admit(request(client=("192.0.2.7", 1)))
    assert caught.value.status == 401
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer realm="toril"'
