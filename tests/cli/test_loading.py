"""An application that cannot be loaded is told in one sentence."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stored import toril
from toril.cli.loading import load_app
from toril.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with its modules forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    yield tmp_path
    modules = sys.modules
    for name in [name for name, module in modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del modules[name]


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("", "nothing_here:toril", "There is no module 'nothing_here'"),
        ("import nothing_else", "mod_a:toril", "No module named 'nothing_else'"),
        ("x = 1\ny = 1 / 0", "mod_a:toril", "mod_a.py, line 2: ZeroDivisionError: division by zero"),
        ("def broken(:", "mod_a:toril", "mod_a.py, line 1: SyntaxError"),
        ("raise SystemExit('go away')", "mod_a:toril", "SystemExit: go away"),
        ("from toril import Toril\nother = Toril('sqlite://')", "mod_a:toril", "has no 'toril'. It holds mod_a:other"),
        ("toril = 3", "mod_a:toril", "to be a Toril object, found an object of type int"),
        ("from toril import Toril as toril", "mod_a:toril", "found the class Toril"),
        ("x = 3", "mod_a", "holds no Toril object"),
        ("from toril import Toril\na = Toril('sqlite://')\nb = Toril('sqlite://')", "mod_a", "holds 2 Toril objects"),
        ("", "mod_a.py", "such as app:toril"),
        ("", "folder/mod_a:toril", "such as app:toril"),
        ("", ":toril", "such as app:toril"),
        ("", "mod_a:", "such as app:toril"),
    ],
)
def test_each_mistake_is_one_sentence(source: str, target: str, sentence: str, folder: Path) -> None:
    (folder / "mod_a.py").write_text(source, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_app(target)
    assert sentence in str(caught.value)
    result = toril("worker", target)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_only_one_of_a_module_need_not_be_named(folder: Path) -> None:
    (folder / "mod_b.py").write_text("from toril import Toril\nmine = Toril('sqlite://')", encoding="utf-8")
    assert load_app("mod_b") is load_app("mod_b:mine")


def test_the_customary_name_wins_among_several(folder: Path) -> None:
    source = "from toril import Toril\ntoril = Toril('sqlite://')\nother = Toril('sqlite://')"
    (folder / "mod_c.py").write_text(source, encoding="utf-8")
    assert load_app("mod_c") is load_app("mod_c:toril")


def test_an_attribute_of_an_attribute_is_found(folder: Path) -> None:
    source = "from toril import Toril\nclass site:\n    toril = Toril('sqlite://')"
    (folder / "mod_d.py").write_text(source, encoding="utf-8")
    assert load_app("mod_d:site.toril").engine.name == "sqlite"
