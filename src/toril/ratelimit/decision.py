"""What a limit says about a key, and how that is told over HTTP."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from toril.errors import LimitExceeded


class Decision(NamedTuple):
    """Whether a key may go on.

    `limit` and `window` (seconds) are the rate, `remaining` is how much of it is left. `retry_after` is how many
    seconds to wait until there is room: 0 when there is, None when the cost is above the limit. `reset_after` is how
    many until all of it is free again. `shadow` is true when the limit would have refused, but only watches.
    `counted` says who counted: the store, this process alone, or nobody, because the store is away.
    """

    allowed: bool
    name: str
    key: str
    limit: int
    window: float
    remaining: int
    retry_after: float | None
    reset_after: float
    shadow: bool = False
    counted: Literal["store", "local", "nobody"] = "store"

    def __bool__(self) -> bool:
        return self.allowed

    def headers(self) -> dict[str, str]:
        """`RateLimit-Limit`, `-Remaining`, `-Reset` and `-Policy`, and `Retry-After` when it is refused. In whole
        seconds.
        """
        found = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(math.ceil(self.reset_after)),
            "RateLimit-Policy": f"{self.limit};w={math.ceil(self.window)}",
        }
        if not self.allowed:
            found["Retry-After"] = str(self.retry_seconds)
        return found

    @property
    def retry_seconds(self) -> int:
        """`retry_after` in whole seconds, at least 1; the whole window when waiting does not help."""
        return max(1, math.ceil(self.window if self.retry_after is None else self.retry_after))

    def refusal(self) -> LimitExceeded:
        """The error that tells a refusal."""
        wait = "its cost is above the limit" if self.retry_after is None else f"wait {self.retry_after:.3g} s"
        return LimitExceeded(
            f"Limit {self.name!r} ({self.limit} in {self.window:g} s) is used up for {self.key!r}: {wait}.",
            retry_after=self.retry_after,
        )

    def require(self) -> None:
        """Raises LimitExceeded when it is refused."""
        if not self.allowed:
            raise self.refusal()


def tightest(decisions: tuple[Decision, ...]) -> Decision:
    """Of several the one to tell: the refusal that lasts longest, else the one with the least left."""
    if len(decisions) == 1:
        return decisions[0]
    refused = [one for one in decisions if not one.allowed]
    if refused:
        return max(refused, key=lambda one: math.inf if one.retry_after is None else one.retry_after)
    return min(decisions, key=lambda one: one.remaining / one.limit)
