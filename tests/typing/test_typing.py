"""Types reach from the decorator to the result: checked by mypy and by pyright."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ACCEPTED, REFUSED = HERE / "accepted.py", HERE / "refused.py"


def expected(path: Path) -> set[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


@pytest.fixture(scope="module")
def mypy_says(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `mypy --strict` says about both files; warm after the first run of a day, thanks to its cache."""
    options = [
        "--strict",
        f"--config-file={ROOT / 'pyproject.toml'}",
        f"--cache-dir={ROOT / '.mypy_cache'}",
        "--no-error-summary",
        "--hide-error-context",
        "--no-color-output",
    ]
    out, err, _ = api.run([*options, str(ACCEPTED), str(REFUSED)])
    assert err == ""
    return out


def errors_in(said: str, path: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for line in said.splitlines():
        name, number, kind, *text = line.split(":", 3)
        if kind.strip() == "error" and Path(name).name == path.name:
            found.setdefault(int(number), "".join(text))
    return found


# The first run of a checkout has to check the whole package.
@pytest.mark.timeout(120)
def test_mypy_accepts_what_is_right(mypy_says: str) -> None:
    # A09
    assert errors_in(mypy_says, ACCEPTED) == {}


@pytest.mark.timeout(120)
def test_mypy_refuses_what_is_wrong(mypy_says: str) -> None:
    # A09
    found = errors_in(mypy_says, REFUSED)
    assert set(found) == expected(REFUSED), found
    assert len(found) >= 19


@pytest.mark.timeout(120)
def test_pyright_sees_the_same(tmp_path: Path) -> None:
    # basedpyright is pyright in a wheel: it loads nothing from elsewhere when it runs.
    # A09
    command = Path(sys.executable).with_name("basedpyright")
    if not command.exists():
        pytest.skip("basedpyright is not installed: run make setup")
    project = tmp_path / "pyrightconfig.json"
    project.write_text(
        json.dumps({"include": [str(ACCEPTED), str(REFUSED)], "typeCheckingMode": "standard", "extraPaths": ["src"]})
    )
    ran = subprocess.run(
        [command, "--outputjson", "--pythonpath", sys.executable, "--project", project],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [one for one in json.loads(ran.stdout)["generalDiagnostics"] if one["severity"] == "error"]
    found = {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in errors}
    assert found == {(REFUSED.name, number) for number in expected(REFUSED)}, errors
