"""What listeners get."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from toril.engine.ports.channels import Message
from toril.kernel import codec

M = TypeVar("M")


class ChannelMessage(NamedTuple, Generic[M]):
    """One message. `id` is what `subscribe(after=…)` takes to go on after it; `at` is wall time in milliseconds."""

    id: str
    data: M
    at: int


class ChannelResync(NamedTuple):
    """Messages are missing here: the listener was too slow, or came back after they had gone from the history. What
    follows comes after the message `id`. Look at the thing itself again, wherever it is stored.
    """

    id: str


class Arrived:
    """A message as it came from the store, shared by all listeners of a process; what it looks like on the way to a
    browser is made once.
    """

    __slots__ = ("_frame", "_frame_event", "_text", "_text_event", "at", "data", "id")

    def __init__(self, message: Message) -> None:
        self.id = message.id
        self.at = message.at
        self.data = message.data
        self._frame = b""
        self._text = ""
        self._frame_event = self._text_event = ""

    def frame(self, event: str) -> bytes:
        """The message as a server-sent event."""
        if self._frame_event != event:
            data = b"\ndata: ".join(self.data.splitlines() or [b""])
            self._frame = b"event: %b\nid: %b\ndata: %b\n\n" % (event.encode(), self.id.encode(), data)
            self._frame_event = event
        return self._frame

    def text(self, event: str) -> str:
        """The message as a JSON object: `id`, `event`, `at`, `data`."""
        if self._text_event != event:
            head = f'{{"id":"{self.id}","event":{codec.encode(event)},"at":{self.at},"data":'
            self._text = f"{head}{self.data.decode('utf-8', 'replace')}}}"
            self._text_event = event
        return self._text


def place(id: str) -> tuple[int, ...]:
    """Where an id stands in its channel, to compare. Raises ValueError for what is no id."""
    return tuple(int(part) for part in id.split("-"))
