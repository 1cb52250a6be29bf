"""No statement reads more than it is asked for: every access to a growing table goes through an index."""

from __future__ import annotations

import re
import sqlite3

import pytest

from toril.engine.sqlite.migrate import migrate
from toril.engine.sqlite.statements import load

FILES = ("jobs", "inspect", "bus", "keyvalue", "unique", "limits", "channels")
# Both belong to emptying a whole queue, which touches everything of it anyway.
WHOLE = {"obliterate_exchanges"}
GROWING = re.compile(r"SCAN (jobs|events|logs|batches|exchanges|keyvalue|unique_keys|channels|messages)\b")


@pytest.mark.parametrize("file", FILES)
def test_statements_search_instead_of_scanning(file: str) -> None:
    # S4-05
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, "memory")
    for name, sql in load(file).items():
        text = sql.replace("{rows}", "(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)")
        values = dict.fromkeys(re.findall(r":(\w+)", text), "1")
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
        if name not in WHOLE:
            assert not [step for step in plan if GROWING.search(step)], f"{file}.{name}: {plan}"
        # An id that is asked for is looked up by id: the index of states would walk through the whole queue.
        if "asked" in text and "jobs" in text:
            assert any("autoindex_jobs_1 (id=?" in step or "PRIMARY KEY (rowid=?" in step for step in plan), plan
    connection.close()
