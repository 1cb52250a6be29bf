"""From what an application says to the database of its outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from toril.errors import ConfigError
from toril.outbox.plain import PlainDatabase
from toril.outbox.table import Database


def database_of(given: object) -> Database:
    """A URL of SQLAlchemy, an engine of it (async or not), or a function that makes connections of a driver.

    Raises ConfigError.
    """
    if callable(given) and not hasattr(given, "dialect"):
        connect: Callable[[], Any] = given
        return PlainDatabase(connect)
    try:
        from toril.outbox.alchemy import AlchemyDatabase, is_engine
    except ImportError:
        raise ConfigError(
            "The outbox's database is named by a URL, which needs SQLAlchemy: pip install 'toril[sqlalchemy]', or give "
            "Toril(outbox=…) a function that makes connections."
        ) from None
    if not isinstance(given, str) and not is_engine(given):
        raise ConfigError(
            "Toril(outbox=…): expected a URL, an engine of SQLAlchemy or a function that makes connections, got "
            f"{given!r}."
        )
    return AlchemyDatabase(given)
