"""`Call`: a task with bound arguments, not yet stored."""

from __future__ import annotations

from typing import Generic, TypeVar

from toril.jobs import options as job_options
from toril.jobs.options import JobOptions
from toril.tasks.signature import Signature
from toril.tasks.unique import KeyRule

R_co = TypeVar("R_co", covariant=True)


class JobPlan:
    """What all jobs of one task (with one set of options) have in common, worked out once.

    `stored_options` is the JSON of the options for jobs whose delay does not depend on the time of day.
    """

    __slots__ = (
        "delay_ms",
        "id",
        "lifo",
        "name",
        "options",
        "priority",
        "queue",
        "signature",
        "stored_options",
        "timed",
        "unique",
    )

    def __init__(self, name: str, queue: str, options: JobOptions, signature: Signature) -> None:
        self.name = name
        self.queue = queue
        self.options = options
        self.signature = signature
        self.id = options.id
        self.priority = options.priority
        self.lifo = options.lifo
        self.unique = None if options.unique is None else KeyRule(options.unique, name, signature)
        self.timed = options.run_at is not None
        self.delay_ms = 0 if self.timed else options.delay_ms(0)
        self.stored_options = job_options.encode(options, delay_ms=self.delay_ms)


class Call(Generic[R_co]):
    """A task with bound arguments, made by `Task.call`, not yet stored. `data` is the JSON of its arguments."""

    __slots__ = ("data", "plan")

    def __init__(self, plan: JobPlan, data: str) -> None:
        self.plan = plan
        self.data = data

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.plan.name

    @property
    def queue(self) -> str:
        """The queue that the job will go to."""
        return self.plan.queue

    def __repr__(self) -> str:
        return f"<Call {self.plan.name} {self.data[:80]}>"
