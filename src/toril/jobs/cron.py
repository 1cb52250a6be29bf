"""Cron expressions: when they are due, in a time zone.

Hours that are named are wall time: each of them is due once a day, also when clocks change. A time that the change
skips is due as much later as clocks were put forward (02:30 becomes 03:30), a time that comes twice is due the first
time. An expression for every hour goes by real time instead, so that it is due in each hour that passes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from toril.errors import ConfigError

_EXAMPLE = datetime(2024, 1, 1, tzinfo=UTC)
_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = ("second", "minute", "hour", "day of month", "month", "day of week")


@lru_cache(maxsize=512)
def check_cron(expression: str) -> str:
    """`expression`, if it is one: five fields (minute, hour, day of month, month, day of week), a sixth in front for
    seconds, or a word such as `@daily`. Raises ConfigError, which names the field that is wrong.
    """
    try:
        next(CronSim(_plain(expression), _EXAMPLE))
    except CronSimError as error:
        raise ConfigError(
            f"cron: expected five fields (minute hour day-of-month month day-of-week), or six with seconds in front, "
            f"such as '0 3 * * *', got {expression!r}: {_problem(expression, str(error))}."
        ) from None
    except StopIteration:
        raise ConfigError(f"cron: expected an expression that is due some day, got {expression!r}.") from None
    return expression


@lru_cache(maxsize=512)
def check_zone(name: str) -> str:
    """`name`, if it is a time zone such as `Europe/Berlin`. Raises ConfigError."""
    try:
        _zone(name)
    except (ValueError, OSError, TypeError):
        # ZoneInfoNotFoundError is a KeyError; names such as "../x" are a ValueError, a folder is an OSError.
        raise ConfigError(_no_zone(name)) from None
    except KeyError:
        raise ConfigError(_no_zone(name)) from None
    return name


def next_cron(expression: str, zone: str | None, after: int) -> int | None:
    """The first time (ms) later than `after` (ms) at which the expression is due; UTC without a zone. None when that is
    more than fifty years away. Raises ConfigError for an expression or a zone that is none.
    """
    check_cron(expression)
    where = _zone(check_zone(zone)) if zone else None
    plain = _plain(expression)
    start = datetime.fromtimestamp(after // 1000, UTC)
    try:
        if where is None:
            return _ms(next(CronSim(plain, start)))
        if len(CronSim(plain, _EXAMPLE).hours) == 24:
            # With the field for seconds the library leaves the clock changes to us.
            return _ms(next(CronSim(_with_seconds(plain), start.astimezone(where))))
        due = CronSim(plain, start.astimezone(where).replace(tzinfo=None) - timedelta(hours=3))
        best: int | None = None
        while True:
            local = next(due)
            moment = local.replace(tzinfo=where, fold=0).astimezone(UTC)
            if _ms(moment) <= after:
                continue
            best = _ms(moment) if best is None else min(best, _ms(moment))
            if moment.astimezone(where).replace(tzinfo=None) == local:
                return best
            # A time that the change skipped is due later than some that follow it.
    except StopIteration:
        return None


def _ms(moment: datetime) -> int:
    return round(moment.timestamp()) * 1000


@lru_cache(maxsize=128)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _plain(expression: str) -> str:
    """The expression as the library reads it; `?` is how some write `*` for days."""
    if not isinstance(expression, str):
        raise CronSimError("no text")
    text = expression.strip()
    return _SHORT.get(text.lower(), text).replace("?", "*")


def _with_seconds(plain: str) -> str:
    return plain if len(plain.split()) == 6 else f"0 {plain}"


def _problem(expression: str, said: str) -> str:
    fields = expression.split() if isinstance(expression, str) else []
    if len(fields) not in (5, 6):
        return f"{len(fields)} fields"
    names = _FIELDS[-len(fields) :]
    for name, field in zip(names, fields, strict=True):
        if said == f"Bad {name.replace(' ', '-')}":
            return f"{name} {field!r}"
    return said


def _no_zone(name: object) -> str:
    return f"tz: expected the name of a time zone such as 'Europe/Berlin' or 'UTC', got {name!r}."
