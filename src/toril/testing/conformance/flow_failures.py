"""Children that fail, and what it means for their parents."""

from __future__ import annotations

import pytest

from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import CancelAnswer, Code
from toril.jobs.flow import ChildFailure, Children, FlowNode, JobRef, OnFailure
from toril.jobs.options import Keep
from toril.jobs.outcome import Cancelled, Done, Failed, Parked, Released, Retry
from toril.jobs.states import State
from toril.testing.conformance.flows import BROKE, TOLD, done, end_all, grow, tree
from toril.testing.conformance.stage import QUEUE, Cases, Stage, ids_of, job


class FailingChildCases(Cases):
    """What a child's failure means for its parent."""

    async def test_fail_takes_the_parent_along(self, stage: Stage) -> None:
        """The parent comes up at once, with a reason that names the child, and other children still run."""
        await grow(stage, *tree("a", "b"))
        worker = stage.worker()
        await worker.take()
        await worker.end("a", BROKE)
        [taken] = [each for each in await worker.take(9) if each.id == "p"]
        assert taken.deferred_failure is not None
        assert "a failed" in taken.deferred_failure
        assert await worker.end("p", Failed(taken.deferred_failure, "")) is Code.OK
        assert await stage.flows.children(QUEUE, "p") == Children(
            pending=(JobRef(QUEUE, "b"),), unsuccessful=(JobRef(QUEUE, "a"),)
        )
        assert await worker.end("b", Done('"b"')) is Code.OK
        assert await stage.state("p") is State.FAILED
        assert (await stage.flows.children(QUEUE, "p")).processed == (done("b"),)

    async def test_failure_climbs(self, stage: Stage) -> None:
        """Level by level, each parent failed by a worker."""
        await grow(stage, *(FlowNode(QUEUE, job(f"n{n}"), n - 1 if n else None) for n in range(4)))
        worker = stage.worker()
        await worker.take()
        await worker.end("n3", BROKE)
        for name in ("n2", "n1", "n0"):
            [taken] = await worker.take(9)
            assert (taken.id, taken.deferred_failure is not None) == (name, True)
            await worker.end(name, Failed(taken.deferred_failure or "", ""))
        assert (await stage.counts()).failed == 4

    async def test_continue_hurries_the_parent(self, stage: Stage) -> None:
        """It runs although another child is pending, and cannot complete before that has ended."""
        await grow(stage, *tree("a", "b", on_failure=OnFailure.CONTINUE))
        worker = stage.worker()
        await worker.take()
        await worker.end("a", BROKE)
        assert ids_of(await worker.take()) == ["p"]
        assert await stage.flows.children(QUEUE, "p") == Children(
            pending=(JobRef(QUEUE, "b"),), failed=(ChildFailure(QUEUE, "a", "work", "it broke"),)
        )
        assert await worker.end("p", Done("1")) is Code.PENDING_CHILDREN
        assert await stage.state("p") is State.ACTIVE
        assert await worker.end("p", Parked()) is Code.OK
        assert await stage.state("p") is State.WAITING_CHILDREN
        assert (await stage.read("p")).attempts_made == 0
        assert await end_all(worker) == ["b"]
        assert await end_all(worker) == ["p"]

    @pytest.mark.parametrize("policy", [OnFailure.IGNORE, OnFailure.REMOVE])
    async def test_ignore_and_remove_wait_for_the_others(self, stage: Stage, policy: OnFailure) -> None:
        """Only `ignore` tells the parent."""
        await grow(stage, *tree("a", "b", on_failure=policy))
        worker = stage.worker()
        await worker.take(2)
        await worker.end("a", BROKE)
        assert await stage.state("p") is State.WAITING_CHILDREN
        await worker.end("b", Done('"b"'))
        told = (ChildFailure(QUEUE, "a", "work", "it broke"),) if policy in TOLD else ()
        assert await stage.flows.children(QUEUE, "p") == Children(processed=(done("b"),), failed=told)
        assert await end_all(worker) == ["p"]

    async def test_without_a_policy_the_parent_waits(self, stage: Stage) -> None:
        """Until somebody retries the child."""
        await grow(stage, *tree("a", on_failure=None))
        worker = stage.worker()
        await worker.take()
        await worker.end("a", BROKE)
        assert await stage.state("p") is State.WAITING_CHILDREN
        assert await stage.inspect.retry(QUEUE, ["a"], now=stage.now) == (Changed.OK,)
        assert await end_all(worker) == ["a"]
        assert await end_all(worker) == ["p"]

    async def test_a_failed_child_that_is_not_kept_holds_nobody_up(self, stage: Stage) -> None:
        """Nobody can retry it any more."""
        await grow(stage, *tree("a", on_failure=None))
        worker = stage.worker()
        await worker.take()
        await worker.end("a", BROKE, keep=Keep(None, 0))
        assert await end_all(worker) == ["p"]

    @pytest.mark.parametrize("policy", list(OnFailure))
    async def test_a_retried_attempt_is_no_failure(self, stage: Stage, policy: OnFailure) -> None:
        """Only the last attempt's is."""
        await grow(stage, *tree("a", on_failure=policy))
        worker = stage.worker()
        for outcome in (Retry("not yet", "", 0), Released()):
            await worker.take()
            await worker.end("a", outcome)
            assert (await stage.flows.children(QUEUE, "p")).pending == (JobRef(QUEUE, "a"),)
        assert await end_all(worker) == ["a"]
        assert await end_all(worker) == ["p"]

    @pytest.mark.parametrize("policy", [OnFailure.FAIL, OnFailure.CONTINUE])
    async def test_a_delayed_parent_is_hurried_too(self, stage: Stage, policy: OnFailure) -> None:
        """A child that fails the second time does not wait for the delay which the parent got the first time."""
        await grow(stage, *tree("a", on_failure=policy, delay_ms=60_000))
        worker = stage.worker()
        assert await end_all(worker, 1) == ["a"]
        assert await stage.state("p") is State.DELAYED
        await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        await worker.take()
        await worker.end("a", BROKE)
        assert ids_of(await worker.take(9)) == ["p"]

    async def test_a_running_parent_cannot_complete_over_a_failed_child(self, stage: Stage) -> None:
        """Nor wait for it."""
        await grow(stage, *tree("a"))
        worker = stage.worker()
        assert await end_all(worker, 1) == ["a"]
        await worker.take()
        await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        assert await worker.end("p", Done("1")) is Code.PENDING_CHILDREN
        await worker.take()
        await worker.end("a", BROKE)
        assert await worker.end("p", Done("1")) is Code.FAILED_CHILDREN
        assert await worker.end("p", Parked()) is Code.FAILED_CHILDREN
        assert await worker.end("p", BROKE) is Code.OK

    async def test_a_failed_parent_may_be_retried(self, stage: Stage) -> None:
        """After its child was: it waits for the child, then runs."""
        await grow(stage, *tree("a"))
        worker = stage.worker()
        await worker.take()
        await worker.end("a", BROKE)
        await worker.take()
        await worker.end("p", BROKE)
        await stage.inspect.retry(QUEUE, ["a", "p"], now=stage.now)
        assert (await stage.flows.children(QUEUE, "p")).pending == (JobRef(QUEUE, "a"),)
        assert ids_of(await worker.take(2)) == ["a", "p"]
        assert await worker.end("p", Parked()) is Code.OK
        assert await worker.end("a", Done("1")) is Code.OK
        assert await end_all(worker) == ["p"]

    async def test_nothing_to_wait_for_leads_back_in_line(self, stage: Stage) -> None:
        """The last child may have ended meanwhile."""
        await grow(stage, *tree("a"))
        worker = stage.worker()
        await end_all(worker, 1)
        await worker.take()
        assert await worker.end("p", Parked()) is Code.OK
        assert await stage.state("p") is State.WAITING
        await stage.add("plain")
        await worker.take(2)
        assert await worker.end("plain", Parked()) is Code.OK
        assert await stage.state("plain") is State.WAITING

    async def test_a_vanished_worker_hurts_no_flow(self, stage: Stage) -> None:
        """A child that stalled comes again; so does a parent, with its results."""
        await grow(stage, *tree("a"))
        for name in ("a", "p"):
            lost, worker = stage.worker(), stage.worker()
            assert ids_of(await lost.take()) == [name]
            await stage.elapse(20_000)
            assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == (name,)
            assert await end_all(worker) == [name]
            assert await lost.end(name, Done("1")) is Code.LOCK_LOST
        assert (await stage.flows.children(QUEUE, "p")).processed == (done("a"),)

    async def test_a_parent_that_stalls_is_still_to_fail(self, stage: Stage) -> None:
        """When a child of a running parent failed and its worker vanished, it comes back with that failure."""
        worker = await stage.bring("p", State.ACTIVE)
        await grow(stage, FlowNode(QUEUE, job("a"), JobRef(QUEUE, "p")))
        await worker.take()
        await worker.end("a", BROKE)
        await stage.elapse(20_000)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        [taken] = await stage.worker().take()
        assert (taken.id, taken.deferred_failure is not None) == ("p", True)

    @pytest.mark.parametrize("policy", list(OnFailure))
    async def test_a_cancelled_child_has_failed(self, stage: Stage, policy: OnFailure) -> None:
        """Whether it was delayed or running."""
        await grow(
            stage,
            FlowNode(QUEUE, job("p")),
            FlowNode(QUEUE, job("a", delay_ms=1_000), 0, policy),
            FlowNode(QUEUE, job("b"), 0, OnFailure.IGNORE),
        )
        worker = stage.worker()
        await worker.take()
        assert await stage.jobs.cancel(QUEUE, "a", by="", reason="why", now=stage.now) is CancelAnswer.CANCELLED
        await worker.end("b", Cancelled("why", ""))
        children = await stage.flows.children(QUEUE, "p")
        assert children.pending == ()
        assert [child.reason for child in children.failed] == ["cancelled: why"] * (2 if policy in TOLD else 1)
        assert len(children.unsuccessful) == (1 if policy is OnFailure.FAIL else 0)
        [parent] = await worker.take()
        assert (parent.deferred_failure is not None) == (policy is OnFailure.FAIL)

    async def test_a_waiting_child_that_is_cancelled_fails_its_parent(self, stage: Stage) -> None:
        """At once, or when a worker comes to it."""
        await grow(stage, *tree("a"))
        await stage.jobs.cancel(QUEUE, "a", by="", reason="", now=stage.now)
        worker = stage.worker()
        if not stage.engine.capabilities.immediate_cancel:
            await worker.take()
            await worker.end("a", Cancelled("", ""))
        [parent] = await worker.take()
        assert (parent.id, parent.deferred_failure is not None) == ("p", True)

    async def test_a_cancelled_parent_leaves_its_children(self, stage: Stage) -> None:
        """They run, and nobody comes up for it."""
        await grow(stage, *tree("a"))
        assert await stage.jobs.cancel(QUEUE, "p", by="", reason="", now=stage.now) is CancelAnswer.CANCELLED
        worker = stage.worker()
        assert await end_all(worker) == ["a"]
        assert await end_all(worker) == []
        assert (await stage.read("p")).cancelled
