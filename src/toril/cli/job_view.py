"""Jobs on the screen, as tables, as one whole page, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from toril.cli.moments import ago, iso, moment, took
from toril.cli.screen import clean, plain
from toril.engine.ports.inspect import LogPage
from toril.jobs.model import AttemptRecord, Job
from toril.jobs.options import RunOptions, decode
from toril.jobs.states import State

STYLES = {
    State.WAITING: "cyan",
    State.PRIORITIZED: "bright_cyan",
    State.DELAYED: "blue",
    State.WAITING_CHILDREN: "blue",
    State.ACTIVE: "yellow",
    State.COMPLETED: "green",
    State.FAILED: "red",
}
_BAR = 24
_HEAD = ("ID", "TASK", "STATE", "TRIES", "WHEN")
_GAP = 2
_LONGEST_TASK = 28
_LEAST_NOTE = 30


def state_text(job: Job) -> Text:
    """The state, coloured; a cancelled job says so."""
    return Text("cancelled" if job.cancelled else job.state.value, style=STYLES[job.state])


def job_lines(jobs: Sequence[Job], now: int, width: int) -> Text:
    """One line per job, with ids whole, so that they can be copied. What there is to say of a job beyond its state
    stands behind it, or, where there is no room, below it.
    """
    rows = [(job.id, _task(job), state_text(job).plain, _tries(job), _when(job, now)) for job in jobs]
    widths = [max(len(cell) for cell in column) for column in zip(_HEAD, *rows, strict=True)]
    room = width - sum(widths) - _GAP * len(widths)
    lines = [_line(_HEAD, widths, "dim")]
    for job, row in zip(jobs, rows, strict=True):
        line, note = _line(row, widths, "", STYLES[job.state]), _note(job)
        if note and room < _LEAST_NOTE:
            lines += [line, Text(_cut(f"  {note}", width), style="dim")]
        else:
            lines.append(line.append(_cut(note, room), style="dim"))
    for line in lines:
        line.rstrip()
    return Text("\n").join(lines)


def job_page(job: Job, logs: LogPage, now: int) -> RenderableType:
    """Everything that is known of one job."""
    head = Text.assemble((job.id, "bold"), "  ", (clean(job.name), "bold"), f" in {job.queue}  ", state_text(job))
    parts: list[RenderableType] = [head, Padding(_facts(job, now), (0, 0, 0, 2))]
    parts += _section("Arguments", _pretty(job.data))
    if job.result is not None:
        parts += _section("Result", _pretty(job.result))
    if job.failed_reason is not None:
        parts += _section("Failed", Text(clean(job.failed_reason), style="red"))
    if job.stacktrace:
        parts += _section("Last stack trace", Text(clean(job.stacktrace[-1].rstrip()), style="dim"))
    if job.history:
        parts += _section("Attempts", _history(job.history, now))
    if logs.total:
        more = f" (last {len(logs.lines)} of {logs.total})" if logs.total > len(logs.lines) else ""
        parts += _section(f"Log{more}", Text(clean("\n".join(logs.lines))))
    return Group(*parts)


def job_json(job: Job) -> dict[str, Any]:
    """A job for scripts: times in ISO 8601, arguments and result as values."""
    options = _options(job)
    return {
        "id": job.id,
        "queue": job.queue,
        "name": job.name,
        "state": job.state.value,
        "cancelled": job.cancelled,
        "progress": job.progress,
        "arguments": _value(job.data),
        "result": None if job.result is None else _value(job.result),
        "failedReason": job.failed_reason,
        "attempts": job.attempts_made,
        "maxAttempts": options.attempts,
        "starts": job.starts,
        "stalls": job.stalls,
        "priority": job.priority,
        "owner": options.owner,
        "tags": list(options.tags),
        "worker": job.worker,
        "createdAt": iso(job.timestamp),
        "dueAt": iso(job.due),
        "startedAt": iso(job.processed),
        "finishedAt": iso(job.finished),
        "updatedAt": iso(job.updated),
    }


def history_json(job: Job) -> list[dict[str, Any]]:
    """The attempts of a job for scripts."""
    return [{**one._asdict(), "started": iso(one.started), "ended": iso(one.ended)} for one in job.history]


def _options(job: Job) -> RunOptions:
    try:
        return decode(job.opts)
    except ValueError:
        return decode("{}")


def _when(job: Job, now: int) -> str:
    return ago(job.due, now) if job.state is State.DELAYED else ago(job.updated, now)


def _tries(job: Job) -> str:
    return f"{job.attempts_made}/{_options(job).attempts}"


def _task(job: Job) -> str:
    return _cut(clean(job.name), _LONGEST_TASK)


def _note(job: Job) -> str:
    if job.failed_reason:
        return _first_line(job.failed_reason)
    if job.state is State.ACTIVE and job.progress_number:
        return f"{job.progress_number:g} % {_first_line(job.progress_message)}".rstrip()
    return "cancellation requested" if job.cancel is not None and not job.cancelled else ""


def _line(cells: Sequence[str], widths: Sequence[int], style: str, state_style: str = "") -> Text:
    line = Text(style=style)
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        padded = cell.rjust(width) if index == _HEAD.index("TRIES") else cell.ljust(width)
        line.append(padded + " " * _GAP)
        if index == _HEAD.index("STATE") and state_style:
            line.stylize(state_style, len(line.plain) - len(padded) - _GAP, len(line.plain))
    return line


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _first_line(text: str) -> str:
    return clean(text.strip().splitlines()[0]) if text.strip() else ""


def _facts(job: Job, now: int) -> Table:
    options = _options(job)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    rows: list[tuple[str, RenderableType]] = [("created", moment(job.timestamp, now))]
    if job.due is not None:
        rows.append(("due", moment(job.due, now)))
    if job.processed is not None:
        rows.append(("started", moment(job.processed, now)))
    if job.finished is not None:
        lasted = f", took {took(job.processed, job.finished)}" if job.processed is not None else ""
        rows.append(("finished", moment(job.finished, now) + lasted))
    tries = f"{job.attempts_made} of {options.attempts}"
    extra = [f"{job.starts} starts"] if job.starts != job.attempts_made else []
    extra += [f"{job.stalls} stalls"] if job.stalls else []
    rows.append(("attempts", tries + (f" ({', '.join(extra)})" if extra else "")))
    if job.progress_number or job.progress_message:
        rows.append(("progress", _progress(job)))
    rows += [("priority", str(job.priority))] if job.priority else []
    rows += [("timeout", took(0, round(options.timeout_s * 1000)))] if options.timeout_s else []
    rows += [("worker", escape(job.worker))] if job.worker else []
    rows += [("owner", plain(options.owner))] if options.owner else []
    rows += [("tags", plain(", ".join(options.tags)))] if options.tags else []
    if job.cancel is not None:
        why = f": {job.cancel.reason}" if job.cancel.reason else ""
        rows.append(("cancelled", plain(f"by {job.cancel.by or 'somebody'}, {moment(job.cancel.at, now)}{why}")))
    for name, value in rows:
        table.add_row(name, value)
    return table


def _progress(job: Job) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=100, completed=max(0.0, min(100.0, job.progress_number)), width=_BAR)
    line.add_row(bar, f"{job.progress_number:g} %", plain(job.progress_message))
    return line


def _history(history: Sequence[AttemptRecord], now: int) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for name in ("#", "STARTED", "TOOK", "OUTCOME", "WORKER"):
        table.add_column(name, no_wrap=True)
    table.add_column("ERROR", overflow="fold")
    for one in history:
        style = "green" if one.outcome == "done" else "red" if one.error else ""
        row = (str(one.number), ago(one.started, now), took(one.started, one.ended), Text(one.outcome, style=style))
        table.add_row(*row, escape(one.worker), plain(one.error or ""))
    return table


def _section(title: str, body: RenderableType) -> list[RenderableType]:
    return [Text(""), Text(title, style="bold"), Padding(body, (0, 0, 0, 2))]


def _pretty(text: str) -> Text:
    value = _value(text)
    return Text(clean(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
