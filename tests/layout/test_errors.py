"""Every error of ours has a stable code of its own, and the drawing in `errors.py` shows the tree as it is."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import toril
from toril import errors
from toril.errors import TorilError

DRAWN = re.compile(r"^(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+)(?: +(?P<meaning>\S.*))?$", re.MULTILINE)


def every_error() -> list[type[TorilError]]:
    """Return each error class of the package, also those declared outside `errors.py`."""
    for module in pkgutil.walk_packages(toril.__path__, "toril."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted({TorilError, *below(TorilError)}, key=lambda cls: cls.__name__)


def below(cls: type[TorilError]) -> Iterator[type[TorilError]]:
    for child in cls.__subclasses__():
        if child.__module__.startswith("toril."):
            yield child
            yield from below(child)


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_each_code_is_the_snake_case_of_its_class() -> None:
    assert {cls.__name__: cls.code for cls in every_error()} == {c.__name__: snake(c.__name__) for c in every_error()}


def test_no_code_is_used_twice() -> None:
    codes = [cls.code for cls in every_error()]
    assert sorted(set(codes)) == sorted(codes)


def test_the_drawing_shows_the_tree_as_it_is() -> None:
    drawing = (errors.__doc__ or "").split("\n\n")[1]
    parents: list[tuple[int, str]] = []
    drawn: dict[str, tuple[str, bool]] = {}
    for match in DRAWN.finditer(drawing):
        depth, name = len(match["indent"]), match["name"]
        parents = [*(parent for parent in parents if parent[0] < depth), (depth, name)]
        drawn[name] = (parents[-2][1] if len(parents) > 1 else "Exception", "(retryable)" in (match["meaning"] or ""))
    real = {cls.__name__: (cls.__base__.__name__, cls.retryable) for cls in every_error() if cls.__base__}
    assert drawn == real


def test_every_error_is_exported() -> None:
    classes = [name for name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, TorilError)]
    assert sorted(errors.__all__) == sorted(classes)
