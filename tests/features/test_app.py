"""The application object: starting, closing, settings, several at once, synchronous code, what it loads."""

import asyncio
import logging
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from toril import (
    Call,
    ConfigError,
    Context,
    EngineError,
    Retention,
    Settings,
    Toril,
    TorilError,
    UnknownTask,
    Worker,
)
from toril.errors import EngineClosed, TaskExists
from toril.jobs.options import Keep
from toril.settings import JobSettings, WorkerSettings
from toril.tasks.middleware import RunNext


async def test_the_decorator_comes_in_both_forms() -> None:
    # S4-01
    toril = Toril("sqlite://")

    @toril.task
    async def one(n: int) -> int:
        """Says what it does."""
        return n

    @toril.task()
    async def two(n: int) -> int:
        return n

    @toril.task(name="dreimal", queue="other", attempts=7)
    def three(n: int) -> int:
        return n

    assert [(task.name, task.queue, task.options.attempts, task.pool) for task in toril.registry] == [
        ("one", "default", 3, "loop"),
        ("two", "default", 3, "loop"),
        ("dreimal", "other", 7, "thread"),
    ]
    assert (one.__doc__, one.__name__, two.__module__) == ("Says what it does.", "one", __name__)
    assert toril.registry.queues() == {"default", "other"}
    assert "dreimal" in toril.registry
    assert isinstance(one.call(5), Call)
    with pytest.raises(UnknownTask, match="No task is named 'ones': did you mean 'one'"):
        toril.registry["ones"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue": "a b"}, "queue: expected 1 to 100 characters"),
        ({"queue": ""}, "queue: expected"),
        ({"name": "a:b"}, "The name of a task: expected"),
        ({"pool": "thread"}, "an async function runs in the event loop"),
        ({"pool": "fibre"}, 'expected "thread" or "process"'),
        ({"id": "x"}, r"with_options\(id=…\)"),
        ({"attemps": 3}, "Unknown option 'attemps'"),
        ({"backoff": 5}, "backoff: expected"),
        ({"retention": "7d"}, "retention: expected"),
    ],
)
def test_a_wrong_declaration_fails_where_it_is_written(options: dict[str, Any], message: str) -> None:
    toril = Toril("sqlite://")

    async def handle() -> None: ...

    with pytest.raises(ConfigError, match=message):
        toril.task(**options)(handle)
    assert len(toril.registry) == 0


def test_one_name_belongs_to_one_task() -> None:
    toril = Toril("sqlite://")

    def handle() -> None: ...

    toril.task(handle)
    with pytest.raises(TaskExists, match=r"Two tasks are named 'handle'.*Give one of them another name"):
        toril.task(handle)
    with pytest.raises(ConfigError, match='pool="thread" or "process"'):
        toril.task(name="other", pool="loop")(handle)


async def test_two_applications_in_one_process_are_apart(tmp_path: Path) -> None:
    # S1-12
    first, second = Toril("sqlite://"), Toril(f"sqlite:///{tmp_path}/second.db")

    @first.task(name="who")
    async def who_first() -> str:
        return "first"

    @second.task(name="who")
    async def who_second() -> str:
        return "second"

    async with first, second, first.worker(), second.worker():
        one, two = await asyncio.gather(who_first.enqueue(), who_second.enqueue())
        assert (await one.result(timeout=5), await two.result(timeout=5)) == ("first", "second")
        assert await first.job(two.id).info() is None
        # Closing one takes its worker along, and leaves the other alone.
        await first.close()
        assert await (await who_second.enqueue()).result(timeout=5) == "second"
        assert (await second.queue("default").counts()).completed == 2


async def test_the_store_opens_at_first_use_and_not_after_close() -> None:
    toril = Toril("sqlite://")

    @toril.task
    async def handle() -> None: ...

    await handle.enqueue()
    assert (await toril.stats()).queues[0].counts.waiting == 1
    await toril.close()
    await toril.close()
    with pytest.raises(EngineClosed):
        await handle.enqueue()
    async with toril:
        await handle.enqueue()
    assert repr(Toril("sqlite://")).startswith("<Toril at sqlite://, 0 tasks")


def test_a_wrong_url_fails_where_it_is_written() -> None:
    # S0-25
    with pytest.raises(ConfigError, match="three slashes"):
        Toril("sqlite://toril.db")
    with pytest.raises(ConfigError, match="unknown scheme"):
        Toril("mysql://u:secret@host/db")


async def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="mkdir -p"):
        await Toril(f"sqlite:///{tmp_path}/none/toril.db").start()


async def test_the_start_log_names_what_was_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # S0-01, S0-08, S0-12, S0-13, S0-14, S0-27
    caplog.set_level(logging.INFO, "toril")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USE_BULLMQ", "true")
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("TORIL_WORKER_CONCURENCY", "7")
    toril = Toril()

    @toril.task(queue="documentation-generation")
    async def handle() -> None: ...

    async with toril:
        await toril.start()
    warning, misspelled, started = (record.getMessage() for record in caplog.records if record.name == "toril")
    assert warning.startswith("USE_BULLMQ is true, but neither REDIS_URL nor REDIS_HOST is set")
    assert misspelled.startswith("TORIL_WORKER_CONCURENCY is set, but no such option exists")
    assert f"mode sqlite, {tmp_path}/toril.db (decided by: neither TORIL_URL nor REDIS_URL is set)" in started
    assert "queues: documentation-generation; slots per worker process: 5" in started
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("name", ["TORIL_URL", "REDIS_URL"])
def test_a_wrong_url_is_explained_with_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # S0-25, S0-27
    monkeypatch.setenv(name, "redis://u:hunter2@cache:6379/zero")
    with pytest.raises(ConfigError, match=rf"^{name}: The URL 'redis://\*\*\*@cache:6379/…': database: ") as caught:
        Toril()
    assert "hunter2" not in str(caught.value)


async def test_lifespan_opens_the_store_and_runs_a_worker() -> None:
    # S1-10, S0-02, S0-01, S1-05, S1-15
    toril = Toril("sqlite://")

    @toril.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with toril.lifespan(object()):
        assert await (await add.enqueue(1, 2)).result(timeout=5) == 3
        assert len((await toril.stats()).workers) == 1
    with pytest.raises(EngineClosed):
        await add.enqueue(1, 2)


async def test_lifespan_may_leave_the_worker_out() -> None:
    toril = Toril("sqlite://", settings=Settings(worker=WorkerSettings(lifespan=False)))

    @toril.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with toril.lifespan():
        await add.enqueue(1, 2)
        stats = await toril.stats()
    assert (stats.mode, stats.health.ok, stats.workers) == ("sqlite", True, ())
    assert [(queue.name, queue.counts.waiting) for queue in stats.queues] == [("default", 1)]


async def test_stats_show_declared_queues_and_live_workers() -> None:
    # S0-15, S0-16
    toril = Toril("sqlite://")

    @toril.task(queue="docs")
    async def handle() -> None: ...

    async with toril, toril.worker(concurrency=3) as worker:
        stats = await toril.stats()
        assert [queue.name for queue in stats.queues] == ["docs"]
        assert stats.queues[0].counts.total == 0
        assert [(entry["id"], entry["concurrency"], entry["queues"]) for entry in stats.workers] == [
            (worker.id, 3, ["docs"])
        ]
    with pytest.raises(ConfigError, match="A worker needs a queue"):
        Toril("sqlite://").worker()


async def test_settings_reach_the_worker() -> None:
    # S3-23
    settings = Settings(
        worker=WorkerSettings(concurrency=9, lock=20, heartbeat=4, unknown="fail"),
        jobs=JobSettings(keep_completed=86_400, keep_completed_max=5, keep_events=200),
    )
    toril = Toril("sqlite://", settings=settings)
    toril.queue("docs", retention=Retention(failed="1h"))
    worker = toril.worker(["docs", "other"])
    assert isinstance(worker, Worker)
    options = worker.options
    assert (options.concurrency, options.lock_ms, options.heartbeat_ms, options.unknown) == (9, 20_000, 4_000, "fail")
    docs, other = worker._policies["docs"], worker._policies["other"]
    assert (docs.completed, docs.failed, docs.events) == (Keep(86_400.0, 5), Keep(3_600.0, None), 200)
    assert other.failed == Keep(14 * 86_400.0, 10_000)
    assert toril.worker(["docs"], concurrency=1).options.concurrency == 1
    with pytest.raises(ConfigError, match="two retentions"):
        toril.queue("docs", retention=Retention(failed="2h"))


def test_synchronous_code_uses_the_same_jobs(tmp_path: Path) -> None:
    # A08
    toril = Toril(f"sqlite:///{tmp_path}/toril.db")

    @toril.task
    def add(a: int, b: int) -> int:
        return a + b

    toril.start_sync()
    first = add.enqueue_sync(1, b=2)
    others = toril.enqueue_many_sync(add.call(n, 1) for n in range(3))
    done = threading.Event()

    async def work() -> None:
        async with toril.worker():
            await asyncio.to_thread(done.wait, 8)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        assert first.result_sync(timeout=5) == 3
        assert [job.result_sync(timeout=5) for job in others] == [1, 2, 3]
        assert not first.cancel_sync()
        stored = toril.job(first.id).info_sync()
        assert stored is not None
        assert stored.state == "completed"
    finally:
        done.set()
        thread.join()
        toril.close_sync()
    toril.close_sync()


async def test_a_sync_call_inside_a_loop_works_and_warns_once() -> None:
    async with Toril("sqlite://") as toril:

        @toril.task
        async def handle() -> None: ...

        with pytest.warns(RuntimeWarning, match="inside a running event loop") as said:
            handle.enqueue_sync()
        handle.enqueue_sync()
        assert len(said) == 1
        assert said[0].filename == __file__
        assert (await toril.queue("default").counts()).waiting == 2


async def test_middleware_runs_around_handlers() -> None:
    toril, seen = Toril("sqlite://"), list[str]()

    async def timing(ctx: Context, arguments: dict[str, Any], call_next: RunNext) -> Any:
        seen.append(f"before {ctx.name} {arguments}")
        result = await call_next(ctx, {**arguments, "n": arguments["n"] + 1})
        seen.append(f"after {result}")
        return result

    async def inner(ctx: Context, arguments: dict[str, Any], call_next: RunNext) -> Any:
        seen.append(f"inner {arguments}")
        return await call_next(ctx, arguments)

    toril.add_middleware(run=timing)
    toril.add_middleware(run=inner)

    @toril.task
    async def double(n: int) -> int:
        return n * 2

    async with toril, toril.worker():
        assert await (await double.enqueue(1)).result(timeout=5) == 4
    assert seen == ["before double {'n': 1}", "inner {'n': 2}", "after 4"]


def test_modules_with_further_tasks_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toril_more_tasks.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    Toril("sqlite://", imports=["toril_more_tasks"]).discover()
    assert sys.modules["toril_more_tasks"].LOADED
    with pytest.raises(ConfigError, match="names 'toril_nowhere', which cannot be imported"):
        Toril("sqlite://", imports=["toril_nowhere"]).discover()


def run(script: str) -> str:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=9)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_importing_toril_loads_neither_web_nor_terminal() -> None:
    script = """
        import sys
        import toril
        toril.Toril("sqlite://")
        heavy = {"fastapi", "starlette", "uvicorn", "jwt", "typer", "click", "rich", "redis", "hiredis", "sqlite3"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert run(script) == "[]"


def test_a_script_ends_without_closing_anything(tmp_path: Path) -> None:
    script = f"""
        from toril import Toril
        toril = Toril("sqlite:///{tmp_path}/toril.db")

        @toril.task
        def add(a: int, b: int) -> int:
            return a + b

        print(add.enqueue_sync(1, 2).queue)
    """
    assert run(script) == "default"


def test_a_process_can_be_a_worker_until_it_is_told_to_stop(tmp_path: Path) -> None:
    # S0-21
    script = f"""
        import os, signal
        from toril import Toril
        toril = Toril("sqlite:///{tmp_path}/toril.db")

        @toril.task
        async def last() -> None:
            print("ran")
            os.kill(os.getpid(), signal.SIGTERM)

        last.enqueue_sync()
        toril.close_sync()
        toril.run_worker(concurrency=1)
        print("stopped")
    """
    assert run(script).splitlines() == ["ran", "stopped"]


def test_every_error_has_one_root() -> None:
    assert issubclass(ConfigError, TorilError)
    assert (TorilError.code, UnknownTask.code) == ("toril_error", "unknown_task")
