"""Jobs that wait for others."""

from __future__ import annotations

from collections import Counter

from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import Added, Code
from toril.jobs.flow import Children, ChildResult, FlowNode, JobRef, OnFailure
from toril.jobs.outcome import Cancelled, Done, Failed
from toril.jobs.states import State
from toril.testing.conformance.stage import QUEUE, Cases, HandWorker, Stage, ids_of, job

BROKE = Failed("it broke", "Error: it broke")
TOLD = (OnFailure.CONTINUE, OnFailure.IGNORE)


def tree(*children: str, on_failure: OnFailure | None = OnFailure.FAIL, **parent: int) -> list[FlowNode]:
    """A parent `p` over children, all in one queue."""
    return [FlowNode(QUEUE, job("p", **parent))] + [  # type: ignore[arg-type]
        FlowNode(QUEUE, job(child), 0, on_failure) for child in children
    ]


async def grow(stage: Stage, *nodes: FlowNode) -> Added:
    """Store a flow as one new batch."""
    return await stage.flows.add(nodes, batch=stage.batch(), now=stage.now)


async def end_all(worker: HandWorker, want: int = 100) -> list[str]:
    """Take what there is and complete it, each with its own id as the result."""
    taken = ids_of(await worker.take(want))
    for id_ in taken:
        assert await worker.end(id_, Done(f'"{id_}"')) is Code.OK
    return taken


def done(id: str, queue: str = QUEUE) -> ChildResult:
    return ChildResult(queue, id, "work", f'"{id}"')


class FlowCases(Cases):
    """Trees of jobs."""

    async def test_a_parent_waits_for_its_children(self, stage: Stage) -> None:
        """It stands in no line before the last child is completed; then it runs and reads their results."""
        added = await grow(stage, *tree("a", "b"))
        assert added == Added(("p", "a", "b"), (True, True, True))
        assert await stage.state("p") is State.WAITING_CHILDREN
        assert (await stage.counts()).waiting_children == 1
        assert (await stage.flows.children(QUEUE, "p")).pending == (JobRef(QUEUE, "a"), JobRef(QUEUE, "b"))
        worker = stage.worker()
        assert ids_of(await worker.take(9)) == ["a", "b"]
        await worker.end("b", Done('"b"'))
        assert await stage.state("p") is State.WAITING_CHILDREN
        await worker.end("a", Done('"a"'))
        assert await stage.state("p") is State.WAITING
        assert await stage.flows.children(QUEUE, "p") == Children(processed=(done("a"), done("b")))
        assert await end_all(worker) == ["p"]
        assert await stage.state("p") is State.COMPLETED

    async def test_a_job_without_children_has_none(self, stage: Stage) -> None:
        """Nor has one that nobody knows."""
        await stage.add("a")
        assert await stage.flows.children(QUEUE, "a") == Children()
        assert await stage.flows.children("nowhere", "nobody") == Children()

    async def test_a_flow_of_one_is_a_job(self, stage: Stage) -> None:
        """Without children there is nothing to wait for."""
        await grow(stage, FlowNode(QUEUE, job("p")))
        assert await stage.state("p") is State.WAITING
        assert await stage.flows.add([], batch=stage.batch(), now=stage.now) == Added((), ())

    async def test_several_children_may_end_in_one_exchange(self, stage: Stage) -> None:
        """The parent is released once."""
        await grow(stage, *tree("a", "b", "c"))
        worker = stage.worker()
        await worker.take(3)
        answer = await worker.exchange(*(worker.ended(id_, Done("1")) for id_ in "abc"), want=5)
        assert ids_of(answer.jobs) == ["p"]
        assert Counter(await stage.told())["waiting", "p"] == 1

    async def test_a_released_parent_is_next(self, stage: Stage) -> None:
        """Its children have waited for it already."""
        await grow(stage, *tree("a"))
        await stage.add("later")
        worker = stage.worker()
        await worker.take()
        await worker.end("a", Done("1"))
        assert await stage.line() == ["p", "later"]

    async def test_a_parent_keeps_its_priority(self, stage: Stage) -> None:
        """It is released among the prioritized ones."""
        await grow(stage, *tree("a", priority=3))
        assert await stage.state("p") is State.WAITING_CHILDREN
        worker = stage.worker()
        await end_all(worker, 1)
        assert await stage.state("p") is State.PRIORITIZED
        assert await end_all(worker) == ["p"]

    async def test_a_parents_delay_begins_at_its_release(self, stage: Stage) -> None:
        """Not when it was added."""
        await grow(stage, *tree("a", delay_ms=5_000))
        await stage.elapse(60_000)
        worker = stage.worker()
        await end_all(worker, 1)
        assert (await stage.read("p")).due == stage.now + 5_000
        assert (await worker.exchange(want=1)).next_due_ms == stage.now + 5_000
        await stage.elapse(5_000)
        assert await end_all(worker) == ["p"]

    async def test_children_have_delays_and_priorities(self, stage: Stage) -> None:
        """Each child is a job like any other."""
        await grow(
            stage,
            FlowNode(QUEUE, job("p")),
            FlowNode(QUEUE, job("late", delay_ms=1_000), 0),
            FlowNode(QUEUE, job("second", priority=9), 0),
            FlowNode(QUEUE, job("first"), 0),
        )
        worker = stage.worker()
        assert await end_all(worker) == ["first", "second"]
        await stage.elapse(1_000)
        assert await end_all(worker) == ["late"]
        assert await end_all(worker) == ["p"]

    async def test_trees_are_as_deep_as_you_like(self, stage: Stage) -> None:
        """Each level waits for the one below."""
        nodes = [FlowNode(QUEUE, job("n0"))] + [FlowNode(QUEUE, job(f"n{n}"), n - 1) for n in range(1, 8)]
        await grow(stage, *nodes, FlowNode(QUEUE, job("leaf"), 3))
        worker = stage.worker()
        order: list[str] = []
        while taken := await end_all(worker):
            order += taken
        assert sorted(order[:2]) == ["leaf", "n7"]
        assert order[2:] == [f"n{n}" for n in range(6, -1, -1)]
        assert (await stage.flows.children(QUEUE, "n3")).processed == (done("leaf"), done("n4"))

    async def test_a_tree_spans_queues(self, stage: Stage) -> None:
        """Children may be anywhere; the parent is found where it is."""
        await grow(
            stage,
            FlowNode("top", job("p")),
            FlowNode("left", job("a"), 0),
            FlowNode("right", job("a"), 0),
        )
        assert [info.name for info in await stage.inspect.queues()] == ["left", "right", "top"]
        for queue in ("left", "right"):
            assert await end_all(stage.worker(queue=queue)) == ["a"]
        assert (await stage.flows.children("top", "p")).processed == (done("a", "left"), done("a", "right"))
        assert await end_all(stage.worker(queue="top")) == ["p"]

    async def test_a_repeated_flow_adds_nothing(self, stage: Stage) -> None:
        """Also when the flow has been run and removed."""
        first = await stage.flows.add(tree("a"), batch="one", now=stage.now)
        worker = stage.worker()
        assert await stage.flows.add(tree("a"), batch="one", now=stage.now) == first
        assert await end_all(worker) == ["a"]
        assert await end_all(worker) == ["p"]
        assert await stage.inspect.remove(QUEUE, ["p"], now=stage.now) == (Changed.OK,)
        assert await stage.flows.add(tree("a"), batch="one", now=stage.now) == first
        assert (await stage.counts()).total == 0

    async def test_a_thousand_children(self, stage: Stage) -> None:
        """The parent waits for every one."""
        names = [f"c{number:04}" for number in range(1_000)]
        assert (await grow(stage, *tree(*names))).created == (True,) * 1_001
        worker = stage.worker()
        for _ in range(4):
            taken = await worker.take(250)
            await worker.exchange(*(worker.ended(each.id, Done(f'"{each.id}"')) for each in taken))
        children = await stage.flows.children(QUEUE, "p")
        assert [child.id for child in children.processed] == names
        assert await end_all(worker) == ["p"]

    async def test_events_tell_the_waiting(self, stage: Stage) -> None:
        """A parent is first waiting for children, then, as far as it comes, in line."""
        await grow(stage, *tree("a"))
        worker = stage.worker()
        await end_all(worker, 1)
        await end_all(worker, 1)
        kinds = [event for event in await stage.events() if event.job_id == "p"]
        assert [event.kind for event in kinds] == ["waiting-children", "waiting", "active", "completed"]
        assert kinds[1].data == {"prev": "waiting-children"}

    async def test_counts_hold_at_every_step(self, stage: Stage) -> None:
        """Whatever becomes of the children."""
        await grow(stage, *tree("a", "b", "c", on_failure=OnFailure.IGNORE))
        worker = stage.worker()
        await worker.take(3)
        for id_, outcome in (("a", Done("1")), ("b", BROKE), ("c", Cancelled("", ""))):
            await stage.check_counts()
            await worker.end(id_, outcome)
        await stage.check_counts()
        await end_all(worker)
        assert (await stage.counts()).completed == 2
