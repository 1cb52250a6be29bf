"""Files and functions stay small enough to be read at once, and modules are named for what they hold."""

from tests.layout.sources import functions, python_files, shown

MAX_FILE = 400
MAX_FUNCTION = 60
FORBIDDEN = {"base", "common", "helper", "helpers", "misc", "util", "utils"}


def test_no_file_is_above_400_lines() -> None:
    sizes = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE} == {}


def test_no_function_is_above_60_lines() -> None:
    too_long = [
        f"{shown(path, node.lineno)} {node.name}: {length} lines"
        for path in python_files()
        for node in functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION
    ]
    assert too_long == []


def test_no_module_is_named_for_nothing() -> None:
    named = [shown(path) for path in python_files() if FORBIDDEN & {path.stem.strip("_"), path.parent.name.strip("_")}]
    assert named == []


def test_the_kernel_holds_at_most_eight_files() -> None:
    kernel = [path.name for path in python_files("src/toril/kernel") if path.name != "__init__.py"]
    assert len(kernel) <= 8, kernel
