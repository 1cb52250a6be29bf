"""The SQLite engine against the suite, in memory and on a file."""

from itertools import count
from pathlib import Path

import pytest

from toril.engine.protocol import Engine
from toril.engine.sqlite.engine import SqliteEngine
from toril.kernel.clock import Clock
from toril.testing.conformance.factory import EngineFactory
from toril.testing.conformance.suite import Conformance


class SqliteEngines(EngineFactory):
    """Opens databases in a folder, or in memory without one."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.numbers = count()

    async def open(self, clock: Clock) -> Engine:
        return await started(None if self.folder is None else self.folder / f"{next(self.numbers)}.db")

    async def second(self, engine: Engine) -> Engine:
        return await started(Path(engine.location))

    async def reopen(self, engine: Engine) -> Engine:
        await engine.close()
        return await started(Path(engine.location))


async def started(path: Path | None) -> Engine:
    engine = SqliteEngine(path)
    await engine.start()
    return engine


class TestSqliteMemory(Conformance):
    @pytest.fixture
    def engines(self) -> EngineFactory:
        return SqliteEngines(None)


class TestSqliteFile(Conformance):
    @pytest.fixture
    def engines(self, tmp_path: Path) -> EngineFactory:
        return SqliteEngines(tmp_path)
