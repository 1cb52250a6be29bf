"""`Shared`: the state of one breaker as this process knows it, and its way to the store where all processes meet.

While the breaker is closed nothing is asked: successes are counted here. A failure is told soon, and with it what was
counted since the last time; who tells adds to the joined window of all processes, and opens the breaker for all when
that crosses. A process whose own window crosses opens for itself at once, without waiting for the store; it stays alone
when the store is away, or when too few processes have seen failures.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from toril.breaker import record as steps
from toril.breaker.record import CLOSED, Record, Report, State
from toril.breaker.rules import Rules
from toril.breaker.stats import BreakerStats
from toril.breaker.store import BreakerStore
from toril.breaker.window import Window
from toril.breaker.wording import described
from toril.errors import BreakerOpen, EngineUnavailable
from toril.kernel.ids import token_hex

LOOK_S = 0.5
"""How often a breaker that is used looks at the store, at most."""
TELL_S = 0.2
"""How often failures are told, at most."""
_FULL_RETRY_S = 1.0

_log = logging.getLogger("toril.breaker")


class Shared:
    """One per breaker. `is_gated` is false on the way of most calls: then nothing here need be asked."""

    def __init__(self, name: str, declared: Rules, store: BreakerStore) -> None:
        self.name = name
        self.declared = declared
        self.rules = declared
        self.timeout_s = declared.timeout_s
        self.slow_s = None if declared.slow_ms is None else declared.slow_ms / 1000
        self.window = Window(declared.window_ms / 1000, monotonic())
        self.look_at = 0.0
        # Until the store has been looked at once nobody knows.
        self.is_gated = True
        self._is_known = False
        self._store = store
        self._raw: bytes | None = None
        self._record = CLOSED
        # What holds in this process alone, if anything.
        self._own: Record | None = None
        self._last_error = ""
        self._last_error_at: int | None = None
        self._telling = False
        self._tell_at = 0.0

    @property
    def record(self) -> Record:
        """What holds here."""
        return self._own or self._record

    @property
    def state(self) -> State:
        record = self.record
        if record.forced is None and record.state == "open" and self._store.now_ms() >= record.until:
            return "half-open"
        return record.effective

    def stats(self, *, group: str, rejected: int, timeouts: int, fallbacks: int) -> BreakerStats:
        record, total, lately = self.record, self.window.total, self.window.sums()
        ours = (self._last_error_at or 0) >= record.error_at
        return BreakerStats(
            name=self.name,
            group=group,
            state=self.state,
            forced=record.forced,
            calls=total.calls,
            failures=total.failures,
            slow=total.slow,
            rejected=rejected,
            timeouts=timeouts,
            fallbacks=fallbacks,
            error_rate=lately.failures / lately.calls if lately.calls else 0.0,
            last_error=self._last_error if ours else record.error,
            last_error_at=self._last_error_at if ours else record.error_at,
            opened_at=record.opened or None,
            retry_at=record.until if record.state != "closed" else None,
            alone=self._own is not None,
        )

    # What the store says

    def seen(self, raw: bytes | None) -> None:
        """The store was looked at."""
        record = steps.decoded(raw)
        before, self._raw, self._record = self._record, raw, record
        self.look_at = monotonic() + LOOK_S
        self._is_known = True
        if record.state != "closed":
            self._own = None
        if record.patch != before.patch:
            self._apply(record)
        if record.effective != before.effective:
            _log.warning("Breaker %r is %s now%s.", self.name, record.effective, _why(record))
            if record.effective == "closed":
                self._own = None
                self.window.clear(self.rules.window_ms / 1000, monotonic())
        self._gate()

    def unreached(self) -> None:
        """The store could not be looked at: what is known here holds."""
        self.look_at = monotonic() + LOOK_S
        self._is_known = True
        self._gate()

    def look(self, now: float) -> None:
        """Look at the store beside the call."""
        self.look_at = now + LOOK_S
        self._store.look()
        if self._record.buckets and self.window.untold().calls:
            # Others see failures: what goes well here counts, too.
            self._tell_soon()

    def declare(self, rules: Rules) -> None:
        """Rules for a breaker that was used by its name before it was declared."""
        self.declared = rules
        self._apply(self._record)

    def _apply(self, record: Record) -> None:
        window_ms = self.rules.window_ms
        self.rules = self.declared.patched(record.patch)
        self.timeout_s = self.rules.timeout_s
        self.slow_s = None if self.rules.slow_ms is None else self.rules.slow_ms / 1000
        if self.rules.window_ms != window_ms:
            self.window.clear(self.rules.window_ms / 1000, monotonic())

    def _gate(self) -> None:
        self.is_gated = not self._is_known or self.record.effective != "closed"

    # Calls through a breaker that is not closed

    async def admit(self) -> str | None:
        """Let a call through, as a probe if a token is answered. Raises BreakerOpen."""
        if not self._is_known:
            await self._store.refresh()
            if not self.is_gated:
                return None
        self._refuse_early()
        token = token_hex(6)
        taken = await self._step(lambda record, now: steps.probing(record, self.rules, token, now))
        if any(slot[0] == token for slot in taken.probes):
            return token
        if self.is_gated:
            raise self._refusal()
        return None

    def admit_sync(self) -> str | None:
        """`admit`; blocks, but for a refusal that needs nobody else."""
        if self._is_known:
            self._refuse_early()
        return self._store.blocking.run(self.admit)

    def _refuse_early(self) -> None:
        """Raises BreakerOpen for what is refused without asking the store."""
        record, now = self.record, self._store.now_ms()
        if record.forced == "open" or now < record.until:
            self._look_lazily()
            raise self._refusal()
        if record.state == "half-open" and steps.probing(record, self.rules, "", now) is None:
            self._look_lazily()
            raise self._refusal()

    def _look_lazily(self) -> None:
        now = monotonic()
        if now >= self.look_at:
            self.look(now)

    def _refusal(self) -> BreakerOpen:
        record = self.record
        wait_s = max(_FULL_RETRY_S, (record.until - self._store.now_ms()) / 1000)
        if record.forced == "open":
            wait_s, why = self.rules.reset_ms / 1000, "an operator has opened it"
        else:
            why = f"the last error was {record.error}" if record.error else "what it guards fails"
        return BreakerOpen(f"Breaker {self.name!r} is open: {why}.", breaker=self.name, retry_after=wait_s)

    async def probe_ended(self, token: str, well: bool | None, error: BaseException | None) -> None:
        """A probe has ended well or not; None when it tells nothing, and its slot is free again."""
        if well is None:
            # Whoever is being cancelled must not wait for a store.
            self._store.spawn(self._step(lambda record, now: steps.left(record, token)))
            return
        text = "" if well or error is None else described(error)
        await self._step(lambda record, now: steps.probed(record, self.rules, token, well, text, now))

    def probe_ended_sync(self, token: str, well: bool | None, error: BaseException | None) -> None:
        self._store.blocking.run(lambda: self.probe_ended(token, well, error))

    # What is told

    def failed(self, error: Exception, *, is_probe: bool) -> None:
        """A call has failed."""
        window = self.window
        window.calls += 1
        window.failures += 1
        self._last_error, self._last_error_at = described(error), self._store.now_ms()
        if not is_probe:
            self._watch()

    def was_slow(self) -> None:
        """A call that went well took long."""
        self.window.slow += 1
        self._watch()

    def _watch(self) -> None:
        if self.is_gated:
            return
        if self._record.forced is None and steps.crosses(self.rules, *self.window.sums()):
            self._own = steps.opened(self._record, self.rules, self._store.now_ms())
            self._own = steps.with_error(self._own, self._last_error, self._last_error_at or 0)
            self._gate()
            _log.warning("Breaker %r opens%s.", self.name, _why(self._own))
        self._tell_soon()

    def _tell_soon(self) -> None:
        if not self._telling:
            self._telling = True
            self._store.later(max(0.0, self._tell_at - monotonic()), self._tell)

    async def _tell(self) -> None:
        self._telling = False
        self._tell_at = monotonic() + TELL_S
        what = self.window.untold()
        if not what.calls:
            return
        error = self._last_error if what.failures else ""
        report = Report(self._store.who, *what, error)
        window, era = self.window, self.window.era
        try:
            # What was forgotten meanwhile is not told.
            await self._stored(
                lambda record, now: steps.reported(record, self.rules, report, now) if window.era == era else None
            )
        except EngineUnavailable:
            return
        if window.era == era:
            window.told(what)

    # What operators do

    async def force(self, state: State, by: str) -> None:
        await self._stored(lambda record, now: steps.forced(record, state))
        _log.warning("Breaker %r was forced to be %s by %s.", self.name, state, by or "an operator")

    async def reset(self, by: str) -> None:
        self.window.clear(self.rules.window_ms / 1000, monotonic())
        await self._stored(lambda record, now: steps.reset(record))
        self._own = None
        self._gate()
        _log.warning("Breaker %r was reset by %s.", self.name, by or "an operator")

    async def change(self, patch: dict[str, Any], by: str) -> None:
        await self._stored(lambda record, now: steps.changed(record, patch))
        _log.warning("Breaker %r has other rules by %s: %s.", self.name, by or "an operator", self.rules)

    # Steps

    async def _step(self, step: Callable[[Record, int], Record | None]) -> Record:
        """Take a step where the state is: in this process alone, or in the store. Answers the record after it."""
        if self._own is None:
            try:
                return await self._stored(step)
            except EngineUnavailable:
                self.unreached()
        own = self.record
        after = step(own, self._store.now_ms()) or own
        self._own = None if after.state == "closed" else after
        if after.state == "closed" and own.state != "closed":
            # The store may still have it open, but nobody can be asked: what works is used.
            self._record = steps.closed(self._record)
            self.window.clear(self.rules.window_ms / 1000, monotonic())
            _log.warning("Breaker %r is closed now, in this process.", self.name)
        self._gate()
        return after

    async def _stored(self, step: Callable[[Record, int], Record | None]) -> Record:
        raw, record = await self._store.change(self.name, self._raw, step)
        self.seen(raw)
        return record


def _why(record: Record) -> str:
    if record.forced is not None:
        return ", as an operator wants"
    return f": {record.error}" if record.state == "open" and record.error else ""
