"""What the demo remembers between starts: its port, its key, and which five jobs belong together."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError


class FolderBusy(Exception):
    """Another demo uses the folder."""


class Round(BaseModel):
    """Five jobs that were submitted together."""

    site_port: int = 0
    """Port of the Lantern site; unfinished jobs hold addresses with it, so it stays the same."""
    secret: str = Field(default_factory=lambda: secrets.token_urlsafe(32))
    """Key of the bearer tokens, so that a page stays signed in over a restart."""
    jobs: dict[str, str] = Field(default_factory=dict)
    """Address → id of the job that reads it."""


class RoundFile:
    """The demo's own small file in the data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "demo.json"

    def load(self) -> Round:
        """The stored round, or a fresh one when there is none that can be read."""
        try:
            return Round.model_validate_json(self._path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return Round()

    def save(self, current: Round) -> None:
        """Store the round, whole or not at all; readable by this user only, since it holds the key."""
        draft = self._path.with_suffix(".draft")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(current.model_dump_json(indent=2))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Keep other demos out of the folder; the system lets go by itself when this process dies.

    Raises:
        FolderBusy: one is there already.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "demo.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderBusy(
                f"another demo runs in {data_dir}; stop it first, or give this one a folder of its own with --data-dir"
            ) from None
        yield
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)
