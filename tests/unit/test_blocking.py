"""Synchronous code calls asynchronous code through a thread of its own."""

import asyncio
import threading
import warnings
from concurrent.futures import CancelledError

import pytest

from toril.errors import ConfigError
from toril.kernel.blocking import BlockingLoop


async def where() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_coroutines_run_in_one_thread() -> None:
    loop = BlockingLoop("toril-test")
    try:
        assert {loop.run(where) for _ in range(3)} == {"toril-test"}
    finally:
        loop.close()
    assert "toril-test" not in {thread.name for thread in threading.enumerate()}


def test_errors_come_back_and_the_loop_lives_on() -> None:
    loop = BlockingLoop()

    async def fail() -> None:
        raise LookupError("no")

    try:
        with pytest.raises(LookupError, match="no"):
            loop.run(fail)
        assert loop.run(where) == "toril-blocking"
    finally:
        loop.close()


def test_many_threads_may_call_at_once() -> None:
    loop = BlockingLoop()
    both = threading.Barrier(2)
    answers: list[str] = []

    async def meet() -> str:
        await asyncio.to_thread(both.wait, 5)
        return "met"

    threads = [threading.Thread(target=lambda: answers.append(loop.run(meet))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loop.close()
    assert answers == ["met", "met"]


async def test_inside_a_loop_it_works_and_warns_once() -> None:
    loop = BlockingLoop()
    try:
        with pytest.warns(RuntimeWarning, match="inside a running event loop") as said:
            assert loop.run(where) == "toril-blocking"
        assert len(said) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loop.run(where)
    finally:
        loop.close()


def test_waiting_for_itself_is_refused() -> None:
    loop = BlockingLoop()

    async def nested() -> str:
        return loop.run(where)

    try:
        with pytest.raises(ConfigError, match="own loop thread"):
            loop.run(nested)
    finally:
        loop.close()


def test_close_cancels_what_runs_and_allows_another_start() -> None:
    loop = BlockingLoop()
    begun, cancelled = threading.Event(), threading.Event()

    async def forever() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def work() -> None:
        with pytest.raises(CancelledError):
            loop.run(forever)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(5)
    loop.close()
    thread.join(5)
    assert cancelled.is_set()
    loop.close()
    assert loop.run(where) == "toril-blocking"
    loop.close()


def test_a_forked_child_gets_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = BlockingLoop()
    parent = loop.run(ident)
    parents_loop, parents_thread = loop._loop, loop._thread
    assert parents_loop is not None
    assert parents_thread is not None
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert loop.run(ident) != parent
    loop.close()
    parents_loop.call_soon_threadsafe(parents_loop.stop)
    parents_thread.join(5)


async def ident() -> int:
    return threading.get_ident()
