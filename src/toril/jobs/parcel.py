"""A job on its way, as text: how it lies in a spool or an outbox."""

from __future__ import annotations

from toril.jobs.model import NewJob
from toril.jobs.unique import UniqueKey
from toril.kernel import codec


def packed(job: NewJob) -> str:
    """A job as JSON text. Raises ValueError for text that is none (a lone surrogate)."""
    return codec.encode([*job[:-1], None if job.unique is None else list(job.unique)])


def unpacked(text: str) -> NewJob:
    """The other way round."""
    *fields, unique = codec.decode(text)
    return NewJob._make([*fields, None if unique is None else UniqueKey._make(unique)])


def due_from(job: NewJob, at: int, now: int) -> NewJob:
    """A job whose delay counts from `at`, as it is added at `now`."""
    return job._replace(delay_ms=max(0, at + job.delay_ms - now)) if job.delay_ms else job
