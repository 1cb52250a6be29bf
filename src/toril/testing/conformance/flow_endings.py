"""Every flow ends, whatever happens to its jobs."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from toril.engine.ports.jobs import Code
from toril.jobs.flow import FlowNode, OnFailure
from toril.jobs.model import TakenJob
from toril.jobs.outcome import Cancelled, Done, Failed, Outcome, Parked, Released, Retry, Snooze
from toril.testing.conformance.stage import LOCK_MS, Cases, HandWorker, Stage, job

QUEUES = ("top", "left", "right")
ENDS = {"completed", "failed"}
MOST_ROUNDS = 200


def random_tree(chance: Random) -> list[FlowNode]:
    """Up to thirty jobs, each under any earlier one."""
    nodes = [FlowNode("top", job("n0"))]
    for number in range(1, chance.randint(2, 30)):
        given = job(f"n{number}", delay_ms=chance.choice((0, 0, 500)), priority=chance.choice((0, 0, 3)))
        nodes.append(FlowNode(chance.choice(QUEUES), given, chance.randrange(number), chance.choice(list(OnFailure))))
    return nodes


def random_outcome(chance: Random, taken: TakenJob) -> Outcome | None:
    """How a run ends; None when its worker is killed."""
    if taken.deferred_failure is not None:
        return Failed(taken.deferred_failure, "")
    again: list[Outcome | None] = [Retry("no", "", chance.choice((0, 300))), Snooze(100), Released(), None]
    final: list[Outcome | None] = [Done("1"), Done("2"), Done("3"), Failed("no", ""), Cancelled("", "")]
    return chance.choice(final if taken.starts > 3 else final + again)


async def hand_in(worker: HandWorker, id: str, outcome: Outcome) -> None:
    """As a worker does: who may not complete waits for its children, or fails with them."""
    code = await worker.end(id, outcome)
    if code is Code.PENDING_CHILDREN:
        code = await worker.end(id, Parked())
    if code is Code.FAILED_CHILDREN:
        code = await worker.end(id, Failed("a child failed", ""))
    assert code is Code.OK


class FlowEndingCases(Cases):
    """Random trees, random ends, killed workers, cancellations."""

    @pytest.mark.parametrize("seed", range(12))
    async def test_every_flow_ends_once(self, stage: Stage, seed: int) -> None:
        """Within a bound, each job with one end."""
        chance = Random(seed)
        nodes = random_tree(chance)
        await stage.flows.add(nodes, batch="tree", now=stage.now)
        for round_ in range(MOST_ROUNDS):
            for queue in QUEUES:
                worker = stage.worker(queue=queue)
                for taken in await worker.take(chance.randint(1, 4)):
                    outcome = random_outcome(chance, taken)
                    if outcome is not None:
                        await hand_in(worker, taken.id, outcome)
            if round_ < 5 and chance.random() < 0.3:
                node = chance.choice(nodes)
                await stage.jobs.cancel(node.queue, node.job.id, by="", reason="", now=stage.now)
            await stage.elapse(LOCK_MS + 1_000)
            for queue in QUEUES:
                await stage.jobs.recover(queue, max_stalls=2, now=stage.now)
            counts = [await stage.inspect.counts(queue) for queue in QUEUES]
            if sum(count.completed + count.failed for count in counts) == len(nodes):
                break
        else:
            raise AssertionError(f"after {MOST_ROUNDS} rounds: {counts}")
        ended: Counter[str] = Counter()
        for queue in QUEUES:
            ended.update(event.job_id for event in await stage.events(queue=queue) if event.kind in ENDS)
        assert ended == {node.job.id: 1 for node in nodes}
