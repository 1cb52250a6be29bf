"""`Channel`: a named stream of typed messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from toril.errors import ConfigError, InvalidArguments, PayloadTooLarge
from toril.kernel import codec
from toril.kernel.durations import Duration, milliseconds
from toril.realtime.messages import Arrived, ChannelMessage, ChannelResync
from toril.realtime.name import ChannelName, Value
from toril.realtime.reader import Reader
from toril.realtime.realtime import Realtime
from toril.settings import RealtimeSettings

M = TypeVar("M")

_log = logging.getLogger("toril.realtime")
_WAIT_S = 3600.0

OWN_EVENTS = ("resync", "problem", "heartbeat")
"""What streams say of themselves; no channel's messages are called so."""


class Channel(Generic[M]):
    """A named stream of messages of one type; made by `toril.channel`.

    A name may have fields, as `"code-gen:{job_id}"`; `of` fills them in. `history` is how many messages are kept for
    those who come back, `ttl` how long after the last one. `event` is what server-sent events of it are called.
    """

    def __init__(
        self,
        realtime: Realtime,
        name: ChannelName,
        adapter: TypeAdapter[Any],
        *,
        event: str,
        history: int,
        ttl: Duration,
        presence: bool,
        values: dict[str, Value] | None = None,
    ) -> None:
        if isinstance(history, bool) or not isinstance(history, int) or history < 1:
            raise ConfigError(f"channel {name.template!r}: history: expected a number from 1 on, got {history!r}.")
        if not event or any(mark in event for mark in "\r\n") or event in OWN_EVENTS:
            raise ConfigError(
                f"channel {name.template!r}: event: expected one line of text other than {', '.join(OWN_EVENTS)}, "
                f"got {event!r}."
            )
        self._realtime = realtime
        self._template = name
        self._adapter = adapter
        self._is_untyped = adapter.core_schema["type"] == "any"
        self._history = history
        self._ttl_ms = milliseconds(ttl, f"channel {name.template!r}: ttl")
        if self._ttl_ms < 1:
            raise ConfigError(f"channel {name.template!r}: ttl: expected more than 0, got {ttl!r}.")
        self._presence = presence
        self.event = event
        self._values = values
        self._name = name.filled(values) if values is not None else None if name.fields else name.filled({})

    def __repr__(self) -> str:
        return f"<Channel {self._name or self._template.template}>"

    @property
    def name(self) -> str:
        """The name, with its fields filled in. Raises ConfigError while they are not."""
        if self._name is None:
            fields = ", ".join(f"{field}=…" for field in self._template.fields)
            raise ConfigError(f"channel {self._template.template!r} has fields: use .of({fields}) first.")
        return self._name

    @property
    def settings(self) -> RealtimeSettings:
        """What holds for all channels of the application."""
        return self._realtime.settings

    @property
    def template(self) -> str:
        """The name as it was declared."""
        return self._template.template

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the name, in order."""
        return self._template.fields

    def of(self, **values: Value) -> Channel[M]:
        """The channel whose name has these values in its fields. Raises ConfigError for missing or unknown ones."""
        return Channel(
            self._realtime,
            self._template,
            self._adapter,
            event=self.event,
            history=self._history,
            ttl=self._ttl_ms / 1000,
            presence=self._presence,
            values=values,
        )

    async def publish(self, message: M) -> str:
        """Tell everybody who listens, and answer the message's id.

        Raises InvalidArguments for what does not fit the channel's type, PayloadTooLarge, EngineUnavailable.
        """
        [id_] = await self._publish([self._encoded(message)])
        return id_

    async def publish_many(self, messages: Sequence[M]) -> tuple[str, ...]:
        """`publish` several at once, all or none."""
        return await self._publish([self._encoded(message) for message in messages])

    def publish_sync(self, message: M) -> str:
        """`publish` for synchronous code; blocks."""
        return self._realtime.blocking.run(lambda: self.publish(message))

    def subscribe(self, *, after: str | None = None) -> Subscription[M]:
        """Listen: from now on, or, with the id of a message, to everything after it (`"0"`: all that is kept).

            async with channel.subscribe() as messages:
                async for message in messages: ...

        What comes is `ChannelMessage`, or `ChannelResync` where messages are missing. Nothing is missed from the moment
        the block is entered, or the first message is asked for. Iterating raises EngineUnavailable when the store is
        away at the beginning, ConfigError for an `after` that is no id of it, and EngineClosed when it is closed; when
        it goes away later, listening goes on when it is back.
        """
        return Subscription(self, after)

    async def presence(self) -> int:
        """How many listen at present, over all processes. Raises ConfigError unless the channel counts
        (`presence=True`), EngineUnavailable.
        """
        if not self._presence:
            raise ConfigError(f"channel {self.template!r}: declare it with presence=True to count who listens.")
        return await self._realtime.present(self.name)

    async def reader(self, after: str | None) -> Reader:
        """A started reader, for what passes messages on as they are. Raises as `subscribe`."""
        return await self._realtime.reader(self.name, after, presence=self._presence)

    def decoded(self, arrived: Arrived) -> ChannelMessage[M] | None:
        """The message in its type; None, with a line in the log, for one that does not fit."""
        try:
            return ChannelMessage(arrived.id, self._adapter.validate_json(arrived.data), arrived.at)
        except ValidationError as error:
            _log.warning("Message %s of channel %s does not fit its type: %s", arrived.id, self.name, error)
            return None

    def _encoded(self, message: M) -> bytes:
        try:
            # JSON has no NaN: what takes everything must refuse it, what has a type is read again and does.
            data = codec.encode(message).encode() if self._is_untyped else self._dumped(message)
        except (ValidationError, ValueError) as error:
            raise InvalidArguments(f"channel {self.template!r}: the message does not fit: {error}") from None
        if len(data) > self._realtime.settings.message_limit:
            raise PayloadTooLarge(
                f"channel {self.template!r}: expected a message of at most {self._realtime.settings.message_limit} "
                f"bytes, got {len(data)}. Store it elsewhere and publish where, or raise TORIL_REALTIME_MESSAGE_LIMIT."
            )
        return data

    def _dumped(self, message: M) -> bytes:
        data = self._adapter.dump_json(self._adapter.validate_python(message))
        self._adapter.validate_json(data)
        return data

    async def _publish(self, messages: list[bytes]) -> tuple[str, ...]:
        return await self._realtime.publish(self.name, messages, keep=self._history, ttl_ms=self._ttl_ms)


class Subscription(Generic[M]):
    """Messages of a channel as they come; an async iterator for one task. Leave it with `async with` or `close`."""

    def __init__(self, channel: Channel[M], after: str | None) -> None:
        self._channel = channel
        self._after = after
        self._reader: Reader | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._taken: list[Arrived | ChannelResync] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChannelMessage[M] | ChannelResync:
        while not self._closed:
            while self._taken:
                taken = self._taken.pop()
                message = taken if isinstance(taken, ChannelResync) else self._channel.decoded(taken)
                if message is not None:
                    return message
            reader = await self._started()
            self._taken = list(reversed(await reader.take(_WAIT_S)))
        raise StopAsyncIteration

    def close(self) -> None:
        """Listen no longer. Closing twice is once."""
        self._closed = True
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __del__(self) -> None:
        # Left without a word: the collector may run in any thread.
        if self._reader is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._reader.close)

    async def _started(self) -> Reader:
        if self._reader is None:
            self._loop = asyncio.get_running_loop()
            self._reader = await self._channel.reader(self._after)
        return self._reader
