"""The recorded operations, done by Toril's ports: as an application, a worker and an operator would do them."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from tests.interop.recorded import START_MS, Scenario
from tests.interop.schedulers import SchedulerOperations
from tests.interop.trees import dependencies_of, job_of, node_of, nodes_of
from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import Added, Code, Finish, Lock, LogLine, Progress
from toril.engine.protocol import Engine
from toril.errors import ConfigError, JobLocked, JobNotFound
from toril.jobs import options
from toril.jobs.flow import FlowNode
from toril.jobs.model import TakenJob
from toril.jobs.options import JobOptions, Keep
from toril.jobs.outcome import Done, Failed, Outcome, Parked, Retry
from toril.jobs.states import State
from toril.jobs.unique import Unique, UniqueKey
from toril.testing.clock import ManualClock

LOCK_MS = 30_000
MAX_STALLS = 1

Step = dict[str, Any]

STATES = {"wait": State.WAITING} | {state.value: state for state in State}
CODES = {-1: Code.MISSING, -2: Code.LOCK_LOST, -3: Code.NOT_ACTIVE, -4: Code.PENDING_CHILDREN, -6: Code.LOCK_LOST}
CODES[-9] = Code.FAILED_CHILDREN


class Taken:
    """A job that a step took, under the name by which later steps speak of it."""

    def __init__(self, queue: str, job: TakenJob, token: str, worker: dict[str, Any], at: int) -> None:
        self.queue = queue
        self.job = job
        self.token = token
        self.worker = worker
        self.at = at


class Operations(SchedulerOperations):
    """Does steps of one scenario with one engine. Each method asserts that the answer is the recorded one."""

    def __init__(self, engine: Engine, scenario: Scenario) -> None:
        self.clock = ManualClock(START_MS)
        self._engine = engine
        self._scenario = scenario
        self._numbers = count(1)
        self._taken: dict[str, Taken] = {}
        self._added: dict[str, str] = {}
        self._pending: dict[str, list[TakenJob]] = {}

    async def do(self, step: Step) -> None:
        """One step."""
        await getattr(self, f"_{step['op']}")(step)

    def given(self, step: Step) -> None:
        """A step that was not done but written: what it took is known to later steps all the same."""
        if step["op"] == "fetch" and step.get("result"):
            hash_ = step["changed"][f"bull:{_queue(step)}:{step['result']}"]["value"]
            opts, attempts = _json(hash_["opts"]["$json"]), int(hash_.get("atm", 0))
            job = TakenJob(step["result"], hash_["name"], "{}", opts, 0, attempts, int(hash_["ats"]), 0, None)
            self._remember(step, step["as"], job, step["token"])

    # The application

    async def _add(self, step: Step) -> None:
        opts = step.get("opts", {})
        if "error" in step and "parent" in opts:
            job = job_of("refused", step["name"], step.get("data", {}), opts, self.clock.now_ms())
            await self._orphan(node_of(_queue(step), job, opts, None))
            return
        if "error" in step:
            self._refused(opts)
            return
        job = job_of(_own_id(step), step["name"], step.get("data", {}), opts, self.clock.now_ms())
        if "parent" in opts:
            added = await self._grow([node_of(_queue(step), job, opts, None)])
        else:
            job = job._replace(unique=_unique(opts.get("deduplication")))
            batch = f"batch-{next(self._numbers)}"
            added = await self._engine.jobs.add(_queue(step), [job], batch=batch, now=self.clock.now_ms())
        assert added.ids == (step["result"],)
        if "as" in step:
            self._added[step["as"]] = step["result"]

    async def _flow(self, step: Step) -> None:
        await self._grow(nodes_of(step["flow"], self.clock.now_ms()))

    async def _flowBulk(self, step: Step) -> None:  # noqa: N802 - the recorded name
        nodes: list[FlowNode] = []
        for tree in step["flows"]:
            nodes += nodes_of(tree, self.clock.now_ms(), first=len(nodes))
        await self._grow(nodes)

    async def _grow(self, nodes: list[FlowNode]) -> Added:
        batch = f"batch-{next(self._numbers)}"
        return await self._engine.flows.add(nodes, batch=batch, now=self.clock.now_ms())

    async def _orphan(self, node: FlowNode) -> None:
        try:
            await self._grow([node])
        except JobNotFound:
            return
        raise AssertionError("expected JobNotFound for a parent that is not there")

    async def _dependencies(self, step: Step) -> None:
        taken = self._taken[step["job"]]
        children = await self._engine.flows.children(taken.queue, taken.job.id)
        assert dependencies_of(children) == step["result"]

    async def _moveToWaitingChildren(self, step: Step) -> None:  # noqa: N802
        await self._finish(step | {"result": {"id": None}}, self._taken[step["job"]], Parked())

    def _refused(self, opts: dict[str, Any]) -> None:
        """What BullMQ refuses, Toril refuses before it asks its engine."""
        try:
            JobOptions(id=opts.get("jobId"), priority=opts.get("priority", 0))
            if "deduplication" in opts:
                Unique(opts["deduplication"].get("id", ""))
        except ConfigError:
            return
        raise AssertionError(f"expected a ConfigError for {opts}, found that it is accepted")

    # The worker

    async def _fetch(self, step: Step) -> None:
        token = step["token"]
        jobs = await self._exchange(_queue(step), token, step.get("worker", {}), want=1)
        assert [job.id for job in jobs] == ([step["result"]] if step["result"] else [])
        for job in jobs:
            self._remember(step, step["as"], job, token)

    async def _complete(self, step: Step) -> None:
        await self._finish(step, self._taken[step["job"]], Done(_json(step.get("value"))))

    async def _fail(self, step: Step) -> None:
        taken = self._taken[step["job"]]
        await self._finish(step, taken, _failure(taken.job, step["message"], step.get("kind", "")))

    async def _process(self, step: Step) -> None:
        """Take one job and run it as a worker does."""
        queue, token = _queue(step), step["token"]
        [job] = await self._exchange(queue, token, step.get("worker", {}), want=1)
        # v5 answers nothing when it fails a job on its way (see the README of the recordings).
        assert job.id == step["result"] or (step["result"] is None and self._scenario.major == 5)
        if job.deferred_failure is not None:
            outcome: Outcome = Failed(job.deferred_failure, f"UnrecoverableError: {job.deferred_failure}")
        else:
            handler = step["handlers"][job.name]
            outcome = Done(_json(handler["return"])) if "return" in handler else _failure(job, handler["throw"], "")
        await self._finish(step | {"result": {"id": None}}, Taken(queue, job, token, {}, self.clock.now_ms()), outcome)

    async def _finish(self, step: Step, taken: Taken, outcome: Outcome) -> None:
        end = Finish(
            taken.job.id, step["token"], outcome, taken.at, self.clock.now_ms(), _keep(taken, isinstance(outcome, Done))
        )
        want = 1 if step.get("fetchNext") else 0
        jobs = await self._exchange(
            taken.queue, step["token"], taken.worker, want=want, finished=end, code=step.get("error", {}).get("code")
        )
        following = (step.get("result") or {}).get("id")
        assert [job.id for job in jobs] == ([following] if following else [])
        for job in jobs:
            self._remember(step, step["next"], job, step["token"])

    async def _exchange(
        self, queue: str, token: str, worker: dict[str, Any], *,
        want: int, finished: Finish | None = None, code: int | None = None,
    ) -> tuple[TakenJob, ...]:  # fmt: skip
        exchanged = await self._engine.jobs.exchange(
            queue, worker=worker.get("name", "w"), seq=next(self._numbers), token=token,
            finished=[] if finished is None else [finished], want=want, lock_ms=LOCK_MS, now=self.clock.now_ms(),
        )  # fmt: skip
        if finished is not None:
            assert exchanged.applied == (Code.OK if code is None else CODES[code],)
        await self.plan_next(queue, exchanged.jobs)
        return exchanged.jobs

    async def _extendLock(self, step: Step) -> None:  # noqa: N802 - the recorded name
        taken = self._taken[step["job"]]
        lock = Lock(taken.queue, taken.job.id, step["token"])
        renewed = await self._engine.jobs.renew([lock], lock_ms=step["duration"], now=self.clock.now_ms())
        assert renewed.lost == (() if step["result"] else (lock,))

    async def _stalledCheck(self, step: Step) -> None:  # noqa: N802
        recovered = await self._engine.jobs.recover(_queue(step), max_stalls=MAX_STALLS, now=self.clock.now_ms())
        assert list(recovered.requeued) == step["result"]

    async def _progress(self, step: Step) -> None:
        taken = self._taken[step["job"]]
        report = Progress(taken.job.id, taken.token, _json(step["value"]), self.clock.now_ms())
        await self._engine.jobs.report(taken.queue, [report], [])

    async def _log(self, step: Step) -> None:
        taken = self._taken[step["job"]]
        keep = json.loads(taken.job.opts).get("kl", 1000)
        line = LogLine(taken.job.id, taken.token, step["line"], self.clock.now_ms(), keep)
        await self._engine.jobs.report(taken.queue, [], [line])

    # The operator

    async def _pause(self, step: Step) -> None:
        await self._engine.inspect.pause(_queue(step), now=self.clock.now_ms())

    async def _resume(self, step: Step) -> None:
        await self._engine.inspect.resume(_queue(step), now=self.clock.now_ms())

    async def _promote(self, step: Step) -> None:
        done = await self._engine.inspect.promote(_queue(step), [self._added[step["job"]]], now=self.clock.now_ms())
        assert done == (Changed.REFUSED if "error" in step else Changed.OK,)

    async def _retry(self, step: Step) -> None:
        done = await self._engine.inspect.retry(_queue(step), [step["id"]], now=self.clock.now_ms())
        assert done == (Changed.REFUSED if "error" in step else Changed.OK,)

    async def _remove(self, step: Step) -> None:
        done = await self._engine.inspect.remove(_queue(step), [step["id"]], now=self.clock.now_ms())
        refused = {0: (Changed.LOCKED,), 1: (Changed.OK, Changed.MISSING), None: (Changed.REFUSED,)}
        assert done[0] in refused[step.get("result")]

    async def _drain(self, step: Step) -> None:
        await self._engine.inspect.drain(_queue(step), delayed=step.get("delayed", False), now=self.clock.now_ms())

    async def _clean(self, step: Step) -> None:
        now = self.clock.now_ms()
        state = STATES[step["type"]]
        cleaned = await self._engine.inspect.clean(_queue(step), state, before=now - step["grace"], now=now)
        assert cleaned == len(step["result"])

    async def _obliterate(self, step: Step) -> None:
        force = step.get("opts", {}).get("force", False)
        try:
            while not await self._engine.inspect.obliterate(_queue(step), force=force, now=self.clock.now_ms()):
                pass
        except JobLocked:
            assert "error" in step
        else:
            assert "error" not in step

    # Looking

    async def _counts(self, step: Step) -> None:
        counts = await self._engine.inspect.counts(_queue(step))
        expected = {State.WAITING: step["result"]["waiting"] + step["result"].get("paused", 0)}
        expected |= {state: step["result"][state.value] for state in State if state is not State.WAITING}
        assert {state: counts.of(state) for state in State} == expected

    async def _state(self, step: Step) -> None:
        job = await self._engine.inspect.get(step["id"], _queue(step))
        assert ("unknown" if job is None else job.state.value) == step["result"]

    async def _jobIds(self, step: Step) -> None:  # noqa: N802
        page = await self._engine.inspect.list(_queue(step), [STATES[name] for name in step["types"]])
        assert [job.id for job in page.jobs] == step["result"]

    async def _jobJson(self, step: Step) -> None:  # noqa: N802
        job = await self._engine.inspect.get(step["id"], _queue(step))
        result = step["result"]
        assert job is not None
        assert (job.name, json.loads(job.data), json.loads(job.opts)) == (
            result["name"],
            result["data"],
            result["opts"],
        )
        assert (job.attempts_made, job.starts, job.stalls) == (
            result["attemptsMade"], result["attemptsStarted"], result["stalledCounter"],
        )  # fmt: skip
        assert (job.timestamp, job.processed, job.finished) == (
            result["timestamp"], result.get("processedOn"), result.get("finishedOn"),
        )  # fmt: skip
        assert json.loads(job.result or "null") == result["returnvalue"]
        assert job.failed_reason == result.get("failedReason")
        assert [entry.partition("\n")[0] for entry in job.stacktrace] == (result["stacktrace"] or [])

    def _remember(self, step: Step, name: str, job: TakenJob, token: str) -> None:
        queue = self._taken[step["job"]].queue if "job" in step else _queue(step)
        worker = step.get("worker") or (self._taken[step["job"]].worker if "job" in step else {})
        self._taken[name] = Taken(queue, job, token, worker, self.clock.now_ms())


def _queue(step: Step) -> str:
    queue: str = step.get("queue", "q")
    return queue


def _own_id(step: Step) -> str:
    """The id that a job gets if it is stored: another's is answered when that has its deduplication id."""
    own: str = step["result"]
    if "deduplication" in step.get("opts", {}):
        own = step["changed"][f"bull:{_queue(step)}:id"]["value"]
    return own


def _unique(de: dict[str, Any] | None) -> UniqueKey | None:
    if de is None:
        return None
    flags = (de.get(name, False) for name in ("extend", "replace", "keepLastIfActive"))
    return UniqueKey(de["id"], de.get("ttl"), *flags)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _failure(job: TakenJob, message: str, kind: str) -> Outcome:
    """What a worker makes of an error: another attempt, if there is one left."""
    run = options.decode(job.opts)
    if kind == "unrecoverable":
        return Failed(message, f"UnrecoverableError: {message}")
    stack = f"Error: {message}\n    at handler"
    if job.attempts_made + 1 >= run.attempts:
        return Failed(message, stack)
    delay = 0 if run.backoff is None else run.backoff.delay_ms_for(job.attempts_made + 1)
    return Retry(message, stack, delay)


def _keep(taken: Taken, well: bool) -> Keep | None:
    """How long the job is kept: its own option, else the worker's."""
    name = "removeOnComplete" if well else "removeOnFail"
    opts = json.loads(taken.job.opts)
    given = opts if name in opts else taken.worker
    run = options.decode(_json({name: given.get(name)}))
    return run.keep_completed if well else run.keep_failed
