"""`toril schedules`: looking at schedules, running one now, removing one."""  # S3-28

import asyncio
from typing import Any

import pytest

from tests.cli.stored import answer, toril
from toril import Toril


async def make(url: str) -> None:
    async with Toril(url) as app:

        @app.task(queue="docs")
        async def cleanup(kind: str) -> None: ...

        await app.schedules.upsert("nightly", cron="0 0 1 1 *", tz="Europe/Berlin", call=cleanup.call("old"))
        await app.schedules.upsert("often", every="10m", limit=3, call=cleanup.call("[bold]new[/]"))


@pytest.fixture
def scheduled(url: str) -> str:
    asyncio.run(make(url))
    return url


def test_list(scheduled: str) -> None:
    shown = toril("schedules", "list", "--url", scheduled).stdout
    assert shown.index("often") < shown.index("nightly")
    assert "0 0 1 1 * (Europe/Berlin)" in shown
    assert "every 10 m" in shown
    assert "1/3" in shown
    found: list[dict[str, Any]] = answer("schedules", "list", "--url", scheduled)
    assert [one["id"] for one in found] == ["often", "nightly"]
    assert (found[0]["everyMs"], found[0]["limit"], found[0]["cron"]) == (600_000, 3, None)
    assert (found[1]["cron"], found[1]["tz"], found[1]["arguments"]) == ("0 0 1 1 *", "Europe/Berlin", {"kind": "old"})
    assert found[1]["next"].endswith("-12-31T23:00:00.000+00:00")
    assert answer("schedules", "list", "--queue", "other", "--url", scheduled) == []


def test_an_empty_list_says_so(url: str) -> None:
    assert "No schedules yet." in toril("schedules", "list", "--url", url).stdout


def test_show(scheduled: str) -> None:
    shown = toril("schedules", "show", "often", "--url", scheduled).stdout
    assert '{"kind":"[bold]new[/]"}' in shown
    assert "1 of 3" in shown
    assert answer("schedules", "show", "often", "--url", scheduled)["jobId"].startswith("repeat:often:")


def test_run(scheduled: str) -> None:
    before = answer("schedules", "show", "nightly", "--url", scheduled)
    ran = answer("schedules", "run", "nightly", "--url", scheduled)
    assert (ran["schedule"], ran["queue"]) == ("nightly", "docs")
    job = answer("jobs", "show", ran["jobId"], "--url", scheduled)
    assert (job["arguments"], job["state"]) == ({"kind": "old"}, "waiting")
    assert answer("schedules", "show", "nightly", "--url", scheduled) == before
    assert "is in the line of docs" in toril("schedules", "run", "nightly", "--url", scheduled).stdout


def test_remove(scheduled: str) -> None:
    assert answer("schedules", "remove", "nightly", "--url", scheduled)["removed"] is True
    assert "is removed from docs" in toril("schedules", "remove", "often", "--url", scheduled).stdout
    assert answer("schedules", "list", "--url", scheduled) == []


@pytest.mark.parametrize("command", ["show", "run", "remove"])
def test_an_unknown_id_is_refused_with_the_known_ones(command: str, scheduled: str) -> None:
    result = toril("schedules", command, "nigthly", "--url", scheduled)
    assert result.exit_code == 2
    assert "Known schedules: often, nightly" in result.stderr
