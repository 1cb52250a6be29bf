"""Times for people: how long ago, how soon, how long."""

from __future__ import annotations

from datetime import UTC, datetime

from toril.kernel.durations import human


def ago(at_ms: int | None, now_ms: int) -> str:
    """`3 m 20 s ago`, `in 12 s`, or a dash."""
    if at_ms is None:
        return "-"
    away_s = round((at_ms - now_ms) / 1000)
    if not away_s:
        return "now"
    return f"in {human(away_s)}" if away_s > 0 else f"{human(-away_s)} ago"


def moment(at_ms: int | None, now_ms: int) -> str:
    """The local date and time to the second, and how long ago that is."""
    if at_ms is None:
        return "-"
    local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} ({ago(at_ms, now_ms)})"


def took(start_ms: int | None, end_ms: int | None) -> str:
    """How long something lasted, to the millisecond when it was short."""
    if start_ms is None or end_ms is None:
        return "-"
    length_s = max(0, end_ms - start_ms) / 1000
    return f"{length_s * 1000:.0f} ms" if length_s < 1 else human(length_s)


def iso(at_ms: int | None) -> str | None:
    """The moment as ISO 8601 in UTC, for scripts."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def size(count: int) -> str:
    """Bytes for people: `512 B`, `4.2 MB`, `1.3 GB`."""
    value, unit = float(count), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, bigger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def jobs(count: int, kind: str = "") -> str:
    """`1 job`, `12,000 failed jobs`."""
    return f"{count:,} {kind + ' ' if kind else ''}job{'' if count == 1 else 's'}"
