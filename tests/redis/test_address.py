"""URLs of Redis servers: what is read from them, and that no message tells a password."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril.engine.redis.address import parse_address
from toril.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", {"host": "h", "port": 6379, "db": 0, "tls": False, "password": None, "protocol": 3}),
        ("redis://h:7000/3", {"host": "h", "port": 7000, "db": 3}),
        ("redis://h:7000/?db=4&protocol=2", {"db": 4, "protocol": 2}),
        ("valkey://h", {"tls": False}),
        ("valkeys://h", {"tls": True}),
        (" redis://h/ ", {"host": "h"}),
        ("redis://:p%40ss%2F@h", {"username": None, "password": "p@ss/"}),
        ("redis://default:PASSWORD@end.point:16379", {"username": "default", "password": "PASSWORD", "port": 16379}),
        ("redis://us%3Aer:@h", {"username": "us:er", "password": ""}),
        ("redis://:@h", {"username": None, "password": None}),
        ("redis://[::1]:7000", {"host": "::1", "port": 7000}),
        ("redis://[::1]", {"host": "::1", "port": 6379}),
        ("unix:///tmp/re%20dis.sock?db=2", {"path": "/tmp/re dis.sock", "db": 2}),
        ("unix://u:p@/tmp/r.sock", {"path": "/tmp/r.sock", "username": "u", "password": "p"}),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_check_hostname=no",
            {"ssl_ca_certs": "/ca.pem", "ssl_certfile": "/c.pem", "ssl_keyfile": "/k.pem", "ssl_check_hostname": False},
        ),
        ("rediss://h?ssl_cert_reqs=none", {"ssl_cert_reqs": "none"}),
    ],
)
def test_a_url_is_read(url: str, expected: dict[str, Any]) -> None:  # S0-11 S0-25 S0-28 S4-07
    address = parse_address(url)
    assert {name: getattr(address, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:secret@h:1/2", "redis://u:***@h:1/2"),
        ("rediss://:secret@h", "rediss://:***@h:6379/0"),
        ("redis://[::1]", "redis://[::1]:6379/0"),
        ("unix://:secret@/tmp/a b?db=1", "unix://:***@/tmp/a%20b?db=1"),
        ("rediss://h?ssl_keyfile_password=secret&ssl_certfile=c", "rediss://h:6379/0"),
    ],
)
def test_what_is_shown_tells_no_password(url: str, shown: str) -> None:
    address = parse_address(url)
    assert address.redacted == shown
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("h:6379", "no scheme"),
        ("http://h", "unknown scheme 'http'"),
        ("redis://", "names no host"),
        ("redis://:6379", "names no host"),
        ("redis://h:0", "expected a number from 1 to 65535"),
        ("redis://h:70000", "expected a number from 1 to 65535"),
        ("redis://h:port", "no number as port"),
        ("redis://h/zero", "expected a number from 0 on, got 4 characters"),
        ("redis://h/-1", "got '-1'"),
        ("redis://h/1/2", "got 3 characters"),
        ("redis://h?db=x", "got 1 characters"),
        ("redis://h?db=1&db=2", "an option twice"),
        ("redis://h?protocol=4", "protocol: expected 2 or 3, got '4'"),
        ("redis://h?socket_timeout=4", "unknown option 'socket_timeout': expected some of db, protocol"),
        ("redis://h?timeout=4", "unknown option of 7 characters"),
        ("redis://h?ssl_ca_certs=x", "without TLS: expected rediss://"),
        ("rediss://h?ssl_check_hostname=perhaps", "ssl_check_hostname: expected true or yes"),
        ("rediss://h?ssl_keyfile=k", "ssl_keyfile alone"),
        ("redis://h#x", "write %23"),
        ("redis://pass@h", "one word before '@'"),
        ("redis://[::1:6379", "IPv6"),
        ("redis://ho st", "names no host"),
        ("unix://tmp/r.sock", "three slashes"),
        ("unix:///", "names no socket"),
    ],
)
def test_what_is_wrong_is_said(url: str, message: str) -> None:  # S0-25
    with pytest.raises(ConfigError) as caught:
        parse_address(url)
    assert message in str(caught.value)
    assert "expected" in str(caught.value)


@given(
    template=st.sampled_from(
        [
            "redis://user:{}@host:1/0?nonsense=1",
            "redis://:{}@host:x",
            "redis://{}@host",
            "redis://default:{}",
            "redis://:{}",
            "redis:/user:{}@host",
            "user:{}@host",
            "http://u:{}@host",
            "redis://u:{}@host/zero",
            "redis://u:{}@/1",
            "unix://u:{}@tmp/x",
            "rediss://u:{}@h?ssl_keyfile=x&ssl_keyfile_password={}",
            "rediss://h?ssl_keyfile_password={}&x=1",
        ]
    ),
    around=st.text(st.sampled_from("ab12%/?#@:[]!&="), max_size=8),
)
def test_no_error_tells_a_password(template: str, around: str) -> None:
    secret = "Zk7QwXv"
    url = template.format(*[around + secret + around] * 2)
    try:
        address = parse_address(url)
    except ConfigError as error:
        told = str(error)
    else:
        # What was written as host or path was never a password.
        told = repr(address).replace(repr(address.host), "").replace(repr(address.path), "")
    assert secret not in told


def test_options_of_the_caller_are_left_to_it() -> None:
    address = parse_address("redis://h?wire=bullmq5&db=1", own_options=("wire", "prefix"))
    assert dict(address.options) == {"wire": "bullmq5"}
    with pytest.raises(ConfigError, match=r"unknown option 'on_outage'.* wire, prefix"):
        parse_address("redis://h?wire=bullmq5&on_outage=fail", own_options=("wire", "prefix"))


def test_tls_files_are_checked_when_they_are_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for query in (
        f"ssl_ca_certs={tmp_path}/none.pem",
        f"ssl_ca_certs={broken}",
        f"ssl_certfile={broken}",
        f"ssl_certfile={tmp_path}/none.pem",
    ):
        with pytest.raises(ConfigError, match="expected") as caught:
            parse_address(f"rediss://:secret@h?{query}").ssl_context()
        assert "secret" not in str(caught.value)


def test_certificates_are_checked_unless_that_is_turned_off() -> None:  # S0-29
    strict = parse_address("rediss://h").ssl_context()
    assert strict is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    nameless = parse_address("rediss://h?ssl_check_hostname=false").ssl_context()
    assert nameless is not None
    assert (nameless.verify_mode, nameless.check_hostname) == (ssl.CERT_REQUIRED, False)
    lax = parse_address("rediss://h?ssl_cert_reqs=none").ssl_context()
    assert lax is not None
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)
    assert parse_address("redis://h").ssl_context() is None
