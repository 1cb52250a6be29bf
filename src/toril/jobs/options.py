"""The options of a job: declared in Python (`JobOptions`), stored as JSON (`encode`), read back by a worker (`decode`).

The JSON is BullMQ's `opts` object. What BullMQ does not know travels under the one key `toril`, as strings and small
integers, and never changes during the job's life.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict, TypeGuard

from toril.errors import ConfigError
from toril.jobs.retry import Backoff, BackoffSpec, Exponential, spec_of
from toril.jobs.unique import Unique
from toril.kernel import codec
from toril.kernel.durations import Duration, milliseconds, seconds
from toril.kernel.ids import CUSTOM_ID

DEFAULT_BACKOFF = Exponential(1.0, jitter=0.2)
HIGHEST_PRIORITY_NUMBER = 2_097_151
MOST_ATTEMPTS = 1_000_000
# Names that BullMQ uses for keys beside the jobs of a queue: an id like that would damage the queue.
RESERVED_IDS = frozenset(
    [
        "id",
        "meta",
        "wait",
        "waiting-children",
        "paused",
        "active",
        "prioritized",
        "pc",
        "delayed",
        "completed",
        "failed",
        "stalled",
        "stalled-check",
        "limiter",
        "marker",
        "events",
        "repeat",
        "metrics",
        "de",
        "dn",
        "delay",
        "priority",
    ]
)


@dataclass(frozen=True, slots=True)
class Keep:
    """How long finished jobs stay: at most `age_s` seconds and at most `count` jobs; None is no bound, count 0 is
    not at all.
    """

    age_s: float | None
    count: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished jobs are kept.

    `completed` and `failed` are durations, 0 removes a job as soon as it ends; `completed_max` and `failed_max` bound
    the number of jobs. None leaves a bound off. On a task or a call this is applied to *all* finished jobs of its
    queue when one of its jobs ends, as BullMQ does it; on a queue it is applied by maintenance, to Toril's own jobs
    only. Raises ConfigError for values out of range.
    """

    completed: Duration | None = None
    failed: Duration | None = None
    completed_max: int | None = None
    failed_max: int | None = None

    def __post_init__(self) -> None:
        self.keep_completed()
        self.keep_failed()

    def keep_completed(self) -> Keep | None:
        """The bounds for completed jobs, or None when there are none."""
        return _keep("Retention completed", self.completed, self.completed_max)

    def keep_failed(self) -> Keep | None:
        """The bounds for failed jobs, or None when there are none."""
        return _keep("Retention failed", self.failed, self.failed_max)


class OptionsPatch(TypedDict, total=False):
    """The keywords of `Task.with_options`: every field of `JobOptions`, all optional."""

    attempts: int
    backoff: Backoff | None
    delay: Duration | None
    run_at: datetime | None
    priority: int
    lifo: bool
    timeout: Duration | None
    retention: Retention | None
    id: str | None
    owner: str | None
    tags: tuple[str, ...]
    unique: Unique | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How a job is to be stored and run. Checked once, on creation; raises ConfigError.

    attempts: most attempts, 1 or more · backoff: the wait between them, None retries at once · delay: wait before the
    first · run_at: an aware datetime instead of `delay` · priority: 0 is none, 1 runs first, up to 2,097,151 · lifo:
    last in, first out · timeout: longest run of one attempt · retention: see `Retention` · id: an id of your own ·
    owner: who may see the job over HTTP · tags: words to find it by · unique: see `Unique`.
    """

    attempts: int = 3
    backoff: Backoff | None = DEFAULT_BACKOFF
    delay: Duration | None = None
    run_at: datetime | None = None
    priority: int = 0
    lifo: bool = False
    timeout: Duration | None = None
    retention: Retention | None = None
    id: str | None = None
    owner: str | None = None
    tags: tuple[str, ...] = ()
    unique: Unique | None = None

    def __post_init__(self) -> None:
        _check_int("attempts", self.attempts, 1, MOST_ATTEMPTS)
        _check_int("priority", self.priority, 0, HIGHEST_PRIORITY_NUMBER)
        spec_of(self.backoff)
        if self.delay is not None:
            seconds(self.delay, "delay")
        if self.timeout is not None and seconds(self.timeout, "timeout") <= 0:
            raise ConfigError("timeout: expected more than 0 seconds; leave it out for no timeout.")
        if self.run_at is not None:
            _check_run_at(self.run_at, self.delay)
        if self.id is not None:
            check_id(self.id)
        if not isinstance(self.lifo, bool):
            raise ConfigError(f"lifo: expected True or False, got {self.lifo!r}.")
        if self.retention is not None and not isinstance(self.retention, Retention):
            raise ConfigError(f'retention: expected Retention(completed="7d", …), got {self.retention!r}.')
        if self.owner is not None and not _is_text(self.owner):
            raise ConfigError(f"owner: expected text that is not empty, got {self.owner!r}.")
        # A lone word would be taken for its letters.
        tags: Any = self.tags
        if not isinstance(tags, tuple | list) or not all(_is_text(tag) and "," not in tag for tag in tags):
            raise ConfigError(f"tags: expected a tuple of non-empty words without commas, got {tags!r}.")
        object.__setattr__(self, "tags", tuple(tags))
        if self.unique is not None and not isinstance(self.unique, Unique):
            raise ConfigError(f'unique: expected Unique(window="1h", …), got {self.unique!r}.')

    def merged(self, patch: OptionsPatch) -> JobOptions:
        """These options with some replaced. Raises ConfigError, which names the nearest option for an unknown one."""
        unknown = patch.keys() - OPTION_NAMES
        if unknown:
            raise ConfigError(
                f"Unknown option {sorted(unknown)[0]!r}: expected one of {', '.join(sorted(OPTION_NAMES))}."
            )
        # The later of the two ways to say when wins: a call's delay over its task's run_at, and the other way round.
        rest: dict[str, Any] = dict(patch)
        if "delay" in patch and "run_at" not in patch:
            rest["run_at"] = None
        elif "run_at" in patch and "delay" not in patch:
            rest["delay"] = None
        return replace(self, **rest)

    def delay_ms(self, now: int) -> int:
        """Milliseconds from `now` (ms) to the first attempt."""
        if self.run_at is not None:
            return max(0, round(self.run_at.timestamp() * 1000) - now)
        return 0 if self.delay is None else milliseconds(self.delay)


OPTION_NAMES = frozenset(field.name for field in fields(JobOptions))


class RunOptions(NamedTuple):
    """What a worker and a reader need of a job's stored options."""

    attempts: int
    backoff: BackoffSpec | None
    timeout_s: float | None
    keep_completed: Keep | None
    keep_failed: Keep | None
    owner: str | None
    tags: tuple[str, ...]
    ours: bool


def encode(options: JobOptions, *, delay_ms: int = 0) -> str:
    """The JSON that is stored with the job. `delay_ms` is the delay resolved at the moment of adding."""
    opts: dict[str, Any] = {"attempts": options.attempts}
    own: dict[str, Any] = {"v": 1}
    _write_backoff(opts, own, spec_of(options.backoff))
    if delay_ms:
        opts["delay"] = delay_ms
    if options.priority:
        opts["priority"] = options.priority
    if options.lifo:
        opts["lifo"] = True
    if options.id is not None:
        opts["jobId"] = options.id
    if options.retention is not None:
        _write_keep(opts, "removeOnComplete", options.retention.keep_completed())
        _write_keep(opts, "removeOnFail", options.retention.keep_failed())
    if options.timeout is not None:
        own["timeout"] = max(1, milliseconds(options.timeout))
    if options.owner is not None:
        own["owner"] = options.owner
    if options.tags:
        own["tags"] = ",".join(options.tags)
    opts["toril"] = own
    return codec.encode(opts)


@lru_cache(maxsize=1024)
def decode(opts: str) -> RunOptions:
    """Stored options, read leniently: another producer's odd value counts as not given. Raises ValueError if no JSON
    object.
    """
    value = codec.decode(opts)
    if not isinstance(value, dict):
        raise ValueError(f"expected an object of options, found {type(value).__name__}")
    own = value.get("toril")
    own = own if isinstance(own, dict) else None
    extra: dict[str, Any] = {} if own is None else own
    timeout = extra.get("timeout")
    owner = extra.get("owner")
    tags = extra.get("tags")
    return RunOptions(
        attempts=max(1, _as_int(value.get("attempts"), 1)),
        backoff=_read_backoff(value.get("backoff"), extra),
        timeout_s=timeout / 1000 if _is_number(timeout) and timeout > 0 else None,
        keep_completed=_read_keep(value.get("removeOnComplete")),
        keep_failed=_read_keep(value.get("removeOnFail")),
        owner=owner if isinstance(owner, str) else None,
        tags=tuple(tags.split(",")) if isinstance(tags, str) and tags else (),
        ours=own is not None,
    )


def check_id(value: str) -> str:
    """`value`, if it can be a job id of the caller's own. Raises ConfigError."""
    if not isinstance(value, str) or not CUSTOM_ID.fullmatch(value) or value in RESERVED_IDS:
        raise ConfigError(
            "id: expected a letter, then up to 63 letters, digits, '_' or '-', and no name that queues "
            f"use themselves, got {value!r}."
        )
    return value


def _check_int(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name}: expected a whole number from {low} to {high}, got {value!r}.")


def _is_text(value: Any) -> bool:
    """Whether `value` is text that UTF-8 can carry, and not empty."""
    return isinstance(value, str) and value != "" and value.encode("utf-8", "ignore").decode("utf-8") == value


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_run_at(run_at: datetime, delay: Duration | None) -> None:
    if not isinstance(run_at, datetime) or run_at.tzinfo is None:
        raise ConfigError(f"run_at: expected a datetime with a time zone, got {run_at!r}.")
    if delay is not None:
        raise ConfigError("Both delay and run_at are given: expected one of them.")


def _keep(what: str, age: Duration | None, count: int | None) -> Keep | None:
    if age is None and count is None:
        return None
    if count is not None:
        _check_int(f"{what}_max", count, 0, 1_000_000_000)
    age_s = None if age is None else seconds(age, what)
    return Keep(None, 0) if age_s == 0 or count == 0 else Keep(age_s, count)


def _write_backoff(opts: dict[str, Any], own: dict[str, Any], spec: BackoffSpec | None) -> None:
    if spec is None:
        return
    opts["backoff"] = {"type": spec.kind, "delay": spec.delay_ms}
    if spec.jitter:
        opts["backoff"]["jitter"] = spec.jitter
    if spec.name is not None:
        own["backoff"] = spec.name
    if spec.cap_ms is not None:
        own["cap"] = spec.cap_ms


def _write_keep(opts: dict[str, Any], name: str, keep: Keep | None) -> None:
    if keep is None:
        return
    if keep.count == 0:
        opts[name] = True
        return
    bounds: dict[str, Any] = {}
    if keep.age_s is not None:
        bounds["age"] = round(keep.age_s) or 1
    if keep.count is not None:
        bounds["count"] = keep.count
    opts[name] = bounds


def _read_keep(value: Any) -> Keep | None:
    if value is True:
        return Keep(None, 0)
    # BullMQ's -1 is no bound.
    bounds = value if isinstance(value, dict) else {"count": value}
    age, count = bounds.get("age"), bounds.get("count")
    age_s = float(age) if _is_number(age) and age >= 0 else None
    most = int(count) if _is_number(count) and count >= 0 else None
    return None if age_s is None and most is None else Keep(age_s, most)


def _read_backoff(value: Any, own: dict[str, Any]) -> BackoffSpec | None:
    if _is_number(value):
        return BackoffSpec("fixed", max(0, int(value)), 0.0)
    if not isinstance(value, dict):
        return None
    jitter = value.get("jitter", 0.0)
    cap, name = own.get("cap"), own.get("backoff")
    return BackoffSpec(
        "exponential" if value.get("type") == "exponential" else "fixed",
        max(0, _as_int(value.get("delay"), 0)),
        float(jitter) if _is_number(jitter) and 0 <= jitter <= 1 else 0.0,
        max(0, int(cap)) if _is_number(cap) else None,
        name if isinstance(name, str) else None,
    )


def _as_int(value: Any, default: int) -> int:
    return int(value) if _is_number(value) else default
