"""Bytes in, replies out, in order: whatever the boundaries, the cancellations and the errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril.engine.redis.replies import Moved, ReplyError, reply_error
from toril.engine.redis.wire import Call, Wire, encode


class Pipe(asyncio.Transport):
    """Stands for the socket: keeps what is written."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False
        self._wire = wire

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            self._wire.connection_lost(None)


class Owner:
    """Keeps what the wire tells."""

    def __init__(self) -> None:
        self.pushes: list[Any] = []
        self.reasons: list[str] = []
        self.broken = False

    def refused(self, wire: Wire, call: Call, error: ReplyError) -> bool:
        return False

    def pushed(self, message: list[Any]) -> None:
        self.pushes.append(message)
        if self.broken:
            raise LookupError("a listener's bug")

    def writable(self, wire: Wire) -> None:
        pass

    def lost(self, wire: Wire) -> None:
        self.reasons.append(wire.reason)


class Bench:
    """A wire between a pipe and an owner, in a loop that need not run."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.owner = Owner()
        self.wire = Wire(self.owner, self.loop)
        self.pipe = Pipe(self.wire)
        self.wire.connection_made(self.pipe)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.close()

    def ask(self, *commands: tuple[bytes, ...]) -> list[asyncio.Future[Any]]:
        calls: list[Call] = [(self.loop.create_future(), encode(command), 0.0, False) for command in commands]
        self.wire.send(calls, 0.0)
        return [call[0] for call in calls]

    def receive(self, data: bytes) -> None:
        while data:
            buffer = self.wire.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.wire.buffer_updated(size)
            data = data[size:]


def encoded(value: Any) -> bytes:
    match value:
        case None:
            return b"_\r\n"
        case bool():
            return b"#t\r\n" if value else b"#f\r\n"
        case int():
            return b":%d\r\n" % value
        case float():
            return b",%b\r\n" % repr(value).encode()
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case str():
            return b"-%b\r\n" % value.encode()
        case list():
            return b"*%d\r\n" % len(value) + b"".join(map(encoded, value))
        case dict():
            return b"%%%d\r\n" % len(value) + b"".join(encoded(key) + encoded(item) for key, item in value.items())
    raise TypeError(value)


def outcome(future: asyncio.Future[Any]) -> Any:
    error = future.exception()
    return str(error) if error is not None else future.result()


plain = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40), st.floats(-1e9, 1e9)
)
values = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.binary(max_size=6), inner, max_size=3)),
    max_leaves=12,
)
errors = st.sampled_from(["ERR no", "NOSCRIPT No matching script.", "WRONGTYPE x"])
replies = st.lists(st.one_of(values, errors), min_size=1, max_size=12)


@given(replies=replies, data=st.data())
def test_replies_survive_any_boundaries_and_cancellations(replies: list[Any], data: st.DataObject) -> None:
    stream = b"".join(map(encoded, replies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    cancelled = data.draw(st.sets(st.integers(0, len(replies) - 1)))
    with Bench() as bench:
        futures = bench.ask(*[(b"GET", b"%d" % n) for n in range(len(replies))])
        for number in cancelled:
            futures[number].cancel()
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            bench.receive(stream[start:end])
        kept = [n for n in range(len(replies)) if n not in cancelled]
        assert [outcome(futures[n]) for n in kept] == [replies[n] for n in kept]
        assert not bench.wire.pending
        assert not bench.pipe.aborted


def test_replies_survive_every_cut() -> None:
    expected: list[Any] = [b"a\r\nb", 7, None, [1, [b"x", {b"k": [b""]}]], "ERR no", b"", True, 1.5]
    stream = b"".join(map(encoded, expected))
    for cut in range(len(stream) + 1):
        with Bench() as bench:
            futures = bench.ask(*[(b"GET",)] * len(expected))
            bench.receive(stream[:cut])
            bench.receive(stream[cut:])
            assert [outcome(future) for future in futures] == expected, cut
    with Bench() as bench:
        futures = bench.ask(*[(b"GET",)] * len(expected))
        for at in range(len(stream)):
            bench.receive(stream[at : at + 1])
        assert [outcome(future) for future in futures] == expected


def test_a_reply_larger_than_the_buffer() -> None:
    with Bench() as bench:
        large, small = bench.ask((b"GET", b"large"), (b"GET", b"small"))
        bench.receive(encoded(b"x" * 1_000_000) + encoded(b"y"))
        assert len(large.result()) == 1_000_000
        assert small.result() == b"y"


def test_calls_are_written_joined_and_those_given_up_are_not() -> None:
    with Bench() as bench:
        calls: list[Call] = [(bench.loop.create_future(), encode((b"GET", key)), 0.0, False) for key in (b"a", b"b")]
        calls[0][0].cancel()
        gone, here = calls
        bench.wire.send([gone, here, here], 0.0)
        assert bench.pipe.written == [encode((b"GET", b"b")) * 2]
        bench.wire.send([gone], 0.0)
        assert len(bench.pipe.written) == 1


@pytest.mark.parametrize(
    ("sent", "reason"), [(b"+OK\r\n+OK\r\n", "nothing had asked for"), (b"HTTP/1.1 400\r\n", "does not speak RESP")]
)
def test_a_peer_that_makes_no_sense_is_dropped(sent: bytes, reason: str) -> None:
    with Bench() as bench:
        bench.ask((b"PING",))
        bench.receive(sent)
        assert bench.pipe.aborted
        assert reason in bench.owner.reasons[0]
        assert bench.wire.gone.done()


def test_push_messages_do_not_shift_replies() -> None:
    push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
    with Bench() as bench:
        bench.owner.broken = True
        first, second = bench.ask((b"GET", b"a"), (b"GET", b"b"))
        bench.receive(push + encoded(b"1") + push + push + encoded(b"2") + push)
        assert (first.result(), second.result()) == (b"1", b"2")
        assert bench.owner.pushes == [[b"invalidate", [b"k"]]] * 4


def test_subscribing_is_answered_by_its_last_confirmation() -> None:
    def confirmed(kind: bytes, name: bytes, number: int) -> bytes:
        return b">3\r\n" + encoded(kind) + encoded(name) + encoded(number)

    with Bench() as bench:
        before, subscribe, denied, leave, after = bench.ask(
            (b"GET", b"a"), (b"SUBSCRIBE", b"x", b"y"), (b"SUBSCRIBE", b"z"), (b"unsubscribe", b"x"), (b"GET", b"b")
        )
        # The server itself may end a subscription at any time: nobody has asked for that one.
        bench.receive(confirmed(b"sunsubscribe", b"s", 0) + encoded(b"1") + confirmed(b"subscribe", b"x", 1))
        assert before.done()
        assert not subscribe.done()
        bench.receive(confirmed(b"subscribe", b"y", 2))
        assert subscribe.done()
        bench.receive(encoded("NOPERM no such channel") + confirmed(b"unsubscribe", b"x", 1) + encoded(b"2"))
        assert isinstance(denied.exception(), ReplyError)
        assert leave.done()
        assert after.result() == b"2"


def test_a_retiring_wire_ends_when_all_is_answered() -> None:
    with Bench() as bench:
        first, second = bench.ask((b"GET",), (b"GET",))
        bench.wire.retire("READONLY")
        bench.receive(encoded(1))
        assert bench.owner.reasons == []
        bench.receive(encoded(2))
        assert bench.owner.reasons == ["READONLY"]
        assert (first.result(), second.result()) == (1, 2)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("NOSCRIPT No matching script. Please use EVAL.", "NOSCRIPT"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("lower case", "ERR"),
        ("", "ERR"),
        ("READONLY You can't write against a read only replica.", "READONLY"),
        ("ERR Error running script (call to f_ab): @user_script:1: -READONLY You can't write.", "READONLY"),
        ("ERR Error running script (call to f_ab): @user_script:1: -WRONGTYPE no", "ERR"),
        ("MOVED nonsense", "MOVED"),
    ],
)
def test_error_replies_are_told_apart(text: str, code: str) -> None:
    error = reply_error(text)
    assert (error.code, error.message, str(error)) == (code, text, text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("MOVED 3999 127.0.0.1:6381", ("MOVED", 3999, "127.0.0.1", 6381)),
        ("ASK 1 ::1:6381", ("ASK", 1, "::1", 6381)),
        ("MOVED 1 :6381", ("MOVED", 1, "", 6381)),
    ],
)
def test_a_redirection_says_where_to(text: str, place: tuple[str, int, str, int]) -> None:
    error = reply_error(text)
    assert isinstance(error, Moved)
    assert (error.code, error.slot, error.host, error.port) == place
