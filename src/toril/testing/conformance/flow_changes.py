"""Flows over jobs that are there before, and jobs of flows that go."""

from __future__ import annotations

import pytest

from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import Code
from toril.errors import FlowConflict, JobNotFound
from toril.jobs.flow import ChildFailure, Children, ChildResult, FlowNode, JobRef, OnFailure
from toril.jobs.options import Keep
from toril.jobs.outcome import Done, Parked
from toril.jobs.states import State
from toril.jobs.unique import UniqueKey, with_key
from toril.testing.conformance.flows import BROKE, done, end_all, grow, tree
from toril.testing.conformance.stage import OWN, QUEUE, Cases, Stage, ids_of, job


class FlowChangeCases(Cases):
    """Jobs that are there before, and jobs that go."""

    async def test_a_flow_may_contain_jobs_that_are_there(self, stage: Stage) -> None:
        """Waiting, completed or failed: the parent takes each as it is."""
        await stage.bring("well", State.COMPLETED)
        await stage.bring("badly", State.FAILED)
        await stage.add("open")
        added = await grow(
            stage,
            FlowNode(QUEUE, job("p")),
            FlowNode(QUEUE, job("well"), 0),
            FlowNode(QUEUE, job("badly"), 0, OnFailure.IGNORE),
            FlowNode(QUEUE, job("open"), 0),
        )
        assert added.created == (True, False, False, False)
        assert await stage.state("p") is State.WAITING_CHILDREN
        assert await stage.flows.children(QUEUE, "p") == Children(
            pending=(JobRef(QUEUE, "open"),),
            processed=(ChildResult(QUEUE, "well", "work", '"done"'),),
            failed=(ChildFailure(QUEUE, "badly", "work", "it broke"),),
        )
        worker = stage.worker()
        assert await end_all(worker) == ["open"]
        assert await end_all(worker) == ["p"]

    async def test_when_all_children_are_done_already_the_parent_runs(self, stage: Stage) -> None:
        """There is nothing that would wake it later."""
        await stage.bring("a", State.COMPLETED)
        await stage.bring("b", State.COMPLETED)
        await grow(stage, *tree("a", "b"))
        assert await end_all(stage.worker()) == ["p"]

    async def test_a_child_that_failed_before_counts(self, stage: Stage) -> None:
        """The parent does not wait for ever."""
        await stage.bring("a", State.FAILED)
        await grow(stage, *tree("a"))
        [parent] = await stage.worker().take()
        assert (parent.id, parent.deferred_failure is not None) == ("p", True)

    async def test_the_same_flow_again_changes_nothing(self, stage: Stage) -> None:
        """Another batch with the same ids finds every job there."""
        await grow(stage, *tree("a", "b"))
        worker = stage.worker()
        assert await end_all(worker, 1) == ["a"]
        assert (await grow(stage, *tree("a", "b"))).created == (False, False, False)
        assert await end_all(worker) == ["b"]
        assert await end_all(worker) == ["p"]
        assert (await stage.flows.children(QUEUE, "p")).processed == (done("a"), done("b"))

    async def test_nobody_has_two_parents(self, stage: Stage) -> None:
        """Nothing of such a flow is stored."""
        await grow(stage, *tree("a"))
        nodes = [FlowNode(QUEUE, job("q")), FlowNode(QUEUE, job("new"), 0), FlowNode(QUEUE, job("a"), 0)]
        with pytest.raises(FlowConflict, match="'p'") as refused:
            await grow(stage, *nodes)
        assert refused.value.job_id == "a"
        assert (await stage.counts()).total == 2
        assert await stage.flows.children(QUEUE, "q") == Children()

    async def test_a_child_that_was_forgotten_may_have_another_parent(self, stage: Stage) -> None:
        """With the policy `remove` its failure ends being a child."""
        await grow(stage, *tree("a", "b", on_failure=OnFailure.REMOVE))
        worker = stage.worker()
        await worker.take()
        await worker.end("a", BROKE)
        await grow(stage, FlowNode(QUEUE, job("q")), FlowNode(QUEUE, job("a"), 0, OnFailure.IGNORE))
        assert (await stage.flows.children(QUEUE, "q")).failed == (ChildFailure(QUEUE, "a", "work", "it broke"),)
        assert (await stage.flows.children(QUEUE, "p")).pending == (JobRef(QUEUE, "b"),)

    async def test_a_flow_names_each_job_once_and_parents_first(self, stage: Stage) -> None:
        """Refused before anything is stored."""
        with pytest.raises(FlowConflict):
            await grow(stage, *tree("a", "a"))
        with pytest.raises(FlowConflict):
            await grow(stage, FlowNode(QUEUE, job("a"), 1), FlowNode(QUEUE, job("p")))
        assert (await stage.counts()).total == 0

    async def test_children_for_a_job_that_is_there(self, stage: Stage) -> None:
        """A running job gets children, waits for them, and comes again."""
        worker = await stage.bring("p", State.ACTIVE)
        await grow(stage, FlowNode(QUEUE, job("a"), JobRef(QUEUE, "p")))
        assert await worker.end("p", Done("1")) is Code.PENDING_CHILDREN
        assert await worker.end("p", Parked()) is Code.OK
        assert await end_all(worker) == ["a"]
        assert await end_all(worker) == ["p"]
        assert (await stage.flows.children(QUEUE, "p")).processed == (done("a"),)

    async def test_a_parent_that_is_not_there(self, stage: Stage) -> None:
        """Nothing is stored."""
        with pytest.raises(JobNotFound):
            await grow(stage, FlowNode(QUEUE, job("a"), JobRef(QUEUE, "nobody")))
        assert (await stage.counts()).total == 0

    async def test_results_outlive_their_children(self, stage: Stage) -> None:
        """A child that is not kept, or was pruned, has left its result."""
        await grow(stage, *tree("a", "b"))
        worker = stage.worker()
        await worker.take(2)
        await worker.end("a", Done('"a"'), keep=Keep(None, 0))
        await worker.end("b", Done('"b"'))
        await stage.inspect.clean(QUEUE, State.COMPLETED, before=stage.now, now=stage.now)
        assert (await stage.counts()).completed == 0
        children = await stage.flows.children(QUEUE, "p")
        assert [(child.id, child.result) for child in children.processed] == [("a", '"a"'), ("b", '"b"')]
        assert await end_all(worker) == ["p"]

    async def test_a_removed_child_holds_nobody_up(self, stage: Stage) -> None:
        """When it was the last one, the parent runs."""
        await grow(stage, *tree("a", "b", delay_ms=9_000))
        assert await stage.inspect.remove(QUEUE, ["a"], now=stage.now) == (Changed.OK,)
        assert await stage.state("p") is State.WAITING_CHILDREN
        assert await stage.inspect.remove(QUEUE, ["b"], now=stage.now) == (Changed.OK,)
        assert await stage.flows.children(QUEUE, "p") == Children()
        assert ids_of(await stage.worker().take(9)) == ["p"]

    async def test_a_replaced_child_holds_nobody_up(self, stage: Stage) -> None:
        """A call with the same unique key that takes its place is another job, and nobody's child."""
        key = UniqueKey("k", replace=True)
        late = job("a", opts=with_key(OWN, key), delay_ms=9_000)._replace(unique=key)
        await stage.add(late)
        await grow(stage, *tree("a"))
        assert (await stage.add(late._replace(id="b"))).ids == ("b",)
        assert await stage.ids(State.WAITING, State.DELAYED) == ["p", "b"]

    async def test_a_removed_parent_takes_its_children_along(self, stage: Stage) -> None:
        """All levels, pending or done; a running one forbids it."""
        await grow(stage, *tree("a", "b"), FlowNode("other", job("deep"), 1))
        worker = stage.worker(queue="other")
        await worker.take()
        assert await stage.inspect.remove(QUEUE, ["p"], now=stage.now) == (Changed.LOCKED,)
        await worker.end("deep", Done("1"))
        assert await stage.inspect.remove(QUEUE, ["p"], now=stage.now) == (Changed.OK,)
        assert (await stage.counts()).total == 0
        assert (await stage.inspect.counts("other")).total == 0
        removed = [event.job_id for event in await stage.events() if event.kind == "removed"]
        assert sorted(removed) == ["a", "b", "p"]
        assert await stage.worker().take(9) == ()

    @pytest.mark.parametrize("how", ["drain", "clean", "obliterate"])
    async def test_what_is_swept_takes_its_parent_along(self, stage: Stage, how: str) -> None:
        """In the same queue the parent goes with its last child; in another one it runs."""
        await grow(stage, *tree("a"))
        await grow(stage, FlowNode("other", job("far")), FlowNode(QUEUE, job("b"), 0))
        if how == "drain":
            assert await stage.inspect.drain(QUEUE, delayed=False, now=stage.now) == 2
        elif how == "clean":
            assert await stage.inspect.clean(QUEUE, State.WAITING, before=stage.now, now=stage.now) == 2
        else:
            while not await stage.inspect.obliterate(QUEUE, force=True, now=stage.now):
                pass
        assert (await stage.counts()).total == 0
        assert ids_of(await stage.worker(queue="other").take(9)) == ["far"]

    async def test_children_of_a_swept_parent_go_on(self, stage: Stage) -> None:
        """They are told to nobody."""
        await grow(stage, FlowNode("other", job("p")), FlowNode(QUEUE, job("a"), 0))
        assert await stage.inspect.clean("other", State.WAITING_CHILDREN, before=stage.now, now=stage.now) == 1
        assert await end_all(stage.worker()) == ["a"]
        assert (await stage.inspect.counts("other")).total == 0
        assert await stage.flows.children("other", "p") == Children()

    async def test_a_waiting_worker_wakes_for_a_flow(self, stage: Stage) -> None:
        """In the children's queue when it is added, in the parent's when it is released."""
        await grow(stage, FlowNode("top", job("p")), FlowNode(QUEUE, job("a"), 0))
        assert QUEUE in await stage.jobs.wait_for_work([QUEUE], timeout=5)
        worker, above = stage.worker(), stage.worker(queue="top")
        assert await above.take() == ()
        await worker.take()
        await worker.end("a", Done("1"))
        assert "top" in await stage.jobs.wait_for_work(["top"], timeout=5)
        assert ids_of(await above.take()) == ["p"]

    async def test_a_flow_lasts(self, stage: Stage) -> None:
        """A store that is opened again knows who waits for whom."""
        await grow(stage, *tree("a", "b"))
        await end_all(stage.worker(), 1)
        await stage.reopen()
        worker = stage.worker()
        assert await end_all(worker) == ["b"]
        assert await end_all(worker) == ["p"]
        assert (await stage.flows.children(QUEUE, "p")).processed == (done("a"), done("b"))
