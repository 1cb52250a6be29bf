"""What DocSnap reads from its environment. All variables start with DOCSNAP_; Toril reads its own TORIL_URL."""

import ipaddress
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECRET_BYTES = 32


class SettingsError(ValueError):
    """A variable of the environment has a value that DocSnap cannot use."""


@dataclass(frozen=True)
class Settings:
    """The whole configuration of one DocSnap process."""

    data_dir: Path = Path("docsnap-data")
    """Folder of the written documents and, in the demo, of the database."""
    queue: str = "docs"
    """Queue of the `generate_docs` task; name it per environment when several share one engine."""
    allow_private: frozenset[str] = field(default_factory=frozenset)
    """`host:port` pairs which may be crawled although their address is private; nothing else private is reachable."""
    secret: str = ""
    """Key which signs the bearer tokens (HS256), at least 32 characters."""
    demo: bool = False
    """Hand out tokens at `POST /demo/token`, to this machine only."""

    @property
    def documents(self) -> Path:
        """Folder which holds one Markdown file for each finished job."""
        return self.data_dir / "documents"


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: a value is unusable; the message names the variable.
    """
    data_dir = Path(environ.get("DOCSNAP_DATA", "docsnap-data"))
    return Settings(
        data_dir=data_dir,
        queue=environ.get("DOCSNAP_QUEUE", "docs"),
        allow_private=parse_allowed(environ.get("DOCSNAP_ALLOW", "")),
        secret=_checked_secret(environ.get("DOCSNAP_SECRET", "")),
        demo=environ.get("DOCSNAP_DEMO", "") == "1",
    )


def parse_allowed(text: str) -> frozenset[str]:
    """Read a comma-separated list of `host:port` pairs, IPv6 addresses in brackets."""
    allowed = set()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host, _, port = entry.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise SettingsError(f"DOCSNAP_ALLOW: expected host:port pairs such as 127.0.0.1:8080, got {entry!r}")
        allowed.add(f"{plain_host(host)}:{int(port)}")
    return frozenset(allowed)


def plain_host(host: str) -> str:
    """One spelling for one host: lower case, no brackets, no trailing dot, addresses in their shortest form."""
    bare = host.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare


def _checked_secret(secret: str) -> str:
    if not secret:
        # Tokens then end with the process: safe, and enough for a look around.
        return secrets.token_urlsafe(SECRET_BYTES)
    if len(secret) < SECRET_BYTES:
        raise SettingsError(
            f"DOCSNAP_SECRET: expected at least {SECRET_BYTES} characters, got {len(secret)}; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return secret
