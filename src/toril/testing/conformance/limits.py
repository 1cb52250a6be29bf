"""Rate limits: sliding windows and GCRA, counted once for all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from toril.engine.ports.limits import NEVER, Check, Verdict
from toril.errors import ConfigError
from toril.testing.conformance.stage import MINUTE, Cases, Stage

HOUR = 60 * MINUTE


def window(key: str = "k", most: int = 10, per_ms: int = HOUR, cost: int = 1) -> Check:
    """A check of a sliding window."""
    return Check(key, most, per_ms, 0, cost)


def smooth(key: str = "k", most: int = 10, per_ms: int = HOUR, burst: int = 3, cost: int = 1) -> Check:
    """A check of a GCRA."""
    return Check(key, most, per_ms, burst, cost)


async def take(stage: Stage, *checks: Check, count: bool = True) -> tuple[Verdict, ...]:
    """Check, and count."""
    return await stage.limits.take(checks, now=stage.now, count=count)


async def admitted(stage: Stage, check: Check, tries: int) -> int:
    """How many of so many tries, one after the other, find room."""
    return sum([(await take(stage, check))[0].retry_ms == 0 for _ in range(tries)])


class LimitCases(Cases):
    """`LimitStore`."""

    # S3-32, A20
    async def test_a_window_admits_its_number_and_no_more(self, stage: Stage) -> None:
        """As many as it says, all at once if need be; what is refused is not counted."""
        remaining = [(await take(stage, window(most=4)))[0].remaining for _ in range(4)]
        assert remaining == [3, 2, 1, 0]
        refused = [(await take(stage, window(most=4)))[0] for _ in range(5)]
        assert {verdict.remaining for verdict in refused} == {0}
        assert all(0 < verdict.retry_ms <= HOUR * 17 // 16 + 1 for verdict in refused)
        assert all(0 < verdict.reset_ms <= HOUR * 17 // 16 + 1 for verdict in refused)

    @pytest.mark.parametrize("burst", [0, 4])
    async def test_keys_do_not_know_each_other(self, stage: Stage, burst: int) -> None:
        """One that is used up leaves the others alone, whatever characters they have."""
        keys = ("a", "A", "a:b", "ü", "a*", "{a}", "a b", "a\n", "'", "x" * 512)
        for key in keys:
            assert await admitted(stage, Check(key, 4, HOUR, burst), 6) == 4

    async def test_what_was_counted_comes_free_when_it_leaves_the_window(self, stage: Stage) -> None:
        """Never early, and at most a sixteenth of the window late."""
        assert await admitted(stage, window(), 10) == 10
        await stage.elapse(HOUR - 10_000)
        assert await admitted(stage, window(), 2) == 0
        [verdict] = await take(stage, window())
        assert verdict.retry_ms <= HOUR // 16 + 20_000
        await stage.elapse(verdict.retry_ms + 10_000)
        assert await admitted(stage, window(), 12) == 10

    async def test_no_window_ever_holds_more(self, stage: Stage) -> None:
        """Under steady pressure no time of the window's length sees more than its number, and nearly that many."""
        times: list[int] = []
        for _ in range(120):
            times += [stage.now] * await admitted(stage, window(per_ms=MINUTE * 16, most=20), 3)
            await stage.elapse(MINUTE)
        # A store whose clock goes on by itself may be some milliseconds ahead.
        most = max(sum(begin <= at < begin + 16 * MINUTE - 1_000 for at in times) for begin in times)
        assert most <= 20
        assert len(times) >= 120 // 17 * 20

    async def test_gcra_lets_a_burst_through_and_then_one_by_one(self, stage: Stage) -> None:
        """10 in an hour are one every six minutes; at once as many as the burst."""
        assert await admitted(stage, smooth(), 6) == 3
        [verdict] = await take(stage, smooth())
        assert 5 * MINUTE < verdict.retry_ms <= 6 * MINUTE
        assert 17 * MINUTE < verdict.reset_ms <= 18 * MINUTE
        await stage.elapse(6 * MINUTE + 1_000)
        assert await admitted(stage, smooth(), 3) == 1
        await stage.elapse(13 * MINUTE)
        assert await admitted(stage, smooth(), 5) == 2
        await stage.elapse(HOUR)
        assert await admitted(stage, smooth(), 5) == 3

    @pytest.mark.parametrize("burst", [0, 10])
    async def test_costs_count(self, stage: Stage, burst: int) -> None:
        """One that costs more than is left is refused, and a cheaper one still fits; above the limit it never does."""
        check = Check("k", 10, HOUR, burst)
        assert (await take(stage, check._replace(cost=7)))[0][:2] == (3, 0)
        assert (await take(stage, check._replace(cost=4)))[0].retry_ms > 0
        assert (await take(stage, check._replace(cost=3)))[0][:2] == (0, 0)
        assert (await take(stage, check._replace(cost=11)))[0].retry_ms == NEVER
        assert (await take(stage, check._replace(key="new", cost=11)))[0] == (10, NEVER, 0)

    @pytest.mark.parametrize("burst", [0, 10])
    async def test_asking_counts_nothing(self, stage: Stage, burst: int) -> None:
        """Neither with a cost of 0 nor when nothing is to be counted."""
        check = Check("k", 10, HOUR, burst)
        assert (await take(stage, check._replace(cost=0)))[0] == (10, 0, 0)
        assert (await take(stage, check, count=False))[0].remaining == 9
        await take(stage, check._replace(cost=10))
        for _ in range(3):
            assert (await take(stage, check, count=False))[0].retry_ms > 0
            assert (await take(stage, check._replace(cost=0)))[0][:2] == (0, 0)

    async def test_several_limits_count_together_or_not_at_all(self, stage: Stage) -> None:
        """A refusal by one leaves the others as they were; each says how it is."""
        user, address = window("user", most=5), smooth("address", most=100, burst=2)
        assert [verdict.remaining for verdict in await take(stage, user, address)] == [4, 1]
        assert [verdict.remaining for verdict in await take(stage, user, address)] == [3, 0]
        first, second = await take(stage, user, address)
        assert (first.retry_ms, first.remaining) == (0, 2)
        assert second.retry_ms > 0
        assert (await take(stage, user._replace(cost=0)))[0].remaining == 3

    async def test_forgetting(self, stage: Stage) -> None:
        """A key begins anew; answers how many had something counted."""
        await take(stage, window("a", most=1), smooth("b", burst=1))
        assert await stage.limits.reset(["a", "b", "none"]) == 2
        assert await stage.limits.reset([]) == 0
        assert [verdict.retry_ms for verdict in await take(stage, window("a", most=1), smooth("b", burst=1))] == [0, 0]

    @pytest.mark.parametrize("key", ["", "x" * 513])
    async def test_a_key_that_cannot_be_one(self, stage: Stage, key: str) -> None:
        """Is refused."""
        with pytest.raises(ConfigError, match="key: expected"):
            await take(stage, window(key))

    async def test_nothing_to_check(self, stage: Stage) -> None:
        """No checks, no verdicts."""
        assert await take(stage) == ()

    @pytest.mark.parametrize("burst", [0, 100])
    async def test_many_at_the_same_time_are_counted_exactly(self, stage: Stage, burst: int) -> None:
        """Of 300 that come at once 100 find room."""
        check = Check("k", 100, 24 * HOUR, burst)
        verdicts = await asyncio.gather(*(take(stage, check) for _ in range(300)))
        assert [verdict.retry_ms for [verdict] in verdicts].count(0) == 100
        assert sorted(verdict.remaining for [verdict] in verdicts if not verdict.retry_ms) == list(range(100))

    async def test_two_engines_count_together(self, stage: Stage) -> None:
        """As two processes do."""
        # S3-33
        other = await stage.second()

        async def tried(limits: Sequence[Check]) -> int:
            answers = await asyncio.gather(
                *(engine.limits.take(limits, now=stage.now) for engine in (stage.engine, other) for _ in range(60))
            )
            return [verdict.retry_ms for [verdict] in answers].count(0)

        assert await tried([window("w", most=100, per_ms=24 * HOUR)]) == 100
        assert await tried([smooth("s", most=100, per_ms=24 * HOUR, burst=100)]) == 100

    async def test_a_restart_forgets_nothing(self, stage: Stage) -> None:
        """What was counted is there again."""
        await take(stage, window(cost=9), smooth("s", cost=3))
        await stage.reopen()
        assert [verdict.remaining for verdict in await take(stage, window(cost=0), smooth("s", cost=0))] == [1, 0]

    @pytest.mark.parametrize(("most", "per_ms"), [(1, 1), (1, 100 * 365 * 24 * HOUR), (999_999_999, 1000), (3, 7)])
    async def test_odd_rates(self, stage: Stage, most: int, per_ms: int) -> None:
        """From one in a century to a thousand million in a second."""
        assert (await take(stage, window("w", most=most, per_ms=per_ms)))[0].retry_ms == 0
        assert (await take(stage, smooth("s", most=most, per_ms=per_ms, burst=most)))[0].retry_ms == 0
        if per_ms > HOUR:
            assert (await take(stage, window("w", most=most, per_ms=per_ms)))[0].retry_ms >= per_ms - MINUTE
