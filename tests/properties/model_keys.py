"""Unique keys as the model sees them."""

from dataclasses import dataclass
from typing import Protocol

from tests.properties.model_job import ModelJob
from toril.jobs.model import NewJob
from toril.jobs.states import State


class HasJobs(Protocol):
    """What a key needs of the model."""

    now: int
    jobs: dict[str, ModelJob]
    events: list[tuple[str, str, str | None]]

    def add(self, new: list[NewJob]) -> tuple[list[str], list[bool]]: ...

    def delete(self, jobs: list[ModelJob], *, free: bool = False, hard: bool = False) -> None: ...


@dataclass
class Held:
    """Who has a key: until it has ended, or until `expires`; and the call that is to follow."""

    job: str
    expires: int | None
    kept: NewJob | None = None


class ModelKeys:
    """The keys of one queue."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}

    def owner(self, model: HasJobs, key: str) -> Held | None:
        held = self.held.get(key)
        if held is None or (held.job not in model.jobs if held.expires is None else held.expires <= model.now):
            return None
        return held

    def claim(self, model: HasJobs, new: NewJob) -> str | None:
        """Take the key for a new job, or answer who has it."""
        key = new.unique
        if key is None:
            return None
        until = None if key.held_ms is None else model.now + key.held_ms
        held = self.owner(model, key.id)
        if held is None:
            self.held[key.id] = Held(new.id, until)
            return None
        job = model.jobs.get(held.job)
        if key.replace and job is not None and job.state is State.DELAYED:
            model.events.append(("removed", job.id, State.DELAYED.value))
            model.delete([job])
            self.held[key.id] = Held(new.id, held.expires if key.held_ms is not None and not key.extend else until)
            return None
        if key.keep_last and job is not None and job.state is State.ACTIVE:
            held.kept, held.expires = new, None
        elif key.extend and until is not None and not key.replace:
            held.expires = until
        return held.job

    def ended(self, model: HasJobs, job: ModelJob) -> None:
        """The job has ended: unless a window holds its key, that is free, or the kept call's."""
        held = self.held.get(job.key or "")
        if held is None or held.job != job.id or held.expires is not None:
            return
        assert job.key is not None
        del self.held[job.key]
        if held.kept is not None:
            model.add([held.kept._replace(timestamp=model.now)])

    def removed(self, job: ModelJob) -> None:
        """The job was deleted on somebody's order: its key is free, whatever held it."""
        held = self.held.get(job.key or "")
        if held is not None and held.job == job.id:
            assert job.key is not None
            del self.held[job.key]
