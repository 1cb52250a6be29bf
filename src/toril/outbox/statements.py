"""SQL of the outbox lies in `sql/*.sql`, each statement under a line `-- name: …`, with its values as `:name`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from toril.errors import ConfigError

DIALECTS = ("postgresql", "mysql", "sqlite")
DEFAULT_TABLE = "toril_outbox"
_NAMES = {"mariadb": "mysql", "psycopg": "postgresql", "psycopg2": "postgresql", "pg8000": "postgresql"}
_NAMES |= {"sqlite3": "sqlite", "pysqlite3": "sqlite", "pymysql": "mysql", "MySQLdb": "mysql"}
_HEADER = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_VALUE = re.compile(r"(?<!:):(\w+)")
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")


def dialect_of(name: str) -> str:
    """Our name of a database, from SQLAlchemy's or the driver's. Raises ConfigError for one that is not known."""
    known = _NAMES.get(name, name)
    if known not in DIALECTS:
        raise ConfigError(f"Outbox: expected a database of {', '.join(DIALECTS)}, got {name!r}.")
    return known


def checked_table(table: str) -> str:
    """A table's name, as it may stand in SQL. Raises ConfigError."""
    if not _TABLE.fullmatch(table) or len(table) > 100:
        raise ConfigError(
            f"TORIL_OUTBOX_TABLE: expected a name such as {DEFAULT_TABLE} or app.{DEFAULT_TABLE}, got {table!r}."
        )
    return table


def create_sql(dialect: str, table: str = DEFAULT_TABLE) -> str:
    """What makes the table and its indexes on a database, as one script. Raises ConfigError."""
    return "".join(f"{statement};\n" for statement in create_statements(dialect, table))


def create_statements(dialect: str, table: str = DEFAULT_TABLE) -> list[str]:
    """The same statement by statement, for a migration. `dialect` may be SQLAlchemy's name. Raises ConfigError."""
    # An index lies in the schema of its table, and is named without it.
    bare = checked_table(table).rpartition(".")[2]
    text = _load(dialect_of(dialect))["create"].replace("INDEX {table}", f"INDEX {bare}").replace("{table}", table)
    return [statement.strip() for statement in text.split(";")]


def statements(dialect: str, table: str) -> Mapping[str, str]:
    """Every statement by its name, for one database and table."""
    lock = "" if dialect == "sqlite" else "FOR UPDATE SKIP LOCKED"
    named = _load("outbox").items()
    return {name: text.replace("{table}", table).replace("{lock}", lock).strip() for name, text in named}


def styled(sql: str, paramstyle: str) -> str:
    """A statement with its values as a driver wants them. Raises ConfigError for a style without names."""
    if paramstyle == "pyformat":
        return _VALUE.sub(r"%(\1)s", sql.replace("%", "%%"))
    if paramstyle == "named":
        return sql
    raise ConfigError(
        f"Outbox: expected a driver of the style named or pyformat, found {paramstyle!r}: use SQLAlchemy."
    )


def positional(sql: str, values: Mapping[str, object]) -> tuple[str, list[object]]:
    """The same for drivers that count their values, such as pg8000: `%s` in order."""
    order = _VALUE.findall(sql)
    return _VALUE.sub("%s", sql.replace("%", "%%")), [values[name] for name in order]


@cache
def _load(file: str) -> Mapping[str, str]:
    text = (files("toril.outbox") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEADER.split(text)
    return MappingProxyType(
        {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    )
