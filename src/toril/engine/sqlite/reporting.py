"""Progress and log lines of running jobs."""

from __future__ import annotations

from collections.abc import Sequence

from toril.engine.ports.jobs import LogLine, Progress
from toril.engine.sqlite.inserting import emit
from toril.engine.sqlite.rows import LOG, PROGRESS, sayable
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.kernel import codec

_SQL = load("jobs")


def store_reports(tx: Transaction, *, queue: str, progress: Sequence[Progress], lines: Sequence[LogLine]) -> None:
    """Store what running jobs say; what comes with a token that does not hold its job is dropped."""
    queue_id = tx.value(_SQL["queue"], queue=queue)
    if queue_id is None:
        return
    runs = codec.encode([(p.id, p.token) for p in progress] + [(line.id, line.token) for line in lines])
    running: dict[int, int] = dict(codec.decode(tx.value(_SQL["running"], runs=runs, queue=queue_id)))
    events: list[tuple[int, str, int, int | None, str | None]] = []
    latest: dict[int, str] = {}
    for number, item in enumerate(progress):
        if number in running:
            latest[running[number]] = item.value
            content = codec.encode({"value": codec.decode(item.value)})
            events.append((PROGRESS, item.id, item.at, None, content))
    if latest:
        tx.spread(_SQL["set_progress"], list(latest.items()))
    new: list[tuple[int, int, str]] = []
    last: dict[int, tuple[int, int]] = {}
    for number, line in enumerate(lines, len(progress)):
        seq = running.get(number)
        if seq is None:
            continue
        if seq not in last:
            last[seq] = (tx.value(_SQL["last_line"], job=seq), line.keep)
        last[seq] = (last[seq][0] + 1, line.keep)
        text = sayable(line.line)
        new.append((seq, last[seq][0], text))
        events.append((LOG, line.id, line.at, None, codec.encode({"line": text})))
    if new:
        tx.spread(_SQL["add_line"], new)
        for seq, (newest, keep) in last.items():
            tx.run(_SQL["trim_lines"], job=seq, last=newest - keep)
    if events:
        emit(tx, queue_id, events)
        tx.touched.add(f"e:{queue}")
