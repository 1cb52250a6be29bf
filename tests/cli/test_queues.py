"""`toril queues`: looking, pausing, and deleting in bulk with a confirmation."""

import asyncio
from pathlib import Path

import pytest

from tests.cli.stored import answer, toril
from toril.app import Toril
from toril.jobs.telling import Told


def counts(url: str) -> dict[str, int]:
    [queue] = answer("queues", "list", "--url", url)
    return {state: count for state, count in queue.items() if isinstance(count, int) and count}


def test_list_shows_the_counts_of_each_queue(url: str) -> None:
    shown = toril("queues", "list", "--url", url).stdout
    assert "docs" in shown
    assert "WAITING" in shown
    [queue] = answer("queues", "list", "--url", url)
    assert queue["paused"] is False
    expected = {"waiting": 2, "prioritized": 1, "delayed": 1, "active": 1, "completed": 1, "failed": 1}
    assert {state: queue[state] for state in expected} == expected
    assert queue["total"] == 7


def test_what_holds_for_a_queue_is_shown(url: str, path: Path) -> None:
    assert {"concurrency": None, "rate": None, "events": "all", "maintainer": None}.items() <= answer(
        "queues", "list", "--url", url
    )[0].items()

    async def rule() -> None:
        async with Toril(url) as app:
            now = app.clock.now_ms()
            await app.queue("docs").set_limits(concurrency=5, rate="1000/15m")
            await app.engine.inspect.set_told("docs", Told.FINISHED, now=now)
            assert (await app.engine.leases.hold("docs", "box-1-ab", ttl_ms=60_000, now=now)).mine

    asyncio.run(rule())
    expected = {"concurrency": 5, "rate": "1000/15m", "events": "finished", "maintainer": "box-1-ab"}
    for queue in (answer("queues", "list", "--url", url)[0], answer("stats", "--url", url)["queues"][0]):
        assert expected.items() <= queue.items()
    for command in (("queues", "list"), ("stats",)):
        shown = " ".join(toril(*command, "--url", url).stdout.split())
        for word in ("5 at once", "1000/15m", "events", "finished", "MAINTAINED", "box-1-ab"):
            assert word in shown, word
    [check] = [one for one in answer("doctor", "--url", url)["checks"] if one["name"] == "queue docs"]
    assert "; 5 at once, 1000/15m, events finished; maintained by box-1-ab" in check["found"]


def test_pause_and_resume(url: str) -> None:
    assert toril("queues", "pause", "docs", "--url", url).exit_code == 0
    assert answer("queues", "list", "--url", url)[0]["paused"] is True
    assert "paused" in toril("queues", "list", "--url", url).stdout
    assert toril("queues", "resume", "docs", "--url", url).exit_code == 0
    assert answer("queues", "list", "--url", url)[0]["paused"] is False


def test_a_misspelt_queue_is_refused_with_the_known_names(url: str) -> None:
    for command in ("pause", "resume", "drain", "clean", "obliterate"):
        result = toril("queues", command, "dosc", "--url", url)
        assert result.exit_code == 2, command
        assert "Known queues: docs" in result.stderr, command


@pytest.mark.parametrize(
    ("arguments", "deleted", "left"),
    [
        (["drain", "docs"], 3, {"delayed": 1, "active": 1, "completed": 1, "failed": 1, "total": 4}),
        (["drain", "docs", "--delayed"], 4, {"active": 1, "completed": 1, "failed": 1, "total": 3}),
        (["clean", "docs"], 1, {"waiting": 2, "prioritized": 1, "delayed": 1, "active": 1, "failed": 1, "total": 6}),
        (["clean", "docs", "-s", "failed", "--older-than", "3h"], 0, None),
        (["clean", "docs", "-s", "failed", "--older-than", "1h"], 1, None),
    ],
)
def test_deleting_says_before_and_after_how_many(
    arguments: list[str], deleted: int, left: dict[str, int] | None, url: str
) -> None:
    before = counts(url)
    dry = answer("queues", *arguments, "--dry-run", "--url", url)
    assert dry == {"queue": "docs", "wouldDelete": deleted}
    assert counts(url) == before
    assert answer("queues", *arguments, "--yes", "--url", url) == {"queue": "docs", "deleted": deleted}
    assert counts(url)["total"] == before["total"] - deleted
    if left is not None:
        assert counts(url) == left


def test_the_queue_name_must_be_typed(url: str) -> None:
    # S0-26
    for typed in ("docz\n", "y\n", "\n", ""):
        result = toril("queues", "drain", "docs", "--url", url, typed=typed)
        assert result.exit_code == 1
        assert "This deletes 3 waiting jobs of docs" in result.stderr
        assert "nothing was changed" in result.stderr
        assert counts(url)["total"] == 7
    result = toril("queues", "drain", "docs", "--url", url, typed="docs\n")
    assert result.exit_code == 0
    assert "Deleted 3 waiting jobs of docs." in result.stdout
    assert counts(url)["total"] == 4


def test_obliterate_wants_force_while_jobs_run(url: str) -> None:
    result = toril("queues", "obliterate", "docs", "--yes", "--url", url)
    assert result.exit_code == 2
    assert "error:" in result.stderr
    assert counts(url)["total"] == 7
    assert answer("queues", "obliterate", "docs", "--yes", "--force", "--url", url) == {"queue": "docs", "deleted": 7}
    assert "No queues yet." in toril("queues", "list", "--url", url).stdout


def test_a_duration_that_is_none_is_refused(url: str) -> None:
    result = toril("queues", "clean", "docs", "--older-than", "soon", "--url", url)
    assert result.exit_code == 2
    assert "--older-than" in result.stderr
