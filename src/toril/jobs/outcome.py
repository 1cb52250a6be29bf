"""What running a job can result in.

The executor makes one of these, the pump hands it to the engine, and the engine turns it into a state.
Times are milliseconds. `result` is JSON text. `reason` is plain text; `stack` is a stack trace and may be empty.
"""

from __future__ import annotations

from typing import NamedTuple

from toril.jobs.states import Cause


class Done(NamedTuple):
    """The handler returned. Leads to `completed`; the attempt counts."""

    result: str

    @property
    def cause(self) -> Cause:
        return Cause.DONE


class Retry(NamedTuple):
    """The attempt failed and another is left. Leads to the line, or to `delayed` for `delay_ms`; the attempt counts."""

    reason: str
    stack: str
    delay_ms: int

    @property
    def cause(self) -> Cause:
        return Cause.RETRY


class Failed(NamedTuple):
    """The job failed for good. Leads to `failed`; the attempt counts."""

    reason: str
    stack: str

    @property
    def cause(self) -> Cause:
        return Cause.FAILED


class Snooze(NamedTuple):
    """Not now. Leads to the line, or to `delayed` for `delay_ms`; the attempt does not count."""

    delay_ms: int

    @property
    def cause(self) -> Cause:
        return Cause.SNOOZE


class Cancelled(NamedTuple):
    """The run was stopped on request. Leads to `failed`; the attempt does not count."""

    reason: str
    by: str

    @property
    def cause(self) -> Cause:
        return Cause.CANCELLED


class Released(NamedTuple):
    """The worker gives the job back (shutdown). Leads to the front of the line; the attempt does not count."""

    @property
    def cause(self) -> Cause:
        return Cause.RELEASED


class Parked(NamedTuple):
    """The job cannot be completed while children of it are pending. Leads to `waiting-children`, or to the front of the
    line when they have ended meanwhile; the attempt does not count.
    """

    @property
    def cause(self) -> Cause:
        return Cause.PARKED


class Limited(NamedTuple):
    """Not now, and no other job of the queue for `delay_ms`. Leads to the front of the line; the attempt does not
    count.
    """

    delay_ms: int

    @property
    def cause(self) -> Cause:
        return Cause.LIMITED


Outcome = Done | Retry | Failed | Snooze | Cancelled | Released | Parked | Limited


def failed_reason(reason: str) -> str:
    """The failed reason of a job that was cancelled: `cancelled`, or `cancelled: reason`."""
    return f"cancelled: {reason}" if reason else "cancelled"
