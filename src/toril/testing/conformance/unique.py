"""Unique keys: one job for many calls."""

from __future__ import annotations

import asyncio

import pytest

from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import Added, CancelAnswer
from toril.jobs.model import NewJob
from toril.jobs.options import Keep
from toril.jobs.outcome import Cancelled, Done, Failed, Outcome, Released, Retry, Snooze
from toril.jobs.states import State
from toril.jobs.unique import UniqueKey, with_key
from toril.testing.conformance.stage import LOCK_MS, MINUTE, OWN, QUEUE, Cases, Stage, ids_of, job

PLAIN = UniqueKey("k")
WINDOW = UniqueKey("k", MINUTE)
REPLACE = UniqueKey("k", replace=True)
KEEP_LAST = UniqueKey("k", keep_last=True)


def unique(id: str, key: UniqueKey = PLAIN, *, data: str = "{}", delay_ms: int = 0, priority: int = 0) -> NewJob:
    """A job that wants a key."""
    made = job(id, data=data, opts=with_key(OWN, key), delay_ms=delay_ms, priority=priority)
    return made._replace(unique=key)


class UniqueCases(Cases):
    """`NewJob.unique`."""

    async def test_a_taken_key_answers_its_owner(self, stage: Stage) -> None:
        """Nothing is stored for the second call, and its answer is the first one's job."""  # A10
        assert await stage.add(unique("a", data='{"n":1}')) == Added(("a",), (True,))
        assert await stage.add(unique("b", data='{"n":2}')) == Added(("a",), (False,))
        assert (await stage.read("a")).data == '{"n":1}'
        assert (await stage.counts()).total == 1

    async def test_in_one_batch_the_first_wins(self, stage: Stage) -> None:
        """Jobs of one batch meet each other as those of several; others beside them are stored."""
        added = await stage.add(unique("a"), job("x"), unique("b"), unique("c", UniqueKey("other")))
        assert added == Added(("a", "x", "a", "c"), (True, True, False, True))
        assert await stage.line() == ["a", "x", "c"]

    async def test_a_repeated_batch_answers_the_same(self, stage: Stage) -> None:
        """Also when the key is free meanwhile, the answer to a repeated batch is the first one."""
        await stage.add(unique("a"))
        jobs = [job("x"), unique("b"), job("x"), unique("c", UniqueKey("other"))]
        first = await stage.jobs.add(QUEUE, jobs, batch="again", now=stage.now)
        assert first == Added(("x", "a", "x", "c"), (True, False, False, True))
        await stage.inspect.drain(QUEUE, delayed=True, now=stage.now)
        assert await stage.jobs.add(QUEUE, jobs, batch="again", now=stage.now) == first
        assert (await stage.counts()).total == 0

    async def test_a_stored_id_comes_before_the_key(self, stage: Stage) -> None:
        """A job whose id is there is left as it is, and takes no key."""
        await stage.add("a")
        assert await stage.add(unique("a")) == Added(("a",), (False,))
        assert await stage.add(unique("b")) == Added(("b",), (True,))

    async def test_keys_of_two_queues_are_two(self, stage: Stage) -> None:
        """A key holds in its queue alone."""
        await stage.add(unique("a"))
        assert (await stage.add(unique("b"), queue="other")).created == (True,)

    @pytest.mark.parametrize("text", ["", "a:b", "with space", "ключ", "x" * 250, '{"json":[1]}', "line\nbreak"])
    async def test_any_text_is_a_key(self, stage: Stage, text: str) -> None:
        """Keys are compared as they are."""
        key = UniqueKey(text)
        assert (await stage.add(unique("a", key), unique("b", UniqueKey(text + "."))))[1] == (True, True)
        assert await stage.add(unique("c", key)) == Added(("a",), (False,))

    @pytest.mark.parametrize("outcome", [Done("1"), Failed("no", ""), Cancelled("late", "ann")], ids=str)
    async def test_the_end_of_a_job_frees_its_key(self, stage: Stage, outcome: Outcome) -> None:
        """Completed, failed or cancelled: the next call is stored."""  # A10
        worker = stage.worker()
        await stage.add(unique("a"))
        await worker.take()
        assert (await stage.add(unique("b"))).created == (False,)
        await worker.end("a", outcome)
        assert await stage.add(unique("c")) == Added(("c",), (True,))

    @pytest.mark.parametrize(
        "outcome", [Retry("no", "", 0), Retry("no", "", MINUTE), Snooze(MINUTE), Released()], ids=str
    )
    async def test_a_job_that_comes_back_keeps_its_key(self, stage: Stage, outcome: Outcome) -> None:
        """The key is held for as long as the job may run again."""
        worker = stage.worker()
        await stage.add(unique("a"))
        await worker.take()
        await worker.end("a", outcome)
        assert await stage.add(unique("b")) == Added(("a",), (False,))

    async def test_a_stalled_job_keeps_its_key(self, stage: Stage) -> None:
        """A crash of the worker frees nothing; the failure that follows too many of them does."""  # A10
        worker = stage.worker()
        await stage.add(unique("a"))
        await worker.take()
        await stage.elapse(LOCK_MS + 1)
        assert (await stage.jobs.recover(QUEUE, max_stalls=0, now=stage.now)).condemned == ("a",)
        assert await stage.add(unique("b")) == Added(("a",), (False,))
        await worker.take()
        await worker.end("a", Failed("stalled", ""))
        assert (await stage.add(unique("c"))).created == (True,)

    @pytest.mark.parametrize("state", [State.WAITING, State.PRIORITIZED, State.DELAYED])
    async def test_cancelling_frees_the_key(self, stage: Stage, state: State) -> None:
        """A job that will not run holds no key, and its late end takes none away from the next."""  # A10
        await stage.add(
            unique("a", delay_ms=MINUTE * (state is State.DELAYED), priority=int(state is State.PRIORITIZED))
        )
        assert await stage.jobs.cancel(QUEUE, "a", by="", reason="", now=stage.now) is CancelAnswer.CANCELLED
        assert await stage.add(unique("b")) == Added(("b",), (True,))
        worker = stage.worker()
        for taken in await worker.take(2):
            if taken.deferred_failure is not None:
                await worker.end(taken.id, Cancelled("", ""))
        assert await stage.add(unique("c")) == Added(("b",), (False,))

    async def test_deleting_frees_the_key(self, stage: Stage) -> None:
        """Removed, drained, cleaned, obliterated: the key is free, also one that a window held."""  # A10
        for number, key in enumerate((PLAIN, WINDOW)):
            id_ = f"a{number}"
            await stage.add(unique(id_, key))
            assert await stage.inspect.remove(QUEUE, [id_], now=stage.now) == (Changed.OK,)
            assert (await stage.add(unique(id_, key, delay_ms=MINUTE))).created == (True,)
            assert await stage.inspect.drain(QUEUE, delayed=True, now=stage.now) == 1
            assert (await stage.add(unique(id_, key))).created == (True,)
            await stage.elapse(10)
            assert await stage.inspect.clean(QUEUE, State.WAITING, before=stage.now, now=stage.now) == 1
            assert (await stage.add(unique(id_, key))).created == (True,)
            while not await stage.inspect.obliterate(QUEUE, force=True, now=stage.now):
                pass
            assert (await stage.add(unique(id_, key))).created == (True,)
            await stage.inspect.resume(QUEUE, now=stage.now)
            await stage.inspect.remove(QUEUE, [id_], now=stage.now)

    async def test_cleaning_finished_jobs_frees_their_windows(self, stage: Stage) -> None:
        """What an operator deletes is forgotten, with the key that a window still held."""
        worker = stage.worker()
        await stage.add(unique("a", WINDOW))
        await worker.take()
        await worker.end("a", Done("1"))
        assert await stage.inspect.clean(QUEUE, State.COMPLETED, before=stage.now, now=stage.now) == 1
        assert (await stage.add(unique("b", WINDOW))).created == (True,)

    async def test_a_window_outlives_its_job(self, stage: Stage) -> None:
        """For the window a call finds the key taken, ended or not; then it is free."""  # A10
        worker = stage.worker()
        await stage.add(unique("a", WINDOW))
        await worker.take()
        await worker.end("a", Done("1"))
        await stage.elapse(MINUTE - 1000)
        assert await stage.add(unique("b", WINDOW)) == Added(("a",), (False,))
        await stage.elapse(1001)
        assert await stage.add(unique("c", WINDOW)) == Added(("c",), (True,))

    async def test_a_window_outlives_what_retention_deletes(self, stage: Stage) -> None:
        """A job that is not kept after its end does not shorten its window."""
        worker = stage.worker()
        await stage.add(unique("a", WINDOW))
        await worker.take()
        await worker.end("a", Done("1"), keep=Keep(None, 0))
        assert await stage.state("a") is None
        assert await stage.add(unique("b", WINDOW)) == Added(("a",), (False,))

    async def test_a_window_frees_a_job_that_waits_longer(self, stage: Stage) -> None:
        """When the window is over another job may be stored, although the first has not run."""
        await stage.add(unique("a", WINDOW))
        await stage.elapse(MINUTE + 1)
        assert await stage.add(unique("b", WINDOW)) == Added(("b",), (True,))
        worker = stage.worker()
        assert ids_of(await worker.take(2)) == ["a", "b"]
        await worker.end("a", Done("1"))
        assert await stage.add(unique("c", WINDOW)) == Added(("b",), (False,))

    async def test_extend_starts_the_window_anew(self, stage: Stage) -> None:
        """With `extend` every call that finds the key taken prolongs it; without, none does."""
        longer = UniqueKey("long", MINUTE, extend=True)
        await stage.add(unique("a", longer), unique("b", WINDOW))
        await stage.elapse(MINUTE - 1000)
        await stage.add(unique("c", longer), unique("d", WINDOW))
        await stage.elapse(2000)
        added = await stage.add(unique("e", longer), unique("f", WINDOW))
        assert added == Added(("a", "f"), (False, True))

    async def test_replace_takes_the_place_of_a_delayed_job(self, stage: Stage) -> None:
        """The new call runs with its own arguments and delay, the old one is gone."""  # A10
        await stage.add(unique("a", REPLACE, data='{"n":1}', delay_ms=1000))
        await stage.elapse(900)
        tail = await stage.bus.tail(QUEUE)
        assert await stage.add(unique("b", REPLACE, data='{"n":2}', delay_ms=1000)) == Added(("b",), (True,))
        assert [(kind, id_) for kind, id_ in await stage.told(tail)] == [("removed", "a"), ("delayed", "b")]
        assert await stage.state("a") is None
        await stage.elapse(900)
        assert await stage.worker().take() == ()
        await stage.elapse(100)
        [taken] = await stage.worker().take()
        assert (taken.id, taken.data) == ("b", '{"n":2}')

    async def test_replace_leaves_what_is_not_delayed(self, stage: Stage) -> None:
        """A job in line or running stands for the call."""
        await stage.add(unique("a", REPLACE))
        assert await stage.add(unique("b", REPLACE, delay_ms=5)) == Added(("a",), (False,))
        await stage.worker().take()
        assert await stage.add(unique("c", REPLACE, delay_ms=5)) == Added(("a",), (False,))

    async def test_replace_keeps_the_window_unless_it_is_extended(self, stage: Stage) -> None:
        """The window of a replaced job goes on; with `extend` it starts anew."""
        debounce = UniqueKey("d", MINUTE, extend=True, replace=True)
        plain = UniqueKey("p", MINUTE, replace=True)
        later = 10 * MINUTE
        await stage.add(unique("a", debounce, delay_ms=later), unique("b", plain, delay_ms=later))
        await stage.elapse(MINUTE - 1000)
        await stage.add(unique("c", debounce, delay_ms=later), unique("d", plain, delay_ms=later))
        assert sorted(await stage.ids(State.DELAYED)) == ["c", "d"]
        await stage.elapse(2000)
        await stage.add(unique("e", debounce, delay_ms=later), unique("f", plain, delay_ms=later))
        assert sorted(await stage.ids(State.DELAYED)) == ["d", "e", "f"]

    async def test_the_last_call_during_a_run_is_kept(self, stage: Stage) -> None:
        """Of the calls that come while the job runs the last becomes a job when it ends, with the key."""  # A10
        worker = stage.worker()
        await stage.add(unique("a", KEEP_LAST))
        assert await stage.add(unique("early", KEEP_LAST)) == Added(("a",), (False,))
        await worker.take()
        for id_, data in (("b", '{"n":1}'), ("c", '{"n":2}')):
            assert await stage.add(unique(id_, KEEP_LAST, data=data)) == Added(("a",), (False,))
        await worker.end("a", Done("1"))
        assert await stage.line() == ["c"]
        assert (await stage.read("c")).data == '{"n":2}'
        assert await stage.add(unique("d", KEEP_LAST)) == Added(("c",), (False,))
        assert ids_of(await worker.take()) == ["c"]
        await worker.end("c", Done("1"))
        assert await stage.line() == []
        assert (await stage.add(unique("e", KEEP_LAST))).created == (True,)

    async def test_a_kept_call_waits_for_the_last_attempt(self, stage: Stage) -> None:
        """A retry is no end: the kept call follows when the job has ended, with its own delay and priority."""
        worker = stage.worker()
        await stage.add(unique("a", KEEP_LAST))
        await worker.take()
        await stage.add(unique("b", KEEP_LAST, delay_ms=1000)._replace(opts=_with(KEEP_LAST, delay=1000)))
        await worker.end("a", Retry("no", "", 0))
        assert await stage.line() == ["a"]
        await worker.take()
        await worker.end("a", Failed("no", ""))
        assert await stage.ids(State.DELAYED) == ["b"]
        await stage.elapse(1000)
        assert ids_of(await worker.take()) == ["b"]

    async def test_a_kept_call_goes_with_its_key(self, stage: Stage) -> None:
        """When the running job's queue is obliterated, nothing comes after it."""
        worker = stage.worker()
        await stage.add(unique("a", KEEP_LAST))
        await worker.take()
        await stage.add(unique("b", KEEP_LAST))
        while not await stage.inspect.obliterate(QUEUE, force=True, now=stage.now):
            pass
        await stage.inspect.resume(QUEUE, now=stage.now)
        await worker.end("a", Done("1"))
        assert await stage.add(unique("c", KEEP_LAST)) == Added(("c",), (True,))
        assert await stage.line() == ["c"]

    async def test_many_at_once_make_one_job(self, stage: Stage) -> None:
        """A hundred calls at the same time: one job, and everybody gets its id."""  # A10
        calls = [stage.jobs.add(QUEUE, [unique(f"j{n}")], batch=f"b{n}", now=stage.now) for n in range(100)]
        answers = await asyncio.gather(*calls)
        [owner] = {answer.ids[0] for answer in answers}
        assert sum(answer.created[0] for answer in answers) == 1
        assert await stage.line() == [owner]


def _with(key: UniqueKey, *, delay: int) -> str:
    return with_key(f'{{"attempts":3,"delay":{delay},"toril":{{"v":1}}}}', key)
