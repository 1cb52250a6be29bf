"""The suite itself: nothing in it is forgotten, hidden or unexplained."""

import pkgutil
from collections import Counter
from importlib import import_module
from inspect import getmembers, isfunction

from toril.testing import conformance
from toril.testing.conformance.stage import Cases
from toril.testing.conformance.suite import Conformance


def groups() -> list[type[Cases]]:
    """Every group of cases in the package."""
    modules = [
        import_module(f"{conformance.__name__}.{each.name}") for each in pkgutil.iter_modules(conformance.__path__)
    ]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Cases) and value not in {Cases, Conformance}
    }
    return sorted(found, key=lambda group: group.__name__)


def test_every_group_is_in_the_suite() -> None:
    assert [group.__name__ for group in groups() if not issubclass(Conformance, group)] == []


def test_no_case_hides_another() -> None:
    names = Counter(name for group in groups() for name in vars(group) if name.startswith("test_"))
    assert [name for name, many in names.items() if many > 1] == []
    assert len(names) > 200


def test_every_case_says_its_rule_in_one_line() -> None:
    unsaid = [
        f"{group.__name__}.{name}"
        for group in groups()
        for name, case in getmembers(group, isfunction)
        if name.startswith("test_") and len((case.__doc__ or "").strip().splitlines()) != 1
    ]
    assert unsaid == []
