"""`Breaker`: calls to one thing that may fail. While it is closed nothing is asked of a store."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from toril.breaker.deadlines import Deadlines, Entry, was_stopped
from toril.breaker.rules import Rules, patch_of
from toril.breaker.shared import Shared
from toril.breaker.stats import BreakerStats
from toril.errors import BreakerOpen, CallTimeout
from toril.kernel.durations import human

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F")

_log = logging.getLogger("toril.breaker")
_NONE: Any = object()


class Ticket:
    """One call that was let through. `token` is set for a probe."""

    __slots__ = ("began", "entry", "token")

    def __init__(self, began: float, token: str | None, entry: Entry | None = None) -> None:
        self.began = began
        self.token = token
        self.entry = entry


class Breaker:
    """Made by `toril.breaker(…)`. Use it as `await breaker.call(function, …)`, as `async with breaker:`, or as a
    decorator `@breaker`; each has its synchronous form.

    A call that raises, or takes longer than the timeout, is a failure, unless the error is one of `ignore`. Cancelled
    calls count neither way.
    """

    def __init__(self, shared: Shared, *, group: str, ignore: tuple[type[BaseException], ...]) -> None:
        self.name = shared.name
        self.group = group
        self._shared = shared
        self.ignore = ignore
        self._window = shared.window
        self._deadlines: Deadlines | None = None
        self._entered: dict[object, list[Ticket]] = {}
        self._lock = threading.Lock()
        self.rejected = 0
        self.timeouts = 0
        self.fallbacks = 0

    def __repr__(self) -> str:
        return f"<Breaker {self.name!r}: {self.state}>"

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`, as this process knows it."""
        return self._shared.state

    @property
    def opened(self) -> bool:
        """True while calls are refused."""
        return self._shared.state == "open"

    @property
    def rules(self) -> Rules:
        """What holds at present: what was declared, with what was changed while it runs."""
        return self._shared.rules

    @property
    def stats(self) -> BreakerStats:
        """What this process has seen of it, and what it knows of the shared state."""
        return self._shared.stats(
            group=self.group, rejected=self.rejected, timeouts=self.timeouts, fallbacks=self.fallbacks
        )

    async def call(
        self, function: Callable[..., Awaitable[R]], /, *args: Any, fallback: Any = _NONE, **kwargs: Any
    ) -> R:
        """Call an async function through the breaker.

        `fallback` is what is answered instead when the call is refused, fails or is late: a value, or a function that
        gets the same arguments. Raises BreakerOpen, CallTimeout, and what the function raises.
        """
        shared, window = self._shared, self._window
        if shared.is_gated:
            return cast(R, await self._called(function, args, kwargs, fallback))
        # The way of nearly every call: written out, because each step on it would be paid for by all of them.
        began = monotonic()
        if began >= window.ends:
            window.turn(began)
        if began >= shared.look_at:
            shared.look(began)
        entry = None if shared.timeout_s is None else self._limited(shared.timeout_s, began)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised again, unless there is a fallback
            return cast(R, await self._went_badly(Ticket(began, None, entry), error, args, kwargs, fallback))
        if entry is not None:
            entry.task = None
        window.calls += 1
        if shared.slow_s is not None and monotonic() - began >= shared.slow_s:
            shared.was_slow()
        return result

    async def _called(self, function: Any, args: Any, kwargs: Any, fallback: Any) -> Any:
        """A call through a breaker that is not closed, or whose state is not known yet."""
        try:
            ticket = await self.enter()
        except BreakerOpen:
            if fallback is _NONE:
                raise
            return await self._instead(fallback, args, kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised again, unless there is a fallback
            return await self._went_badly(ticket, error, args, kwargs, fallback)
        await self.leave(ticket, None)
        return result

    async def _went_badly(self, ticket: Ticket, error: BaseException, args: Any, kwargs: Any, fallback: Any) -> Any:
        """A call has raised: raise that, or what stands for it, or answer the fallback."""
        late = await self.leave(ticket, error)
        if fallback is _NONE or (late is None and not self._counts(error)):
            if late is not None:
                raise late from error
            raise error
        return await self._instead(fallback, args, kwargs)

    def call_sync(self, function: Callable[..., R], /, *args: Any, fallback: Any = _NONE, **kwargs: Any) -> R:
        """`call` for plain functions; blocks. They cannot be stopped: a call that was late counts as failed, and its
        result is answered all the same.
        """
        try:
            ticket = self._enter_sync()
        except BreakerOpen:
            if fallback is _NONE:
                raise
            return cast(R, self._instead_sync(fallback, args, kwargs))
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._leave_sync(ticket, error)
            if fallback is _NONE or not self._counts(error):
                raise
            return cast(R, self._instead_sync(fallback, args, kwargs))
        self._leave_sync(ticket, None)
        return result

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    def __call__(self, function: Callable[..., Any], /) -> Callable[..., Any]:
        """As a decorator, for async and plain functions."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def through(*args: Any, **kwargs: Any) -> Any:
                return await self.call(functools.partial(function, *args, **kwargs))

            return through

        @functools.wraps(function)
        def through_sync(*args: Any, **kwargs: Any) -> Any:
            return self.call_sync(functools.partial(function, *args, **kwargs))

        return through_sync

    async def __aenter__(self) -> Breaker:
        """Raises BreakerOpen."""
        ticket = await self.enter()
        self._push(asyncio.current_task(), ticket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        late = await self.leave(self._pop(asyncio.current_task()), error)
        if late is not None:
            raise late from error

    def __enter__(self) -> Breaker:
        """Raises BreakerOpen."""
        ticket = self._enter_sync()
        self._push(threading.get_ident(), ticket)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_sync(self._pop(threading.get_ident()), error)

    async def open(self, *, by: str = "") -> None:
        """Refuse all calls, everywhere, until `close` or `reset`. Raises EngineUnavailable."""
        await self._shared.force("open", by)

    async def close(self, *, by: str = "") -> None:
        """Let all calls through, everywhere, whatever fails, until `open` or `reset`. Raises EngineUnavailable."""
        await self._shared.force("closed", by)

    async def reset(self, *, by: str = "") -> None:
        """Forget what was forced, changed and counted: it is closed and watches again. Raises EngineUnavailable."""
        await self._shared.reset(by)

    async def change(self, *, by: str = "", **rules: Any) -> None:
        """Change rules everywhere while it runs, until `reset`: `await breaker.change(error_threshold=0.9,
        timeout="1m")`. Raises ConfigError and EngineUnavailable.
        """
        await self._shared.change(patch_of(self.name, rules), by)

    async def enter(self, *, limited: bool = True) -> Ticket:
        """Begin a call by hand, to be ended with `leave`; without `limited` the timeout is the caller's business.
        Raises BreakerOpen.
        """
        shared, window = self._shared, self._window
        began = monotonic()
        token = None
        if shared.is_gated:
            try:
                token = await shared.admit()
            except BreakerOpen:
                self.rejected += 1
                raise
            began = monotonic()
        if began >= window.ends:
            window.turn(began)
        if began >= shared.look_at:
            shared.look(began)
        timeout_s = shared.timeout_s
        return Ticket(began, token, None if timeout_s is None or not limited else self._limited(timeout_s, began))

    async def leave(self, ticket: Ticket, error: BaseException | None, *, tells: bool = True) -> CallTimeout | None:
        """End a call; without `tells` its error says nothing about what was called. Answers the error to raise instead
        when the call was stopped for its time.
        """
        late = None
        entry = ticket.entry
        if entry is not None and was_stopped(entry) and isinstance(error, asyncio.CancelledError):
            late = self._too_late()
        ended = self._ended(ticket, late or error) if tells else None
        if ticket.token is not None:
            await self._shared.probe_ended(ticket.token, ended, late or error)
        return late

    # The two ends of a call

    def _limited(self, timeout_s: float, now: float) -> Entry:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        deadlines = self._deadlines
        if deadlines is None or deadlines.timeout_s != timeout_s or deadlines.loop is not task.get_loop():
            deadlines = self._deadlines = Deadlines(task.get_loop(), timeout_s)
        return deadlines.begin(task, now)

    def _enter_sync(self) -> Ticket:
        shared, window = self._shared, self._window
        began = monotonic()
        token = None
        if shared.is_gated:
            try:
                token = shared.admit_sync()
            except BreakerOpen:
                self.rejected += 1
                raise
            began = monotonic()
        if began >= window.ends:
            window.turn(began)
        if began >= shared.look_at:
            shared.look(began)
        return Ticket(began, token)

    def _leave_sync(self, ticket: Ticket, error: BaseException | None) -> None:
        timeout_s = self._shared.timeout_s
        if error is None and timeout_s is not None and monotonic() - ticket.began > timeout_s:
            error = self._too_late()
        ended = self._ended(ticket, error)
        if ticket.token is not None:
            self._shared.probe_ended_sync(ticket.token, ended, error)

    def _too_late(self) -> CallTimeout:
        self.timeouts += 1
        limit = human(self._shared.timeout_s or 0)
        return CallTimeout(f"A call through breaker {self.name!r} took longer than {limit}.")

    def _counts(self, error: BaseException) -> bool:
        """Whether an error is a failure of what was called."""
        return isinstance(error, Exception) and not isinstance(error, self.ignore)

    def _ended(self, ticket: Ticket, error: BaseException | None) -> bool | None:
        """Count the end of a call. True when it went well, None when it tells nothing."""
        if error is None or (isinstance(error, Exception) and isinstance(error, self.ignore)):
            self._went_well(ticket)
            return True
        if not isinstance(error, Exception):
            return None
        self._shared.failed(error, is_probe=ticket.token is not None)
        return False

    def _went_well(self, ticket: Ticket) -> None:
        self._window.calls += 1
        slow_s = self._shared.slow_s
        if slow_s is not None and monotonic() - ticket.began >= slow_s:
            self._shared.was_slow()

    async def _instead(self, fallback: Any, args: Any, kwargs: Any) -> Any:
        result = self._instead_sync(fallback, args, kwargs)
        return await result if inspect.isawaitable(result) else result

    def _instead_sync(self, fallback: Any, args: Any, kwargs: Any) -> Any:
        self.fallbacks += 1
        return fallback(*args, **kwargs) if callable(fallback) else fallback

    def _push(self, key: object, ticket: Ticket) -> None:
        with self._lock:
            self._entered.setdefault(key, []).append(ticket)

    def _pop(self, key: object) -> Ticket:
        with self._lock:
            tickets = self._entered[key]
            ticket = tickets.pop()
            if not tickets:
                del self._entered[key]
            return ticket
