"""The public surface is a list that somebody decided on: `public_names.txt`."""

from pathlib import Path

import toril
from tests.layout.sources import listed

NAMES = Path(__file__).with_name("public_names.txt")


def test_public_names_equal_the_checked_in_list() -> None:
    assert sorted(toril.__all__) == listed(NAMES)


def test_every_public_name_exists_and_is_documented() -> None:
    undocumented = [name for name in toril.__all__ if not (getattr(toril, name).__doc__ or "").strip()]
    assert undocumented == []


def test_the_package_is_typed() -> None:
    assert Path(toril.__file__).with_name("py.typed").is_file()
