"""Which Python files have changed, for `--reload`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from toril.errors import ConfigError


def watching(folders: Sequence[Path]) -> Callable[[], AsyncIterator[list[str]]]:
    """What yields the `.py` files below `folders` that were changed, added or deleted, each time that some were.

    Raises ConfigError when a folder is missing, or the library that watches (extra `reload`).
    """
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError:
        raise ConfigError("--reload needs a package that watches files: pip install 'toril[reload]'.") from None
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--reload-dir: expected a folder, got {str(folder)!r}.")

    async def changes() -> AsyncIterator[list[str]]:
        async for found in awatch(*folders, watch_filter=PythonFilter()):
            yield sorted({path for _, path in found})

    return changes
