"""What goes over the wire, as models: they make the answers and the OpenAPI schema alike."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from toril.jobs.states import State

Status = Literal["waiting", "active", "completed", "failed", "delayed"]

JOB_EXAMPLE: dict[str, Any] = {
    "id": "j0f3k2m9qx7h4t8w2zcv",
    "queue": "docs",
    "name": "generate_docs",
    "status": "active",
    "state": "active",
    "progress": 45,
    "progressMessage": "rendering",
    "createdAt": "2026-01-31T12:00:00Z",
    "updatedAt": "2026-01-31T12:00:01.250000Z",
    "startedAt": "2026-01-31T12:00:01.250000Z",
    "finishedAt": None,
    "dueAt": None,
    "attempts": 0,
    "maxAttempts": 3,
    "result": None,
    "failedReason": None,
    "cancelled": False,
}


class Wire(BaseModel):
    """Names in camelCase outside, in snake_case inside."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class JobModel(Wire):
    """A job as its owner sees it."""

    model_config = ConfigDict(title="Job", json_schema_extra={"example": JOB_EXAMPLE})

    id: str
    queue: str
    name: str = Field(description="The task's name.")
    status: Status = Field(
        description="One of five words, the ones of the counts: `waiting` is also a prioritized job, "
        "`delayed` also one that waits for other jobs."
    )
    state: State = Field(description="The exact state.")
    progress: int | float = Field(description="What the task reported last, usually 0 to 100; 0 when it has not.")
    progress_message: str | None
    created_at: AwareDatetime
    updated_at: AwareDatetime = Field(description="When the job last started or finished, else when it was created.")
    started_at: AwareDatetime | None = Field(description="When its last attempt started.")
    finished_at: AwareDatetime | None
    due_at: AwareDatetime | None = Field(description="While the job is delayed: when it gets in line.")
    attempts: int = Field(ge=0, description="Finished attempts.")
    max_attempts: int = Field(ge=1)
    result: Any = Field(description="What the task returned, null until it has.")
    failed_reason: str | None = Field(description="Why the job, or its last attempt, failed.")
    cancelled: bool


class JobAnswer(Wire):
    """One job."""

    success: Literal[True] = True
    job: JobModel


class Stats(Wire):
    """How many jobs there are, over all queues."""

    waiting: int = Field(ge=0, description="In line, prioritized ones included.")
    active: int = Field(ge=0)
    completed: int = Field(ge=0)
    failed: int = Field(ge=0, description="Cancelled ones included.")
    delayed: int = Field(ge=0, description="Not in line yet: waiting for a time, or for other jobs.")
    total: int = Field(ge=0, description="The sum of the numbers above.")


class QueueStats(Wire):
    """How many jobs of one queue are in each state."""

    paused: bool
    waiting: int = Field(ge=0)
    prioritized: int = Field(ge=0)
    delayed: int = Field(ge=0)
    waiting_children: int = Field(ge=0)
    active: int = Field(ge=0)
    completed: int = Field(ge=0)
    failed: int = Field(ge=0)


class StatsAnswer(Wire):
    """The counts at one moment."""

    success: Literal[True] = True
    mode: str = Field(description="The engine that holds the jobs.", examples=["sqlite"])
    stats: Stats
    queues: dict[str, QueueStats]
    timestamp: AwareDatetime


class QueuedAnswer(Wire):
    """The answer to a job that was added."""

    success: Literal[True] = True
    job_id: str
    status: Literal["queued"] = "queued"
    message: str


class CancelAnswer(Wire):
    """The answer to a cancellation. `cancelling`: the job is running, and its worker has been told."""

    success: Literal[True] = True
    job_id: str
    status: Literal["cancelled", "cancelling"]
    message: str


class JobMessage(Wire):
    """Data of the events `snapshot` and `resync`."""

    job: JobModel


class MomentMessage(Wire):
    """Data of other events, such as `stalled` and `removed`: when it happened."""

    at: AwareDatetime


class ProgressMessage(MomentMessage):
    """Data of the event `progress`."""

    progress: int | float
    progress_message: str | None


class LogMessage(MomentMessage):
    """Data of the event `log`."""

    line: str


class StateMessage(MomentMessage):
    """Data of the event `state`. `job` comes with the end: result or failed reason are in it."""

    status: Status
    due_at: AwareDatetime | None
    job: JobModel | None


class FieldProblem(Wire):
    """One field that is wrong."""

    field: str
    message: str
    type: str


class Problem(Wire):
    """What went wrong: `code` is stable, `retryable` says whether the same request may succeed later."""

    code: str
    message: str
    retryable: bool
    fields: list[FieldProblem] = Field(default=[], description="Which fields are wrong, for 422.")


class ProblemAnswer(Wire):
    """The body of every 4xx and 5xx."""

    success: Literal[False] = False
    error: Problem
