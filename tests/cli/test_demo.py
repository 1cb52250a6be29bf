"""`toril demo` finds the example application wherever Toril was installed from."""

import sys
from pathlib import Path

import pytest

from tests.cli.stored import toril
from toril.cli.demo import find_docsnap
from toril.errors import ConfigError


def place(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "demo.py").touch()
    return folder


def test_the_shipped_one_wins_over_the_checkout(tmp_path: Path) -> None:
    package = tmp_path / "src" / "toril"
    checkout = place(tmp_path / "examples" / "docsnap")
    assert find_docsnap(package) == checkout
    shipped = place(package / "demo" / "docsnap")
    assert find_docsnap(package) == shipped


def test_an_installation_without_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected it in"):
        find_docsnap(tmp_path / "src" / "toril")


def test_options_reach_the_demo_and_its_exit_code_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def main(**options: object) -> int:
        seen.update(options)
        return 3

    monkeypatch.setattr("docsnap.demo.main", main)
    result = toril("demo", "--once", "--port", "8123", "--data", str(tmp_path))
    assert result.exit_code == 3
    assert seen == {"once": True, "port": 8123, "data_dir": tmp_path}


def test_a_library_that_is_missing_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place(tmp_path / "demo" / "docsnap")
    (folder / "__init__.py").touch()
    (folder / "demo.py").write_text("import surely_not_installed\n", encoding="utf-8")
    monkeypatch.setattr("toril.cli.demo._PACKAGE", tmp_path)
    monkeypatch.setattr("sys.path", [str(folder.parent), *sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "docsnap"]:
        monkeypatch.delitem(sys.modules, name)
    result = toril("demo")
    assert result.exit_code == 2
    assert "needs the package 'surely_not_installed'" in result.stderr
