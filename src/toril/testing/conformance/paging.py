"""Reading many jobs page by page while they change."""

from __future__ import annotations

import pytest

from toril.errors import ConfigError
from toril.jobs.model import Job
from toril.jobs.outcome import Done
from toril.jobs.states import State
from toril.testing.conformance.stage import MINUTE, QUEUE, Cases, Stage, ids_of, job


async def fill(stage: Stage, state: State, prefix: str, many: int) -> None:
    """Bring many jobs into a state."""
    names = [f"{prefix}{number}" for number in range(many)]
    if state is State.DELAYED:
        await stage.add(*(job(name, delay_ms=MINUTE) for name in names))
    elif state is State.PRIORITIZED:
        await stage.add(*(job(name, priority=1 + number % 3) for number, name in enumerate(names)))
    elif state is State.WAITING:
        await stage.add(*names)
    else:
        worker = stage.worker()
        await stage.add(*(job(name, lifo=True) for name in names))
        await worker.take(many)
        if state is State.COMPLETED:
            await worker.exchange(*(worker.ended(name, Done("1")) for name in names))


async def rest(stage: Stage, seen: list[Job], cursor: str | None, states: list[State], newest_first: bool) -> None:
    """Read the remaining pages into `seen`."""
    while cursor is not None:
        page = await stage.inspect.list(QUEUE, states, limit=7, cursor=cursor, newest_first=newest_first)
        seen += page.jobs
        cursor = page.cursor


class PagingCases(Cases):
    """`JobInspector.list` and its cursor."""

    async def test_pages_join_to_the_whole(self, stage: Stage) -> None:
        """Whatever the size of the pages, together they are the listing."""
        await fill(stage, State.COMPLETED, "c", 20)
        await fill(stage, State.PRIORITIZED, "p", 15)
        await fill(stage, State.WAITING, "w", 15)
        await fill(stage, State.DELAYED, "d", 5)
        states = (State.WAITING, State.PRIORITIZED, State.DELAYED, State.COMPLETED)
        for newest_first in (False, True):
            whole = await stage.pages(*states, newest_first=newest_first)
            assert len(whole) == 55
            for limit in (1, 7, 54, 55, 56):
                assert await stage.pages(*states, newest_first=newest_first, limit=limit) == whole

    async def test_a_page_is_not_longer_than_its_limit(self, stage: Stage) -> None:
        """The last page has no cursor."""
        await fill(stage, State.WAITING, "w", 12)
        first = await stage.inspect.list(QUEUE, [State.WAITING], limit=10)
        assert (len(first.jobs), first.cursor is None) == (10, False)
        last = await stage.inspect.list(QUEUE, [State.WAITING], limit=10, cursor=first.cursor)
        assert (len(last.jobs), last.cursor) == (2, None)

    @pytest.mark.parametrize("newest_first", [False, True], ids=["oldest", "newest"])
    @pytest.mark.parametrize("state", [State.WAITING, State.PRIORITIZED, State.DELAYED, State.ACTIVE, State.COMPLETED])
    async def test_what_stays_is_shown_once(self, stage: Stage, state: State, newest_first: bool) -> None:
        """Jobs that are added and removed between two pages neither hide nor repeat one that stays."""
        await fill(stage, state, "a", 30)
        page = await stage.inspect.list(QUEUE, [state], limit=7, newest_first=newest_first)
        seen = list(page.jobs)
        listed = await stage.ids(state, newest_first=newest_first)
        gone = [listed[0], listed[6], listed[7], listed[15], listed[29]]
        if state is not State.ACTIVE:
            await stage.inspect.remove(QUEUE, gone, now=stage.now)
        await fill(stage, state, "b", 10)
        if state is State.WAITING:
            await stage.add(job("front", lifo=True))
        await rest(stage, seen, page.cursor, [state], newest_first)
        shown = ids_of(seen)
        assert len(shown) == len(set(shown))
        left = set(listed) if state is State.ACTIVE else set(listed) - set(gone)
        assert left <= set(shown)

    async def test_what_is_taken_meanwhile_does_not_shift_the_rest(self, stage: Stage) -> None:
        """Workers empty the front of the line while it is read."""
        await fill(stage, State.WAITING, "a", 30)
        page = await stage.inspect.list(QUEUE, [State.WAITING], limit=7)
        seen = list(page.jobs)
        await stage.worker().take(10)
        await rest(stage, seen, page.cursor, [State.WAITING], False)
        assert ids_of(seen) == [f"a{number}" for number in (*range(7), *range(10, 30))]

    async def test_filters_hold_on_every_page(self, stage: Stage) -> None:
        """Jobs of a name are all found, in whatever numbers the pages come."""
        await stage.add(*(job(f"j{number}", name="rare" if number % 9 == 0 else "often") for number in range(100)))
        seen: list[Job] = []
        cursor: str | None = None
        for _ in range(100):
            page = await stage.inspect.list(QUEUE, [State.WAITING], limit=3, cursor=cursor, name="rare")
            seen += page.jobs
            cursor = page.cursor
            if cursor is None:
                break
        assert ids_of(seen) == [f"j{number}" for number in range(0, 100, 9)]

    async def test_a_cursor_belongs_to_its_listing(self, stage: Stage) -> None:
        """The cursor of other states, of another direction, or no cursor at all is refused with a reason."""
        await fill(stage, State.WAITING, "a", 10)
        cursor = (await stage.inspect.list(QUEUE, [State.WAITING], limit=3)).cursor
        assert cursor is not None
        with pytest.raises(ConfigError):
            await stage.inspect.list(QUEUE, [State.COMPLETED], limit=3, cursor=cursor)
        with pytest.raises(ConfigError):
            await stage.inspect.list(QUEUE, [State.WAITING], limit=3, cursor=cursor, newest_first=True)
        for nonsense in ("banana", "", "{}", "1:2:3:4:5:6", "%00", cursor + "x"):
            with pytest.raises(ConfigError):
                await stage.inspect.list(QUEUE, [State.WAITING], limit=3, cursor=nonsense)
