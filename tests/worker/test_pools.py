"""Plain functions in threads and in processes."""

import asyncio
import contextvars
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from tests.worker import cpu_tasks
from tests.worker.workshop import Workshop
from toril.jobs.options import JobOptions
from toril.jobs.retry import Fixed
from toril.jobs.states import State
from toril.kernel.telemetry import HandlerStuck, JobNotDone, ProcessEnded, ProcessStarted
from toril.tasks.context import Context


@pytest.fixture
def processes(shop: Workshop) -> Workshop:
    for task in cpu_tasks.toril.registry:
        shop.toril.registry.add(task)
    return shop


async def test_plain_functions_run_beside_each_other_in_threads(shop: Workshop) -> None:
    # A08
    together = threading.Barrier(4, timeout=5)

    @shop.toril.task()
    def meet() -> str:
        together.wait()
        return threading.current_thread().name

    handles = await shop.toril.enqueue_many(meet.call() for _ in range(4))
    async with shop.worker(concurrency=4):
        names = {(await shop.finished(handle.id)).result for handle in handles}
    assert len(names) == 4


async def test_threads_are_used_again_and_never_more_than_slots(shop: Workshop) -> None:
    # S1-29
    seen: set[str] = set()

    @shop.toril.task()
    def note() -> None:
        seen.add(threading.current_thread().name)

    handles = await shop.toril.enqueue_many(note.call() for _ in range(60))
    async with shop.worker(concurrency=3):
        for handle in handles:
            await shop.finished(handle.id)
    assert 1 <= len(seen) <= 3


async def test_a_thread_sees_its_own_context_variables(shop: Workshop) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")

    @shop.toril.task()
    def mark(own: str) -> str:
        before = name.get()
        name.set(own)
        return before

    handles = await shop.toril.enqueue_many(mark.call(str(number)) for number in range(5))
    async with shop.worker(concurrency=1):
        for handle in handles:
            assert (await shop.finished(handle.id)).result == '"none"'


async def test_plain_functions_report_progress_and_log(shop: Workshop) -> None:
    @shop.toril.task()
    def talk(ctx: Context) -> None:
        ctx.progress_sync(30, "a third")
        ctx.log_sync("from a thread")

    handle = await talk.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert (job.progress_number, job.progress_message) == (30, "a third")
    assert (await shop.engine.inspect.logs("default", handle.id)).lines == ("from a thread",)


async def test_a_process_is_used_again_and_is_another_one(processes: Workshop) -> None:
    # S1-29, A08
    first, second = await cpu_tasks_enqueue(processes, "where", '{"number":1}', '{"number":2}')
    async with processes.worker(processes=1):
        results = [(await processes.finished(id)).result or "" for id in (first, second)]
        assert len([event for event in processes.told if isinstance(event, ProcessStarted)]) == 1
    pids = {result.split('"pid":')[1].split(",")[0] for result in results}
    assert len(pids) == 1
    assert str(os.getpid()) not in pids
    [ended] = [event for event in processes.told if isinstance(event, ProcessEnded)]
    assert not Path(f"/proc/{ended.pid}").exists()


async def test_a_process_reports_progress_and_log(processes: Workshop) -> None:
    [id] = await cpu_tasks_enqueue(processes, "talk", "{}")
    async with processes.worker():
        job = await processes.finished(id)
    assert (job.result, job.progress_number, job.progress_message) == ('"1 default"', 50, "half")
    assert (await processes.engine.inspect.logs("default", id)).lines == ("a line from a process",)


async def test_a_process_may_stop_its_queue(processes: Workshop) -> None:
    [id] = await cpu_tasks_enqueue(processes, "end", '{"how":"limited"}')
    async with processes.worker():
        [ended] = await processes.heard(JobNotDone)
    assert (ended.job_id, ended.outcome, ended.delay_s) == (id, "limited", 60)
    assert (await processes.get(id)).attempts_made == 0


@pytest.mark.parametrize(
    ("how", "state", "attempts", "reason"),
    [
        ("error", State.DELAYED, 1, "LookupError: in a process"),
        ("never", State.FAILED, 1, "no way"),
        ("snooze", State.DELAYED, 0, None),
        ("retry", State.DELAYED, 1, "in a minute"),
        ("exit", State.DELAYED, 1, "SystemExit: 3"),
        ("crash", State.DELAYED, 1, "ProcessCrashed: the process that ran the job ended with exit code 9."),
    ],
)
async def test_every_end_in_a_process_counts_as_elsewhere(
    processes: Workshop, how: str, state: State, attempts: int, reason: str | None
) -> None:
    [id] = await cpu_tasks_enqueue(processes, "end", f'{{"how":"{how}"}}')
    async with processes.worker():
        job = await processes.in_state(id, state)
        [after] = await cpu_tasks_enqueue(processes, "where", '{"number":3}')
        assert (await processes.finished(after)).state is State.COMPLETED
    assert job.attempts_made == attempts
    assert job.history[-1].error == reason
    if how == "error":
        assert 'raise LookupError("in a process")' in job.stacktrace[-1]


async def test_wrong_arguments_in_a_process_fail_at_once(processes: Workshop) -> None:
    [id] = await cpu_tasks_enqueue(processes, "where", '{"number":"x"}')
    async with processes.worker():
        job = await processes.finished(id)
    assert (job.failed_reason or "").startswith("InvalidArguments: ")


async def test_a_process_that_goes_on_after_its_timeout_is_killed(processes: Workshop) -> None:  # A06
    [id] = await cpu_tasks_enqueue(processes, "busy", "{}", attempts=1)
    async with processes.worker():
        job = await processes.finished(id)
        [ended] = await processes.heard(ProcessEnded)
        assert ended.code == -9
    assert job.failed_reason == "JobTimeout: busy ran longer than its timeout of 0.2 s."


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pool", ["loop", "thread", "process"])
async def test_a_handler_that_swallows_everything_is_cancelled_all_the_same(
    processes: Workshop, pool: str
) -> None:  # A06
    shop, released = processes, threading.Event()

    @shop.toril.task()
    async def deaf_loop(ctx: Context) -> None:
        await ctx.log("begun")
        while not released.is_set():
            try:
                await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.01)
            except BaseException:  # noqa: BLE001 - that is what the test is about
                continue

    @shop.toril.task()
    def deaf_thread(ctx: Context) -> None:
        ctx.log_sync("begun")
        while not released.is_set():
            try:
                released.wait(0.01)
            except BaseException:  # noqa: BLE001
                continue

    name = {"loop": "deaf_loop", "thread": "deaf_thread", "process": "deaf"}[pool]
    [id] = await cpu_tasks_enqueue(shop, name, "{}", attempts=3)
    async with shop.worker():
        while not (await shop.engine.inspect.logs("default", id)).lines:
            await shop.engine.bus.wait("default", after="0", timeout=0.01)
        await shop.engine.jobs.cancel("default", id, by="anna", reason="enough", now=shop.clock.now_ms())
        job = await shop.finished(id)
        if pool == "process":
            [ended] = await shop.heard(ProcessEnded)
            assert ended.code == -9
        else:
            [stuck] = await shop.heard(HandlerStuck)
            assert (stuck.job_id, stuck.pool, stuck.cause) == (id, pool, "cancel")
        released.set()
    assert (job.state, job.failed_reason, job.attempts_made) == (State.FAILED, "cancelled: enough", 0)
    assert job.cancel is not None
    assert (job.cancel.by, job.cancel.reason) == ("anna", "enough")


async def test_a_process_may_stop_by_itself_when_cancelled(processes: Workshop) -> None:
    [id] = await cpu_tasks_enqueue(processes, "polite", "{}")
    async with processes.worker(grace_s=30.0):
        while not (await processes.engine.inspect.logs("default", id)).lines:
            await processes.engine.bus.wait("default", after="0", timeout=0.01)
        await processes.engine.jobs.cancel("default", id, by="a", reason="b", now=processes.clock.now_ms())
        job = await processes.finished(id)
        assert not any(isinstance(event, ProcessEnded) for event in processes.told)
    assert job.failed_reason == "cancelled: b"


async def test_a_function_that_no_process_can_find_says_so(shop: Workshop) -> None:
    @shop.toril.task(pool="process", attempts=1)
    def hidden() -> None: ...

    handle = await hidden.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert "at the top level" in (job.failed_reason or "")


async def test_a_script_can_use_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(script), cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await child.communicate()
    assert (out.decode(), err.decode()) == ("49\n", "")


@pytest.mark.timeout(60)
async def test_a_process_whose_worker_is_gone_ends_without_a_word() -> None:
    ours, theirs = socket.socketpair()
    number = theirs.fileno()
    command = (sys.executable, "-m", "toril.worker.process", str(number))
    child = await asyncio.create_subprocess_exec(*command, pass_fds=(number,), stderr=asyncio.subprocess.PIPE)
    ours.close()
    theirs.close()
    _, err = await child.communicate()
    assert (child.returncode, err.decode()) == (0, "")


SCRIPT = """
import asyncio
from toril.app import Toril

toril = Toril("sqlite://")

@toril.task(pool="process")
def square(number: int) -> int:
    return number * number

async def main() -> None:
    async with toril, toril.worker():
        handle = await square.enqueue(7)
        print(await handle.result(timeout=9))

if __name__ == "__main__":
    asyncio.run(main())
"""


async def cpu_tasks_enqueue(shop: Workshop, name: str, *data: str, attempts: int = 2) -> list[str]:
    options = JobOptions(attempts=attempts, backoff=Fixed(1), timeout="200ms" if name == "busy" else None)
    jobs = [shop.job(f"{name}{number}", name, text, options) for number, text in enumerate(data)]
    return list((await shop.add(*jobs)).ids)
