"""The migration of the docs makes, and takes back, the outbox's table."""

from __future__ import annotations

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, inspect

from tests.docs.pages import DOCS, parts


def test_the_migration_of_the_docs_works(tmp_path: Path) -> None:
    [text] = [part.text for part in parts(DOCS / "how-to" / "outbox.md") if part.title.endswith("_outbox.py")]
    migration: dict[str, object] = {}
    exec(compile(text, "0007_outbox.py", "exec"), migration)
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        for name, there in (("upgrade", True), ("downgrade", False)):
            step = migration[name]
            assert callable(step)
            step()
            assert inspect(connection).has_table("toril_outbox") is there
    engine.dispose()
