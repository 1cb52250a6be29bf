"""How the slots of a worker are shared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril.worker.options import WorkerOptions
from toril.worker.slots import Slots


class Queue:
    def __init__(self) -> None:
        self.hungry = True
        self.held = 0
        self.turn = 0
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def shared(size: int, queues: int) -> tuple[Slots, list[Queue]]:
    slots = Slots(size)
    claimants = [Queue() for _ in range(queues)]
    for claimant in claimants:
        slots.join(claimant)
    return slots, claimants


def test_a_queue_alone_gets_everything_up_to_the_most() -> None:
    slots, [only] = shared(10, 1)
    assert slots.reserve(only, 6) == 6
    assert slots.reserve(only, 6) == 4
    assert slots.reserve(only, 6) == 0


def test_hungry_queues_get_equal_parts_and_others_leave_theirs() -> None:
    slots, [a, b, c] = shared(10, 3)
    c.hungry = False
    assert (slots.reserve(a, 99), slots.reserve(c, 99), slots.reserve(b, 99)) == (5, 0, 5)
    b.hungry = False
    slots.give_back(b, 5)
    assert (a.woken, slots.reserve(a, 99)) == (1, 5)


def test_a_single_slot_goes_round() -> None:
    slots, [a, b] = shared(1, 2)
    served = []
    for _ in range(6):
        taken = [queue for queue in (a, b) if slots.reserve(queue, 1)]
        assert len(taken) == 1
        served += taken
        slots.give_back(taken[0], 1)
    assert (served.count(a), served.count(b)) == (3, 3)


def test_what_is_freed_goes_to_who_has_less() -> None:
    slots, [a, b] = shared(6, 2)
    b.hungry = False
    assert slots.reserve(a, 99) == 6
    b.hungry = True
    slots.give_back(a, 2)
    assert (slots.reserve(a, 99), slots.reserve(b, 99)) == (0, 2)


@given(
    size=st.integers(1, 12),
    steps=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(1, 6)), max_size=60),
)
def test_no_slot_is_lost_or_given_twice_and_none_is_idle_while_all_have_asked(
    size: int, steps: list[tuple[int, bool, int]]
) -> None:
    slots, queues = shared(size, 4)
    for index, hungry, number in steps:
        queue = queues[index]
        queue.hungry = hungry
        slots.reserve(queue, number)
        slots.give_back(queue, min(number // 2, queue.held))
        assert slots.free + sum(one.held for one in queues) == size
        assert slots.free >= 0
        assert all(one.held >= 0 for one in queues)
    for _ in range(size):
        for queue in queues:
            slots.reserve(queue, size)
    if any(queue.hungry for queue in queues):
        assert slots.free == 0


@pytest.mark.parametrize(("slots", "taken"), [(1, 1), (15, 15), (16, 8), (200, 100), (10_000, 1_000)])
def test_one_exchange_leaves_room_for_the_next(slots: int, taken: int) -> None:
    assert WorkerOptions(concurrency=slots).most_taken == taken
