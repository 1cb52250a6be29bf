"""`toril jobs enqueue` adds jobs of the application's tasks, with arguments checked as in code."""

from pathlib import Path

import pytest

from tests.cli.stored import answer, toril, url_of
from toril.kernel.ids import token_hex

SOURCE = """
from toril import Toril
toril = Toril({url!r})

@toril.task(queue="docs")
async def generate(url: str, depth: int = 2, tags: list[str] | None = None) -> int:
    return depth
"""


@pytest.fixture
def app(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an application of this test's own."""
    module = f"shop_{token_hex()}"
    (path.parent / f"{module}.py").write_text(SOURCE.format(url=url_of(path)), encoding="utf-8")
    monkeypatch.chdir(path.parent)
    monkeypatch.syspath_prepend(str(path.parent))
    return f"{module}:toril"


def test_text_and_json_arguments_are_stored_by_type(app: str, path: Path) -> None:
    added = answer("jobs", "enqueue", "generate", "url=https://a?b=c", "depth=3", 'tags:=["x", "y"]', "-A", app)
    assert (added["queue"], added["name"]) == ("docs", "generate")
    job = answer("jobs", "show", added["id"], "--url", url_of(path))
    assert job["arguments"] == {"url": "https://a?b=c", "depth": 3, "tags": ["x", "y"]}
    assert job["state"] == "waiting"


def test_all_arguments_as_one_object_and_options(app: str, path: Path) -> None:
    options = ("--id", "mine", "--delay", "10m", "--priority", "4")
    result = toril("jobs", "enqueue", "generate", "--data", '{"url": "u"}', *options, "-A", app)
    assert result.exit_code == 0
    assert result.stdout == "mine  generate in docs\n"
    job = answer("jobs", "show", "mine", "--url", url_of(path))
    assert (job["state"], job["priority"], job["arguments"]) == ("delayed", 4, {"url": "u"})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generate"], "url: Field required"),
        (["generate", "url=u", "depth=deep"], "depth: Input should be a valid integer"),
        (["generate", "url=u", "deppth=1"], "did you mean depth"),
        (["genrate", "url=u"], "did you mean 'generate'"),
        (["generate", "url"], "NAME=TEXT or NAME:=JSON"),
        (["generate", "=u"], "NAME=TEXT or NAME:=JSON"),
        (["generate", "url=u", "url=v"], "given twice"),
        (["generate", "tags:=[1"], "tags: expected JSON after ':='"),
        (["generate", "--data", "[1]"], "--data: expected a JSON object"),
        (["generate", "url=u", "--data", "{}"], "found both"),
        (["generate", "url=u", "--delay", "soon"], "delay: expected"),
        (["generate", "url=u", "--priority", "-1"], "priority: expected"),
        (["generate", "url=u", "--url", "sqlite:///x.db"], "leave out --url"),
    ],
)
def test_each_mistake_is_one_sentence_and_stores_nothing(
    arguments: list[str], sentence: str, app: str, path: Path
) -> None:
    result = toril("jobs", "enqueue", *arguments, "-A", app)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert not path.exists() or answer("stats", "--url", url_of(path))["stats"]["total"] == 0


def test_without_an_application_there_are_no_tasks() -> None:
    result = toril("jobs", "enqueue", "generate")
    assert result.exit_code == 2
    assert "--app module:attribute or in TORIL_APP" in result.stderr


def test_nobody_to_wait_for_is_told(app: str) -> None:
    result = toril("jobs", "enqueue", "generate", "url=u", "--wait", "0.05", "-A", app)
    assert result.exit_code == 2
    assert "error:" in result.stderr
