"""What the demo remembers between starts: its port, its key, and which five jobs belong together."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from docsnap.board import Row


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


@dataclass(frozen=True)
class RoundPlan:
    """How a start of the demo comes to its five jobs."""

    kept: dict[str, str]
    """Address → id of the jobs which are there already."""
    missing: list[str]
    """Addresses to submit."""
    unfinished: int
    """Jobs that a demo before this one left in the middle."""


def plan_round(noted: Mapping[str, str], rows: Iterable[Row], urls: Sequence[str]) -> RoundPlan:
    """Decide between going on with an interrupted round and beginning a new one.

    Args:
        noted: the jobs of the last round, as far as it was written down.
        rows: all jobs there are.
        urls: the five addresses.
    """
    by_id = {row.id: row for row in rows}
    kept = {url: by_id[noted[url]] for url in urls if url in noted and noted[url] in by_id}
    for row in by_id.values():
        # A demo can be killed between the answer of the API and its own note: such a job is found by its address.
        if row.url in urls and row.url not in kept and not row.finished:
            kept[row.url] = row
    unfinished = sum(not row.finished for row in kept.values())
    interrupted = unfinished > 0 or 0 < len(noted) < len(urls)
    if not interrupted:
        return RoundPlan({}, list(urls), 0)
    missing = [url for url in urls if url not in kept]
    return RoundPlan({url: row.id for url, row in kept.items()}, missing, unfinished)


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
                f"another demo runs in {data_dir}; stop it first, or give this one a folder of its own with --data"
            ) from None
        yield
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)
