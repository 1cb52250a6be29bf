"""`toril breakers`: looking at breakers, and deciding."""  # S4-22

import asyncio

import pytest

from tests.cli.stored import answer, toril
from toril import Toril


async def break_down() -> None:
    raise ConnectionError("refused by [api] with token=abc123")


async def make(url: str) -> None:
    async with Toril(url) as app:
        breaker = app.breaker("AI-openai", volume=2, reset_after="1h")
        for _ in range(2):
            await breaker.call(break_down, fallback=None)
        await app.breakers.told()


@pytest.fixture
def broken(url: str) -> str:
    asyncio.run(make(url))
    return url


def test_list_and_decide(broken: str) -> None:
    shown = toril("breakers", "list", "--url", broken).stdout
    assert "AI-openai" in shown
    assert "open" in shown
    [found] = answer("breakers", "list", "--url", broken)
    assert (found["name"], found["state"], found["forced"]) == ("AI-openai", "open", None)
    assert found["lastError"] == "ConnectionError: refused by [api] with token=***"
    for command, state, forced in (("close", "closed", "closed"), ("open", "open", "open"), ("reset", "closed", None)):
        assert "AI-openai" in toril("breakers", command, "AI-openai", "--url", broken).stdout
        [found] = answer("breakers", "list", "--url", broken)
        assert (found["state"], found["forced"]) == (state, forced)


def test_doctor_tells_what_is_open(broken: str) -> None:
    [told] = [one for one in answer("doctor", "--url", broken)["checks"] if one["name"] == "breakers"]
    assert told["level"] == "warn"
    assert "AI-openai: ConnectionError" in told["found"]


def test_an_empty_list_says_so(url: str) -> None:
    assert "No breakers yet." in toril("breakers", "list", "--url", url).stdout
