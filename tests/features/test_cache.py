"""The cache as an application uses it: values, tags, functions whose results are kept."""

import asyncio
import logging
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from pydantic import BaseModel

from toril import ConfigError, InvalidResult, Settings, Toril
from toril.settings import CacheSettings
from toril.testing.clock import ManualClock


class User(BaseModel):
    id: int
    name: str


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def timed(clock: ManualClock) -> AsyncIterator[Toril]:
    """In memory, on a clock moved by hand."""
    async with Toril("sqlite://", clock=clock) as app:
        yield app


async def test_values_are_set_read_and_deleted(toril: Toril) -> None:
    # S3-29, S4-13
    cache = toril.cache
    assert await cache.get("a") is None
    assert await cache.get("a", 7) == 7
    await cache.set("a", {"n": [1, "ü", None]}, ttl=60)
    await cache.set_many({"b": 2, "c:1": 3}, ttl="1m")
    assert await cache.get("a") == {"n": [1, "ü", None]}
    assert await cache.get_many(["c:1", "none", "a", "b"]) == {"c:1": 3, "a": {"n": [1, "ü", None]}, "b": 2}
    assert await cache.delete("a", "none") == 1
    assert await cache.get_many(["a", "b"]) == {"b": 2}
    assert await cache.delete_prefix("c:") == 1
    assert await cache.get("c:1") is None
    assert await cache.clear() == 1
    assert await cache.count() == 0


async def test_a_value_is_checked_by_its_type(toril: Toril) -> None:
    await toril.cache.set("ada", User(id=1, name="Ada"), type=User)
    assert await toril.cache.get("ada", type=User) == User(id=1, name="Ada")
    assert await toril.cache.get("ada") == {"id": 1, "name": "Ada"}
    assert await toril.cache.get("ada", "?", type=list[int]) == "?"
    with pytest.raises(InvalidResult):
        await toril.cache.set("x", float("nan"))
    with pytest.raises(InvalidResult):
        await toril.cache.set("x", User(id=1, name="Ada"), type=int)


@pytest.mark.parametrize(
    ("name", "ttl", "seconds"),
    [
        ("automations", "1h", 3600),  # S2-01
        ("user-state", "10m", 600),  # S2-02
        ("contact", "5m", 300),  # S2-03
        ("workspace", "1h", 3600),  # S2-04
        ("default", None, 3600),  # S3-29
    ],
)
async def test_a_value_lives_as_long_as_it_was_given(
    timed: Toril, clock: ManualClock, name: str, ttl: str | None, seconds: int
) -> None:
    await timed.cache.set(name, 1, ttl=ttl)
    clock.advance(seconds - 1)
    assert await timed.cache.get(name) == 1
    clock.advance(1)
    assert await timed.cache.get(name) is None


async def test_tags_are_given_up_in_one_step(toril: Toril) -> None:
    # S3-31, S4-23
    cache = toril.cache
    await cache.set("conversation:7", "hi", tags=["conversation:7", "user:42:conversations"])
    await cache.set("list:42", ["7"], tags=["user:42:conversations"])
    await cache.set("list:43", ["8"], tags=["user:43:conversations"])
    assert len(await cache.get_many(["conversation:7", "list:42", "list:43"])) == 3
    await cache.invalidate("conversation:7", "user:42:conversations")
    assert await cache.get_many(["conversation:7", "list:42", "list:43"]) == {"list:43": ["8"]}
    await cache.set("list:42", ["9"], tags=["user:42:conversations"])
    assert await cache.get("list:42") == ["9"]


async def test_a_tag_that_was_lost_takes_its_values_along(toril: Toril) -> None:
    await toril.cache.set("a", 1, tags=["t"])
    await toril.engine.keyvalue.delete(["cache:app:t:t"])
    toril.cache.local.clear()
    assert await toril.cache.get("a") is None


async def test_results_are_kept_by_their_arguments(toril: Toril) -> None:
    # S4-03
    calls: list[tuple[object, ...]] = []

    @toril.cached(ttl="5m")
    async def answer(question: str, temperature: int | bool | None = 0) -> str:
        calls.append((question, temperature))
        return f"{question} {temperature!r}"

    for _ in range(3):
        assert await answer("why") == "why 0"
        assert await answer("why", 0) == "why 0"
        assert await answer(question="why", temperature=0) == "why 0"
        assert await answer("why", False) == "why False"
        assert await answer("why", temperature=None) == "why None"
    assert calls == [("why", 0), ("why", False), ("why", None)]
    await answer.invalidate("why", False)
    assert await answer("why", False) == "why False"
    assert len(calls) == 4


async def test_arguments_of_any_kind_make_a_key(toril: Toril) -> None:
    calls: list[object] = []

    @toril.cached(ttl="5m")
    async def seen(user: User, ids: list[UUID], options: dict[str, int]) -> User | None:
        calls.append(ids)
        return user

    one, two = UUID(int=1), UUID(int=2)
    for ids in ([one], [one], [two], [one, two]):
        assert await seen(User(id=1, name="Ada"), ids, {"a": 1}) == User(id=1, name="Ada")
    assert calls == [[one], [two], [one, two]]
    with pytest.raises(TypeError):
        await seen(User(id=1, name="Ada"))  # type: ignore[call-arg]


async def test_key_and_tag_templates(toril: Toril) -> None:
    made: list[int] = []

    @toril.cached(ttl="5m", key="page:{user.id}:{part}", tags=["user:{user.id}", "pages"])
    async def page(user: User, part: str, verbose: bool = False) -> str:
        made.append(user.id)
        return f"{part} of {user.name}"

    ada = User(id=1, name="Ada")
    assert page.key(ada, "a:b") == "page:1:a%3Ab"
    assert page.tags(ada, "x") == ("pages", "user:1")
    assert await page(ada, "x") == await page(ada, "x", verbose=True) == "x of Ada"
    assert await toril.cache.get("page:1:x") == "x of Ada"
    for drop in (toril.cache.invalidate("user:1"), toril.cache.delete("page:1:x"), toril.cache.delete_prefix("page:")):
        await drop
        await page(ada, "x")
    await toril.cache.invalidate("user:2")
    await page(ada, "x")
    assert made == [1] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl": 0}, "ttl: expected a time above 0"),
        ({"ttl": "soon"}, "ttl: expected seconds"),
        ({"ttl": 1, "key": "{nobody}"}, "names 'nobody', which is no parameter; expected one of user_id"),
        ({"ttl": 1, "tags": ["user:{user}"]}, "the tag 'user:{user}' names 'user'"),
        ({"ttl": 1, "key": "{user_id:>9}"}, "has a format"),
        ({"ttl": 1, "key": "{"}, "cannot be read"),
        ({"ttl": 1, "key": ""}, "not empty"),
        ({"ttl": 1, "early": 1}, "early: expected"),
        ({"ttl": 1, "single_flight": "no"}, "single_flight: expected"),
        ({"ttl": 1, "stale": "900d"}, "stale: expected at most 366 days"),
    ],
)
def test_a_wrong_declaration_fails_where_it_is_written(options: dict[str, object], message: str) -> None:
    toril = Toril("sqlite://")
    with pytest.raises(ConfigError, match=message):

        @toril.cached(**options)  # type: ignore[arg-type]
        async def load(user_id: str) -> int:
            return 1


def test_functions_that_cannot_be_kept_are_refused() -> None:
    toril = Toril("sqlite://")

    async def stream() -> AsyncIterator[int]:
        yield 1

    async def any_number(*numbers: int) -> int:
        return sum(numbers)

    async def no_json() -> object:
        return object()

    with pytest.raises(ConfigError, match="yields"):
        toril.cached(ttl=1)(stream)
    with pytest.raises(ConfigError, match="takes \\*numbers"):
        toril.cached(ttl=1)(any_number)
    with pytest.raises(ConfigError, match="expected a function"):
        toril.cached(ttl=1)(User)


async def test_methods_are_kept_for_the_class(toril: Toril) -> None:
    class Desk:
        calls = 0

        @toril.cached(ttl="5m", tags=["user:{user_id}"])
        async def user(self, user_id: int) -> str:
            Desk.calls += 1
            return f"user {user_id}"

    assert [await Desk().user(1), await Desk().user(1), await Desk().user(user_id=1)] == ["user 1"] * 3
    assert Desk.calls == 1
    await Desk().user.invalidate(1)
    await Desk().user(1)
    assert Desk.calls == 2


def test_plain_functions_are_kept_too() -> None:
    toril = Toril("sqlite://")
    calls: list[int] = []

    @toril.cached(ttl="5m")
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    assert [square(3), square(3), square(n=3), square(4)] == [9, 9, 9, 16]
    square.invalidate_sync(3)
    assert square(3) == 9
    assert calls == [3, 4, 3]
    toril.close_sync()


async def test_a_thousand_who_ask_wait_for_one(toril: Toril) -> None:
    calls, gate = [], asyncio.Event()

    @toril.cached(ttl="5m")
    async def slow(n: int) -> int:
        calls.append(n)
        await gate.wait()
        return n

    asking = [asyncio.create_task(slow(1)) for _ in range(1_000)]
    while not calls:
        await asyncio.sleep(0)
    asking[0].cancel()
    gate.set()
    values = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(values[0], asyncio.CancelledError)
    assert values[1:] == [1] * 999
    assert calls == [1]


async def test_an_error_reaches_all_and_is_not_kept(toril: Toril) -> None:
    calls: list[int] = []

    @toril.cached(ttl="5m")
    async def broken(n: int) -> int:
        calls.append(n)
        raise LookupError(f"no {n}")

    errors = await asyncio.gather(*(broken(1) for _ in range(50)), return_exceptions=True)
    assert {repr(error) for error in errors} == {"LookupError('no 1')"}
    assert calls == [1]
    with pytest.raises(LookupError, match="no 1") as caught:
        await broken(1)
    assert caught.traceback[-1].name == "broken"
    assert len(calls) == 2


async def test_what_was_deleted_meanwhile_is_not_kept(toril: Toril) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    database = {"n": 1}

    @toril.cached(ttl="5m", key="n", tags=["t"])
    async def load() -> int:
        found = database["n"]
        begun.set()
        await gate.wait()
        return found

    for drop in (toril.cache.delete("n"), toril.cache.invalidate("t")):
        before = asyncio.create_task(load())
        await begun.wait()
        database["n"] += 1
        await drop
        gate.set()
        assert await before == database["n"] - 1
        assert await load() == database["n"]
        await toril.cache.delete("n")
        begun.clear()
        gate.clear()


async def test_get_or_set_with_a_key_of_your_own(toril: Toril) -> None:
    calls: list[int] = []

    async def load() -> list[User]:
        calls.append(1)
        return [User(id=1, name="Ada")]

    for _ in range(3):
        users = await toril.cache.get_or_set("users", load, ttl="1m", tags=["users"], type=list[User])
        assert users == [User(id=1, name="Ada")]
    assert calls == [1]
    await toril.cache.invalidate("users")
    await toril.cache.get_or_set("users", load, ttl="1m", tags=["users"], type=list[User])
    assert calls == [1, 1]


async def test_big_values_and_long_keys(toril: Toril) -> None:
    text, key = "dull " * 100_000, "k" * 2_000
    await toril.cache.set(key, text)
    await toril.cache.set(key + "x", "other")
    toril.cache.local.clear()
    assert await toril.cache.get_many([key, key + "x"]) == {key: text, key + "x": "other"}
    [stored] = await toril.engine.keyvalue.get(
        (await toril.engine.keyvalue.scan("cache:app:v:kkk", now=toril.clock.now_ms())).keys[:1],
        now=toril.clock.now_ms(),
    )
    assert stored is not None
    assert len(stored) < len(text) / 10
    assert await toril.cache.delete_prefix("kkkk") == 2


async def test_warming_up_tells_its_counts(toril: Toril, caplog: pytest.LogCaptureFixture) -> None:
    # S2-16
    caplog.set_level(logging.INFO, "toril.cache")
    never = asyncio.Event()

    @toril.cache.warm_up
    async def automations() -> int:
        await toril.cache.set_many({f"automation:{n}": n for n in range(1247)})
        return 1247

    @toril.cache.warm_up
    async def workspaces() -> int:
        return 594

    @toril.cache.warm_up
    async def broken() -> int:
        raise LookupError("no table")

    assert await toril.cache.warm() == {"automations": 1247, "workspaces": 594}
    assert await toril.cache.get("automation:1000") == 1000

    @toril.cache.warm_up
    async def endless() -> int:
        await never.wait()
        return 0

    assert await toril.cache.warm(timeout=2) == {"automations": 1247, "workspaces": 594}
    assert "Warmed up the cache: 1247 automations, 594 workspaces in" in caplog.text
    assert "broken failed: LookupError('no table')" in caplog.text
    assert "endless was not done within 2 s" in caplog.text
    with pytest.raises(ConfigError, match="'broken' already"):
        toril.cache.warm_up(broken)


async def test_statistics(toril: Toril) -> None:
    # S4-11
    @toril.cached(ttl="5m", name="users")
    async def load(n: int) -> int:
        return n

    for n in (1, 2, 1, 1):
        await load(n)
    stats = await toril.cache.stats()
    users = stats.names["users"]
    assert (users.hits, users.misses, users.loads, users.hit_rate) == (2, 2, 2, 0.5)
    assert (stats.hits, stats.misses, stats.hit_rate, stats.keys) == (2, 2, 0.5, 2)
    assert stats.bytes > 0
    assert stats.store_ready
    assert toril.cache.stats_here() == stats


async def test_a_cache_that_is_turned_off_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_CACHE", "true")
    calls: list[int] = []
    async with Toril("sqlite://") as toril:

        @toril.cached(ttl="5m")
        async def load(n: int) -> int:
            calls.append(n)
            return n

        assert [await load(1), await load(1)] == [1, 1]
        await toril.cache.set("a", 1)
        assert await toril.cache.get("a") is None
        assert await toril.cache.delete("a") == 0
    assert calls == [1, 1]
    assert Settings(cache=CacheSettings(enabled=True)).cache.enabled
