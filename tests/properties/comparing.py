"""What an engine and its model tell, side by side."""

from collections.abc import Sequence
from itertools import pairwise

from tests.properties.model import QUEUE, Model
from tests.properties.model_job import ModelJob
from toril.engine.ports.bus import Event
from toril.engine.ports.jobs import Exchanged, Recovered
from toril.engine.protocol import Engine
from toril.jobs.flow import ChildFailure, Children, ChildResult
from toril.jobs.states import State

SLOW_MS = 60_000
"""By how much a server's own clock may be off: it goes by itself, and nobody tells it of ticks."""
_PASSING = (("waiting", State.WAITING_CHILDREN.value), ("removed", State.WAITING.value))
ORDERED = (State.WAITING, State.PRIORITIZED, State.DELAYED, State.COMPLETED, State.FAILED)


class Comparison:
    """Looks at both, and keeps the place in the event log."""

    def __init__(self, engine: Engine, model: Model) -> None:
        self.engine = engine
        self.own_clock = engine.capabilities.own_clock
        self.after = "0"
        self.begin(model)

    def begin(self, model: Model) -> None:
        """With another model: what was told of the queue before is forgotten."""
        self.model = model
        self.is_fresh = True

    def answer(self, answer: Exchanged, worker: str) -> None:
        """What an exchange says about the queue."""
        model = self.model
        assert answer.next_due_ms == min((job.due for job in model.of(State.DELAYED)), default=None)
        active = model.of(State.ACTIVE)
        mine = {job.id for job in active if job.asked is not None and job.token.startswith(f"{worker}:")}
        if self.own_clock:
            # A lock that has run out is gone, and with it the knowledge whose it was.
            mine = {name for name in mine if model.jobs[name].until > model.now}
        # A job that can only fail is cancelled anyway.
        told = {each.id for each in answer.cancelled if model.jobs[each.id].deferred is None}
        assert told == {name for name in mine if model.jobs[name].deferred is None}
        in_line = len(model.of(State.WAITING, State.PRIORITIZED))
        assert answer.full is model.gate.is_full(len(active), in_line)
        limited = model.gate.limited_ms(model.now)
        assert abs(answer.limited_ms - limited) <= SLOW_MS * self.own_clock
        assert (answer.limited_ms > 0) is (limited > 0)

    def recovered(self, recovered: Recovered, expired: list[ModelJob]) -> list[str]:
        """The order in which stalled jobs stand then, after a look at what was answered."""
        assert sorted(recovered.requeued) == sorted(job.id for job in expired)
        condemned = {job.id for job in expired if job.asked is None and job.stalls >= 2}
        assert set(recovered.condemned) == condemned
        if self.own_clock:
            # Who has no lock any more has no time at which it ran out.
            return list(reversed(recovered.requeued))
        assert [job.until for job in map(self.model.jobs.__getitem__, recovered.requeued)] == sorted(
            job.until for job in expired
        )
        return list(recovered.requeued)

    async def whole(self) -> None:
        """Everything: jobs, the order of each state, counts, children, settings and what was told."""
        model, inspect = self.model, self.engine.inspect
        page = await inspect.list(QUEUE, list(State), limit=200)
        shown = {
            job.id: (job.state, job.attempts_made, job.starts, job.stalls, job.due, job.finished,
                     None if job.cancel is None else job.cancel.reason, job.deferred_failure is not None,
                     job.result, job.failed_reason)
            for job in page.jobs
        }  # fmt: skip
        assert shown == {job.id: job.shown() for job in model.jobs.values()}
        for state in ORDERED:
            assert [job.id for job in page.jobs if job.state is state] == model.ordered(state), state
        counts = await inspect.counts(QUEUE)
        assert [counts.of(state) for state in State] == [len(model.of(state)) for state in State]
        assert await inspect.is_paused(QUEUE) is model.paused
        assert await inspect.limits(QUEUE) == model.gate.limits
        for job in model.jobs.values():
            if job.links:
                assert _nameless(await self.engine.flows.children(QUEUE, job.id)) == self._children(job)
        await self._told()

    async def _told(self) -> None:
        events: list[Event] = []
        while page := (await self.engine.bus.read(QUEUE, after=self.after)).events:
            events += page
            self.after = page[-1].id
        expected = _by_job(self.model.events)
        self.model.events.clear()
        if self.is_fresh and not expected:
            # What is left of a queue that was deleted.
            events = []
        self.is_fresh = False
        told = [(event.kind, event.job_id, event.data.get("prev")) for event in events if event.job_id]
        assert _by_job(told) == expected

    def _children(self, job: ModelJob) -> Children:
        def those(what: str) -> list[tuple[str, str]]:
            return sorted((name, link.text) for name, link in job.links.items() if link.what == what)

        return Children(
            pending=self.model.refs([name for name, _ in those("pending")]),
            processed=tuple(ChildResult(QUEUE, name, "", text) for name, text in those("processed")),
            failed=tuple(ChildFailure(QUEUE, name, "", text) for name, text in those("failed")),
            unsuccessful=self.model.refs([name for name, _ in those("unsuccessful")]),
        )


def _nameless(children: Children) -> Children:
    """The name of a child that is not stored any more is not known everywhere."""
    return children._replace(
        processed=tuple(child._replace(name="") for child in children.processed),
        failed=tuple(child._replace(name="") for child in children.failed),
    )


def _by_job(events: Sequence[tuple[str, str, str | None]]) -> dict[str, list[tuple[str, str | None]]]:
    """What was told of each job, in order. A stall is told before or after the waiting."""
    found: dict[str, list[tuple[str, str | None]]] = {}
    for kind, name, prev in events:
        found.setdefault(name, []).append((kind, prev))
    for name, told in found.items():
        while _PASSING in pairwise(told):
            # As in BullMQ a parent that is removed stands in line for a moment, when its last child has gone.
            at = list(pairwise(told)).index(_PASSING)
            told[at : at + 2] = [("removed", State.WAITING_CHILDREN.value)]
        stalls = [each for each in told if each[0] == "stalled"]
        found[name] = [each for each in told if each[0] != "stalled"] + stalls
    return found
