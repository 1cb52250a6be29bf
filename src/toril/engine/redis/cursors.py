"""Cursors of listings: where a page ended, as text that can be handed out and comes back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from toril.errors import ConfigError
from toril.jobs.states import State
from toril.kernel import codec

# How a cursor tells the direction of its listing, by `newest_first`.
_WAYS = ("up", "down")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Which of the states to go on with, and the words of page.lua that say where in it; none is its beginning."""

    index: int
    words: tuple[str, ...]

    def encode(self, states: Sequence[State], newest_first: bool) -> str:
        """The cursor as text."""
        content = codec.encode([_WAYS[newest_first], states[self.index].value, *self.words])
        return base64.urlsafe_b64encode(content.encode()).decode()


def read_cursor(cursor: str | None, states: Sequence[State], newest_first: bool) -> Cursor:
    """Where a listing goes on. Raises ConfigError for a cursor of another listing."""
    if cursor is None:
        return Cursor(0, ())
    try:
        way, state, *words = codec.decode(base64.b64decode(cursor, b"-_", validate=True))
        found = Cursor(states.index(State(state)), tuple(words))
        if way == _WAYS[newest_first] and _is_sound(found, State(state)):
            return found
    except (ValueError, TypeError, binascii.Error):
        # Not of our making: answered as a cursor of another listing is.
        pass
    raise ConfigError(
        f"cursor: expected the cursor of an earlier page of this listing, got {cursor[:200]!r}. Begin again without "
        "one."
    )


def _is_sound(cursor: Cursor, state: State) -> bool:
    words = cursor.words
    if not all(isinstance(word, str) for word in words):
        return False
    if not words:
        return True
    if state in {State.WAITING, State.ACTIVE}:
        # A list: the place, how many of the ids were looked at, the ids.
        return len(words) >= 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]) <= len(words) - 2
    float(words[0])
    return len(words) == 2
