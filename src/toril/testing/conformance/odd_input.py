"""What people really send."""

from __future__ import annotations

import json

import pytest

from toril.engine.ports.jobs import Code, LogLine, Progress
from toril.errors import PayloadError
from toril.jobs.outcome import Cancelled, Done, Failed
from toril.jobs.states import State
from toril.testing.conformance.stage import OWN, QUEUE, Cases, Stage, ids_of, job

TEXTS = (
    "",
    " ",
    "plain",
    'it\'s "quoted" `so`',
    "'; DROP TABLE jobs; --",
    "ünïcödé 漢字 עברית 😀 \U0010ffff",
    "a\nb\r\nc\td",
    "\u2028\u2029\ufeff\u202e",
    "%s {0} $1 :name ?1 \\x00 \\",
    "\x01\x1f\x7f",
)


class OddInputCases(Cases):
    """Text of every kind, huge and empty values, long lines."""

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    async def test_text_comes_back_as_it_was(self, stage: Stage, text: str) -> None:
        """In names, data, results, reasons, stack traces, log lines and requests."""
        data = json.dumps({"text": text}, ensure_ascii=False)
        await stage.add(job("a", name=text or "work", data=data))
        worker = stage.worker("w" + text)
        [taken] = await worker.take()
        assert (taken.name, taken.data) == (text or "work", data)
        token = worker.tokens["a"]
        await stage.jobs.report(QUEUE, [Progress("a", token, data, stage.now)], [LogLine("a", token, text, stage.now)])
        await worker.end("a", Failed("r" + text, "s" + text))
        stored = await stage.read("a")
        assert (stored.data, stored.worker, stored.failed_reason) == (data, "w" + text, "r" + text)
        assert (stored.stacktrace, stored.progress) == (("s" + text,), {"text": text})
        assert stored.history[0].error == "r" + text
        assert (await stage.inspect.logs(QUEUE, "a")).lines == (text,)
        await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        await worker.take()
        await worker.end("a", Done(data))
        assert (await stage.read("a")).result == data

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    async def test_who_cancelled_is_any_text(self, stage: Stage, text: str) -> None:
        """So is the reason."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.jobs.cancel(QUEUE, "a", by=text, reason=text, now=stage.now)
        [told] = (await worker.exchange()).cancelled
        assert (told.request.by, told.request.reason) == (text, text)
        await worker.end("a", Cancelled(text, text))
        stored = await stage.read("a")
        assert stored.cancel is not None
        assert (stored.cancel.by, stored.cancel.reason) == (text, text)
        assert stored.failed_reason == (f"cancelled: {text}" if text else "cancelled")

    @pytest.mark.parametrize("queue", ["docs", "Docs", "a b", "ünï-漢字", "it's", "50%_off", "q" * 200, "{tag}", "*"])
    async def test_queues_have_any_name(self, stage: Stage, queue: str) -> None:
        """A queue's name means nothing but itself."""
        await stage.add("a", queue=queue)
        await stage.add("b", queue="other")
        assert ids_of(await stage.worker(queue=queue).take(9)) == ["a"]
        assert queue in [each.name for each in await stage.inspect.queues()]
        assert (await stage.inspect.counts(queue)).active == 1

    @pytest.mark.parametrize("id", ["1", "A", "a-b_c", "j" * 64, "0123456789", "count", "null"])
    async def test_ids_of_other_producers(self, stage: Stage, id: str) -> None:
        """Any id that a producer may choose finds its job, whatever it looks like."""
        await stage.add(job(id), "other")
        assert (await stage.read(id)).id == id
        assert ids_of(await stage.worker().take()) == [id]

    async def test_ids_are_case_sensitive(self, stage: Stage) -> None:
        """`a` and `A` are two jobs."""
        assert (await stage.add("a", "A")).created == (True, True)

    @pytest.mark.parametrize("size", [64 * 1024, 1024 * 1024])
    async def test_huge_values(self, stage: Stage, size: int) -> None:
        """A mebibyte of data and of result comes back whole."""
        data = json.dumps({"blob": "é" * (size // 2)}, ensure_ascii=False)
        await stage.add(job("a", data=data))
        worker = stage.worker()
        [taken] = await worker.take()
        assert taken.data == data
        assert await worker.end("a", Done(data)) is Code.OK
        assert (await stage.read("a")).result == data

    @pytest.mark.parametrize("data", ["{}", "null", "", "[]", "not json at all", '{"a":1', "1e400"])
    async def test_data_of_other_producers(self, stage: Stage, data: str) -> None:
        """Whether data makes sense is for the task to say; an engine keeps and hands on what it was given."""
        await stage.add(job("a", data=data))
        [taken] = await stage.worker().take()
        assert taken.data == data
        assert (await stage.read("a")).data == data

    @pytest.mark.parametrize("opts", ["{}", '{"attempts":"many"}', '{"toril":7}', '{"priority":5,"delay":99999}'])
    async def test_options_of_other_producers(self, stage: Stage, opts: str) -> None:
        """Options are kept as they are; what decides about the line was handed in beside them."""
        await stage.add(job("a", opts=opts), job("b", opts=OWN))
        assert [(each.id, each.opts) for each in await stage.worker().take(2)] == [("a", opts), ("b", OWN)]
        assert ids_of((await stage.inspect.list(QUEUE, [State.ACTIVE], owner="ann")).jobs) == []

    async def test_a_nul_is_refused_or_kept(self, stage: Stage) -> None:
        """No text is cut off silently at a NUL character."""
        data = '{"a":"x\0y"}'
        try:
            await stage.add(job("a", data=data))
        except (PayloadError, ValueError):
            assert (await stage.counts()).total == 0
            return
        [taken] = await stage.worker().take()
        assert taken.data == data
        assert (await stage.read("a")).data == data

    async def test_ten_thousand_jobs(self, stage: Stage) -> None:
        """One batch of ten thousand is stored whole and in order."""
        names = [f"j{number}" for number in range(10_000)]
        added = await stage.add(*(job(name) for name in names))
        assert added.created == (True,) * 10_000
        assert (await stage.counts()).waiting == 10_000
        assert await stage.line() == names

    async def test_a_text_that_cannot_be_stored_harms_nobody(self, stage: Stage) -> None:
        """A lone surrogate in a reason, a name or a log line neither breaks the call nor the store."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.add("b")
        await worker.take()
        token = worker.tokens["a"]
        await stage.jobs.report(QUEUE, [], [LogLine("a", token, "x\ud800y", stage.now)])
        answer = await worker.exchange(worker.ended("a", Failed("x\ud800y", "s\ud800")), worker.ended("b", Done("1")))
        assert answer.applied[1] is Code.OK
        assert answer.applied[0] in {Code.OK, Code.BROKEN}
        assert (await stage.counts()).completed == 1
