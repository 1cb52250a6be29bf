"""Tokens: what is let in, what is refused, and what the refusal says."""

import base64
import json
import logging
import time
from itertools import count
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.web.tokens import SECRET, Ec, Rsa, bearer, claims, request, shared
from toril.errors import ConfigError
from toril.web.auth import ClaimHas, Identity, JWTAuth
from toril.web.problems import ApiError

RSA, EC = Rsa("rsa-1"), Ec("ec-1")
KEY_SET = {"keys": [RSA.public(), EC.public()]}


async def refusal(auth: JWTAuth, token: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await auth.identify(request(headers=bearer(token)))
    return caught.value


# S1-06
async def test_a_token_signed_with_the_secret_names_its_owner() -> None:
    found = await JWTAuth(secret=SECRET).identify(request(headers=bearer(shared("ada"))))
    assert found == Identity("ada", admin=False)


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS256", "ES256"])
async def test_a_token_signed_with_a_key_of_the_set_is_accepted(key: Rsa | Ec) -> None:
    auth = JWTAuth(jwks=KEY_SET)
    assert await auth.identify(request(headers=bearer(key.token(claims("bob"))))) == Identity("bob")


async def test_a_key_set_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(KEY_SET))
    auth = JWTAuth(jwks_file=file)
    assert await auth.identify(request(headers=bearer(RSA.token(claims("bob"))))) == Identity("bob")


@pytest.mark.parametrize(
    ("more", "admin"),
    [({"role": "admin"}, True), ({"role": ["user", "admin"]}, True), ({"role": "administrator"}, False), ({}, False)],
)
async def test_the_role_claim_makes_an_admin(more: dict[str, Any], admin: bool) -> None:
    found = await JWTAuth(secret=SECRET).identify(request(headers=bearer(shared(**more))))
    assert found is not None
    assert found.admin is admin


async def test_owner_and_admin_can_come_from_other_claims() -> None:
    auth = JWTAuth(secret=SECRET, owner_claim="email", admin=ClaimHas("groups", "ops"))
    token = shared(email="ada@example.com", groups=["ops"])
    assert await auth.identify(request(headers=bearer(token))) == Identity("ada@example.com", admin=True)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YTpi"}], ids=["none", "basic"])
async def test_other_credentials_are_no_credentials(headers: dict[str, str]) -> None:
    assert await JWTAuth(secret=SECRET).identify(request(headers=headers)) is None


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (shared(exp=int(time.time()) - 60), "has expired"),
        (shared(nbf=int(time.time()) + 3000), "not valid yet"),
        (jwt.encode({"sub": "ada"}, SECRET, "HS256"), "lacks a required claim"),
        (shared("ada", secret="another-secret-of-thirty-two-bytes-or-so"), "is not valid"),
        (shared(aud="billing"), "not for this audience"),
        (shared(algorithm="HS512", secret=SECRET * 2), "not accepted"),
        (jwt.encode(claims(), "", "none"), "not accepted"),
        (jwt.encode(claims(), SECRET, "HS256", headers={"crit": ["exp"], "exp": 1}), "not"),
        (shared(""), "owner claim"),
        (shared("x" * 257), "owner claim"),
        ("x", "is not valid"),
        ("a.b.c", "is not valid"),
        ("x" * 9000, "1 to 8192 characters"),
        (base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.e30", "is not valid"),
    ],
    # A token says when it was made: as a name it would be another one in each process.
    ids=count(),
)
async def test_a_wrong_token_is_a_401_that_says_why(token: str, says: str) -> None:
    error = await refusal(JWTAuth(secret=SECRET), token)
    assert (error.status, error.code) == (401, "invalid_token")
    assert says in error.message
    assert error.headers["WWW-Authenticate"] == (
        f'Bearer realm="toril", error="invalid_token", error_description="{error.message}"'
    )


async def test_audience_and_issuer_are_checked() -> None:
    auth = JWTAuth(secret=SECRET, audience=["jobs", "docs"], issuer="https://id.example")
    good = shared(aud="jobs", iss="https://id.example")
    assert await auth.identify(request(headers=bearer(good))) == Identity("ada")
    assert "audience" in (await refusal(auth, shared(aud="x", iss="https://id.example"))).message
    assert "lacks" in (await refusal(auth, shared(iss="https://id.example"))).message
    assert "issuer" in (await refusal(auth, shared(aud="jobs", iss="https://evil.example"))).message


async def test_clocks_may_differ_by_the_leeway() -> None:
    token = shared(exp=int(time.time()) - 30)
    assert await JWTAuth(secret=SECRET, leeway="1m").identify(request(headers=bearer(token))) == Identity("ada")


async def test_a_public_key_is_never_taken_for_a_secret() -> None:
    """Algorithm confusion: HS256 with the text of a public key as its secret."""
    public = json.dumps(RSA.public())
    body = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256", "kid": RSA.kid}, claims())
    )
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(algorithm.sign(body.encode(), public.encode())).decode().rstrip("=")
    error = await refusal(JWTAuth(jwks=KEY_SET), f"{body}.{signature}")
    assert error.message == "The token is signed in a way that is not accepted."


async def test_a_key_is_used_for_its_own_algorithm_only() -> None:
    auth = JWTAuth(jwks={"keys": [RSA.public(alg="RS512"), EC.public()]}, algorithms=["RS256", "ES256"])
    assert (await refusal(auth, RSA.token(claims()))).message == "The token is signed with an unknown key."
    crossed = RSA.token(claims(), kid=EC.kid)
    assert (await refusal(auth, crossed)).message == "The token is signed with an unknown key."


async def test_a_token_without_key_id_needs_a_single_key() -> None:
    token = jwt.encode(claims(), RSA.private, "RS256")
    assert await JWTAuth(jwks=KEY_SET).identify(request(headers=bearer(token))) == Identity("ada")
    two = JWTAuth(jwks={"keys": [RSA.public(), Rsa("rsa-2").public()]})
    assert (await refusal(two, token)).status == 401


async def test_keys_inside_a_token_are_not_looked_at() -> None:
    mine = Rsa("evil")
    token = mine.token(claims(), jwk=mine.public(), jku="http://127.0.0.1:1/jwks.json", x5u="http://127.0.0.1:1/")
    assert (await refusal(JWTAuth(jwks=KEY_SET), token)).message == "The token is signed with an unknown key."


async def test_two_authorization_headers_are_refused() -> None:
    with pytest.raises(ApiError, match="more than one"):
        await JWTAuth(secret=SECRET).identify(
            request(headers=[("authorization", f"Bearer {shared()}"), ("authorization", "Bearer x")])
        )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "exactly one"),
        ({"secret": SECRET, "jwks": KEY_SET}, "exactly one"),
        ({"secret": "short"}, "at least 32 bytes for HS256, got 5"),
        ({"secret": SECRET, "algorithms": ["HS512"]}, "at least 64 bytes"),
        ({"secret": SECRET, "algorithms": ["none"]}, "expected a list of HS256"),
        ({"secret": SECRET, "algorithms": ["HS256", "RS256"]}, "expected a list of HS256"),
        ({"secret": SECRET, "algorithms": []}, "expected a list"),
        ({"jwks": KEY_SET, "algorithms": ["HS256"]}, "expected a list of RS256"),
        ({"secret": "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0"}, "PEM"),
        ({"jwks": {"keys": []}}, "at least one public"),
        ({"jwks": {"keys": "x"}}, "Key Set"),
        ({"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}}, "at least one public"),
        ({"jwks": {"keys": [RSA.public(use="enc")]}}, "at least one public"),
        ({"jwks": "http://id.example/jwks.json"}, "https://"),
        ({"jwks": "file:///etc/passwd"}, "https://"),
        ({"jwks": "https://user:word@id.example/jwks.json"}, "without user"),
        ({"jwks_file": "/nowhere/jwks.json"}, "can be read"),
        ({"secret": SECRET, "leeway": -1}, "leeway"),
    ],
)
def test_wrong_options_are_refused_at_construction(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        JWTAuth(**options)


def test_short_and_private_keys_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.private))
    short = Rsa("short", bits=1024).public()
    with pytest.raises(ConfigError, match="at least one public"):
        JWTAuth(jwks={"keys": [{**private, "kid": "p"}, short]})
    assert "private key" in caplog.text
    assert "1024 bits" in caplog.text
    assert private["d"] not in caplog.text


async def test_secrets_and_tokens_are_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    auth = JWTAuth(secret=SECRET)
    token = shared(exp=1)
    error = await refusal(auth, token)
    with pytest.raises(ConfigError) as caught:
        JWTAuth(secret="tooshort-hunter2")
    seen = caplog.text + repr(auth) + str(auth) + repr(error) + error.message + str(caught.value) + repr(caught.value)
    for hidden in (SECRET, token, "hunter2"):
        assert hidden not in seen


@pytest.mark.parametrize(
    ("identity", "owner", "sees"),
    [
        (Identity("ada"), "ada", True),
        (Identity("ada"), "bob", False),
        (Identity("ada"), None, False),
        (Identity(""), "", False),
        (Identity(""), None, False),
        (Identity("root", admin=True), "bob", True),
        (Identity("root", admin=True), None, True),
        (Identity("zoë"), "zoë", True),
    ],
)
def test_people_see_their_own_jobs(identity: Identity, owner: str | None, sees: bool) -> None:
    assert identity.sees(owner) is sees
