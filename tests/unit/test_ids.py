"""Job ids: unique, sortable, never going backwards."""

import threading

import pytest

from toril.errors import ConfigError
from toril.jobs.options import RESERVED_IDS, check_id
from toril.kernel.ids import CUSTOM_ID, JobIds, created_ms, token_hex
from toril.testing.clock import ManualClock


def test_an_id_tells_when_it_was_made() -> None:
    clock = ManualClock(1_700_000_000_123)
    made = JobIds(clock).new()
    assert (len(made), made[0], created_ms(made)) == (20, "j", 1_700_000_000_123)
    assert CUSTOM_ID.fullmatch(made)


def test_ids_grow_within_a_millisecond_and_over_time() -> None:
    clock = ManualClock(1_700_000_000_000)
    ids = JobIds(clock)
    made = []
    for _ in range(50):
        made += [ids.new() for _ in range(100)]
        clock.advance(0.001)
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_do_not_go_backwards_with_the_clock() -> None:
    now = [2_000]

    class Jumping:
        def now_ms(self) -> int:
            return now[0]

    ids = JobIds(Jumping())
    first = ids.new()
    now[0] = 1_000
    second = ids.new()
    now[0] = 3_000
    assert first < second < ids.new()
    assert created_ms(second) == 2_000


def test_threads_share_one_source() -> None:
    ids = JobIds()
    made: list[list[str]] = [[] for _ in range(4)]

    def work(into: list[str]) -> None:
        into.extend(ids.new() for _ in range(2_000))

    threads = [threading.Thread(target=work, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(part == sorted(part) for part in made)
    assert len(set().union(*made)) == 8_000


def test_two_sources_do_not_meet() -> None:
    clock = ManualClock(1_700_000_000_000)
    assert len({JobIds(clock).new() for _ in range(1_000)}) == 1_000
    assert token_hex() != token_hex()
    assert len(token_hex(8)) == 16


@pytest.mark.parametrize(
    "foreign", ["", "17", "j", "J" + "0" * 19, "j" + "0" * 18, "j" + "0" * 9 + "-my-orders", "jobs-for-customer-01"]
)
def test_an_id_of_another_kind_has_no_time(foreign: str) -> None:
    assert created_ms(foreign) is None


@pytest.mark.parametrize("good", ["a", "order-17", "A_b-9", "x" * 64])
def test_an_id_of_your_own_is_kept(good: str) -> None:
    assert check_id(good) == good


@pytest.mark.parametrize("bad", ["", "1a", "-a", "a b", "a:b", "ä", "x" * 65, "a\n", 5, None, *sorted(RESERVED_IDS)])
def test_an_id_that_would_damage_a_queue_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"^id: expected a letter, then"):
        check_id(bad)
