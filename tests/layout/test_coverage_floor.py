"""The coverage floor can be raised and cannot be lowered."""

import subprocess
from pathlib import Path

import pytest

from scripts import coverage_floor


@pytest.fixture
def floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a floor file in a repository of its own, committed at 80 and then at 90."""
    file = tmp_path / "floor"
    git = ["git", "-c", "user.name=T", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    for percent in ("80.0\n", "90.0\n"):
        file.write_text(percent)
        subprocess.run(["git", "add", "floor"], cwd=tmp_path, check=True)
        subprocess.run([*git, "commit", "-q", "-m", percent], cwd=tmp_path, check=True)
    monkeypatch.setattr(coverage_floor, "ROOT", tmp_path)
    monkeypatch.setattr(coverage_floor, "FLOOR", file)
    return file


@pytest.mark.usefixtures("floor")
@pytest.mark.parametrize(
    ("percent", "written", "problem"),
    [
        (90.0, 90.0, None),
        (95.0, 94.0, None),
        (89.9, 90.0, "expected at least 90.0 %, found 89.90 %"),
        (95.0, 85.0, "may only rise: expected at least 90.0, found 85.0"),
    ],
)
def test_the_floor_only_rises(percent: float, written: float, problem: str | None) -> None:
    said = coverage_floor.check(percent, written)
    assert said is None if problem is None else said is not None and problem in said


def test_raising_never_lowers(floor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["coverage_floor.py", "raise"])
    for percent, expected in ((88.0, 90.0), (93.7, 93.5)):
        monkeypatch.setattr(coverage_floor, "reached", lambda percent=percent: percent)
        assert coverage_floor.main() == 0
        assert float(floor.read_text()) == expected


def test_the_committed_floor_is_a_percentage() -> None:
    assert 0 <= float(coverage_floor.FLOOR.read_text()) <= 100
