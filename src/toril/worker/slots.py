"""The slots of a worker, shared between its queues so that none starves."""

from __future__ import annotations

from itertools import count
from typing import Protocol


class Claimant(Protocol):
    """A queue's side of the sharing. `held` and `turn` belong to `Slots`; `hungry` says that there may be more work."""

    hungry: bool
    held: int
    turn: int

    def wake(self) -> None:
        """There may be slots for you."""
        ...


class Slots:
    """Room for running jobs. One event loop only."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.free = size
        self._claimants: list[Claimant] = []
        self._turns = count(1)

    def join(self, claimant: Claimant) -> None:
        """Take part in the sharing."""
        self._claimants.append(claimant)

    def reserve(self, claimant: Claimant, most: int) -> int:
        """Take as many free slots as are fair, at most `most`. Hungry queues are brought to the same number of slots;
        what cannot be split goes to who waited longest.
        """
        if not self.free or not claimant.hungry:
            return 0
        granted = min(self.free if len(self._claimants) == 1 else self._fair_part(claimant), most)
        if granted:
            self.free -= granted
            claimant.held += granted
            claimant.turn = next(self._turns)
        return granted

    def seize(self, claimant: Claimant, most: int) -> int:
        """Take free slots, at most `most`, fair or not."""
        granted = max(0, min(self.free, most))
        self.free -= granted
        claimant.held += granted
        return granted

    def give_back(self, claimant: Claimant, number: int) -> None:
        """Slots that are not used, or not any more."""
        if not number:
            return
        self.free += number
        claimant.held -= number
        if len(self._claimants) > 1:
            for other in self._claimants:
                if other is not claimant and other.hungry:
                    other.wake()

    def _fair_part(self, claimant: Claimant) -> int:
        """Fill the lowest first, as water would, and answer what flows to `claimant`."""
        order = sorted((c for c in self._claimants if c.hungry), key=lambda c: (c.held, c.turn))
        left, level, lowest = self.free, order[0].held, 1
        while lowest < len(order):
            step = (order[lowest].held - level) * lowest
            if step > left:
                break
            left -= step
            level = order[lowest].held
            lowest += 1
        each, odd = divmod(left, lowest)
        place = order.index(claimant)
        return level + each + (place < odd) - claimant.held if place < lowest else 0
