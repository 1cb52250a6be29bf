"""Schedules as data, and when their runs are due. All times are milliseconds since 1970-01-01 UTC.

A schedule plans one run ahead: when a run starts, the next one is planned. What a run says of its schedule travels in
its options, as BullMQ's workers read and write it: `repeat` (with the number of the run as `count`), `prevMillis`,
`repeatJobKey`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from toril.errors import ConfigError
from toril.jobs.cron import check_cron, check_zone, next_cron
from toril.jobs.model import TakenJob
from toril.kernel import codec
from toril.kernel.durations import Duration, milliseconds

# What a run has of its own: never handed on to the next one.
_OF_ONE_RUN = ("jobId", "delay", "timestamp", "prevMillis", "repeatJobKey", "repeat")
_WORDS = {
    "every": "every",
    "pattern": "pattern",
    "tz": "tz",
    "limit": "limit",
    "start": "startDate",
    "end": "endDate",
    "offset": "offset",
}
# No colon: BullMQ takes run ids apart at colons. Text, so that keys stay readable.
_ID = re.compile(r"[^\s:{}\x00-\x1f\x7f]{1,100}")


class Repeat(NamedTuple):
    """When runs are due: `every` so many ms, or at the times of the cron expression `pattern` in the zone `tz`.

    No run is due before `start` or after `end`; `limit` is the most runs. `offset` is the phase of `every`: runs are
    due at multiples of it plus the offset; without one the first run is due at once and gives the phase.
    """

    every: int | None = None
    pattern: str | None = None
    tz: str | None = None
    limit: int | None = None
    start: int | None = None
    end: int | None = None
    offset: int | None = None


class NewSchedule(NamedTuple):
    """A schedule on its way into an engine: the task's name, its arguments as JSON, and the options of its runs."""

    id: str
    repeat: Repeat
    name: str
    data: str = "{}"
    opts: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A stored schedule. `next` is the time of the run that is planned, or was the last; `count` how many runs were
    planned so far; `data` and `opts` are JSON text.
    """

    id: str
    queue: str
    name: str
    repeat: Repeat
    next: int
    count: int
    data: str = "{}"
    opts: str = "{}"

    @property
    def run_id(self) -> str:
        """The id of the job of the planned run."""
        return run_id(self.id, self.next)

    @property
    def next_at(self) -> datetime:
        """`next` as a datetime in UTC."""
        return datetime.fromtimestamp(self.next / 1000, UTC)

    @property
    def when(self) -> str:
        """When runs are due, for people: `every 5 m`, `0 3 * * * (Europe/Berlin)`."""
        return describe(self.repeat)


@dataclass(frozen=True, slots=True)
class Cron:
    """Due at the times of a cron expression, in the time zone `tz`: `Cron("0 3 * * *", tz="Europe/Berlin")`.

    Five fields, or six with seconds in front. Raises ConfigError for an expression or a zone that is none.
    """

    expression: str
    tz: str = "UTC"

    def __post_init__(self) -> None:
        check_cron(self.expression)
        check_zone(self.tz)

    def repeat(self) -> Repeat:
        """This as data."""
        return Repeat(pattern=self.expression, tz=self.tz)


@dataclass(frozen=True, slots=True)
class Every:
    """Due at equal intervals: `Every("5m")`. Raises ConfigError for an interval below one millisecond."""

    interval: Duration

    def __post_init__(self) -> None:
        self.repeat()

    def repeat(self) -> Repeat:
        """This as data."""
        return Repeat(every=check_interval(self.interval))


class Template(NamedTuple):
    """What the job of a run is made of. `head` is the JSON of its options without the closing brace: what depends on
    the time of the run is put behind it by `run_opts`.
    """

    name: str
    data: str
    head: str
    priority: int
    lifo: bool


def check_interval(interval: Duration) -> int:
    """An interval in milliseconds. Raises ConfigError."""
    every = milliseconds(interval, "every")
    if every < 1:
        raise ConfigError(f"every: expected at least one millisecond, got {interval!r}.")
    return every


def check_schedule_id(id: str) -> str:
    """`id`, if it can name a schedule. Raises ConfigError."""
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise ConfigError(f"id: expected 1 to 100 characters without blanks, ':', '{{' and '}}', got {id!r}.")
    return id


def run_id(schedule: str, due: int) -> str:
    """The id of the job of the run that is due then."""
    return f"repeat:{schedule}:{due}"


def describe(repeat: Repeat) -> str:
    """When runs are due, for people."""
    if repeat.pattern is not None:
        return f"{repeat.pattern} ({repeat.tz})" if repeat.tz else repeat.pattern
    every = repeat.every or 0
    for length, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")):
        if every and not every % length:
            return f"every {every // length} {unit}"
    return f"every {every} ms"


def first_time(repeat: Repeat, now: int, *, immediately: bool = False) -> int | None:
    """When the first run of a cron schedule is due. None when it never is, and for `every`, whose store knows the runs
    before.
    """
    if repeat.pattern is None:
        return None
    due = now if immediately else next_cron(repeat.pattern, repeat.tz, max(now, (repeat.start or 0) - 1))
    return None if due is None or _is_over(repeat, due) else max(due, now)


def following_time(repeat: Repeat, previous: int, now: int) -> int | None:
    """When the run after the one of `previous` is due by a cron expression; slots that have passed are left out."""
    if repeat.pattern is None:
        return None
    due = next_cron(repeat.pattern, repeat.tz, max(now, previous))
    return None if due is None or _is_over(repeat, due) else due


def next_interval(every: int, offset: int, *, previous: int | None, start: int | None, now: int) -> int:
    """When the next run of `every` is due, by BullMQ's rules: one interval after the last, or, when that has passed, at
    the next multiple that is still to come; the first at `start`, at the phase, or at once.
    """
    phase = now // every * every + offset
    if previous is None:
        if start is not None:
            return max(start, now)
        if offset > 0:
            return phase + every if phase <= now else phase
        return now
    due = previous + every
    if due < now:
        due = phase + every if phase <= now else phase
    return due


def phase_of(due: int, every: int) -> int:
    """The offset of a run from the multiples of its interval."""
    return due % every


def template_of(schedule: NewSchedule | Schedule, *, count: int, now: int) -> Template:
    """The job of a run that is planned from the schedule itself, the `count`-th."""
    opts = _decoded(schedule.opts)
    return _template(schedule.name, schedule.data, opts, schedule.id, _as_wire(schedule.repeat), count, now)


def template_after(schedule: str, name: str, data: str, opts: dict[str, Any], now: int) -> Template:
    """The job of the run after one with these options."""
    repeat = opts.get("repeat")
    fields = dict(repeat) if isinstance(repeat, dict) else {}
    count = whole(fields.pop("count", None)) or 0
    # As BullMQ's worker writes them on.
    handed_on: dict[str, Any] = {"attempts": 0} | opts
    backoff = handed_on.get("backoff")
    if isinstance(backoff, int | float) and not isinstance(backoff, bool):
        handed_on["backoff"] = {"type": "fixed", "delay": backoff}
    return _template(name, data, handed_on, schedule, fields, count + 1, now)


class NextRun(NamedTuple):
    """The run that is to be planned: its job, and with a cron expression its time."""

    template: Template
    following: int | None


def run_after(job: TakenJob, now: int) -> NextRun | None:
    """The run that is due after this one; None when it was the last. Raises ConfigError for a cron expression or a zone
    that cannot be read, ValueError for options that cannot.
    """
    if job.schedule is None:
        return None
    opts = _decoded(job.opts)
    repeat, count = repeat_of(opts)
    previous = whole(opts.get("prevMillis")) or 0
    following = _following(repeat, count, previous, now)
    return following and NextRun(template_after(job.schedule, job.name, job.data, opts, now), following.time)


def run_instead(schedule: Schedule, now: int) -> NextRun | None:
    """The run that is due next of a schedule whose planned run is lost. Raises as `run_after` does."""
    following = _following(schedule.repeat, schedule.count, schedule.next, now)
    return following and NextRun(template_of(schedule, count=schedule.count + 1, now=now), following.time)


def run_opts(template: Template, schedule: str, due: int, *, pattern: bool, now: int) -> str:
    """The options of the run that is due then."""
    text = f'{template.head},"jobId":{codec.encode(run_id(schedule, due))},"delay":{max(0, due - now)}'
    return text + (f',"prevMillis":{due}}}' if pattern else "}")


def plain_opts(opts: str) -> dict[str, Any]:
    """Stored options without what belongs to one run of a schedule. Raises ConfigError for what is no object."""
    return {word: value for word, value in _decoded(opts).items() if word not in _OF_ONE_RUN}


def repeat_of(opts: dict[str, Any]) -> tuple[Repeat, int]:
    """What a run's options say of its schedule, read leniently: when runs are due, and the number of this one."""
    fields = opts.get("repeat")
    if not isinstance(fields, dict):
        return Repeat(), 0
    pattern, tz = fields.get("pattern"), fields.get("tz")
    return Repeat(
        every=whole(fields.get("every")),
        pattern=pattern if isinstance(pattern, str) else None,
        tz=tz if isinstance(tz, str) and tz else None,
        limit=whole(fields.get("limit")),
        start=whole(fields.get("startDate")),
        end=whole(fields.get("endDate")),
        offset=whole(fields.get("offset")),
    ), whole(fields.get("count")) or 0


def whole(value: object) -> int | None:
    """A whole number out of JSON or text of any making; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(value) if isinstance(value, int) else int(float(value))
    except (ValueError, OverflowError):
        return None


class _Following(NamedTuple):
    time: int | None


def _following(repeat: Repeat, count: int, previous: int, now: int) -> _Following | None:
    if (repeat.limit is not None and count >= repeat.limit) or _is_over(repeat, now):
        return None
    if repeat.pattern is None:
        return _Following(None)
    due = following_time(repeat, previous, now)
    return None if due is None else _Following(due)


def _is_over(repeat: Repeat, due: int) -> bool:
    return repeat.end is not None and due > repeat.end


def _as_wire(repeat: Repeat) -> dict[str, Any]:
    return {_WORDS[name]: value for name, value in repeat._asdict().items() if value is not None}


def _template(
    name: str, data: str, opts: dict[str, Any], schedule: str, repeat: dict[str, Any], count: int, now: int
) -> Template:
    priority = whole(opts.get("priority")) or 0
    kept = {word: value for word, value in opts.items() if word not in _OF_ONE_RUN}
    kept |= {"timestamp": now, "repeatJobKey": schedule, "repeat": repeat | {"count": count}}
    return Template(name, data, codec.encode(kept)[:-1], max(0, priority), opts.get("lifo") is True)


def _decoded(opts: str) -> dict[str, Any]:
    value = codec.decode(opts)
    if not isinstance(value, dict):
        raise ConfigError(f"opts: expected a JSON object, got {opts[:80]!r}.")
    return value
