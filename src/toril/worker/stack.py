"""Errors as text, as they are stored with a job."""

from __future__ import annotations

import traceback
from pathlib import Path

MOST_REASON_CHARS = 2_000
MOST_STACK_BYTES = 8 * 1024
MOST_FRAMES = 30

_OUR_FRAMES = str(Path(__file__).parent)


def reason_of(error: BaseException) -> str:
    """`ErrorClass: message`, shortened; the class alone when there is no message."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide that the handler failed
        message = "(its message cannot be shown)"
    return clean(f"{type(error).__name__}: {message}" if message else type(error).__name__, MOST_REASON_CHARS)


def stack_of(error: BaseException) -> str:
    """The stack trace: `ErrorClass: message` first, then the frames, at most 8 KiB of UTF-8."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OUR_FRAMES):
        trace = trace.tb_next
    lines = [reason_of(error), "\n"]
    if trace is not None:
        lines += traceback.format_list(traceback.extract_tb(trace, limit=-MOST_FRAMES))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and cause is not error:
        lines.append(f"Because of {reason_of(cause)}\n")
        lines += traceback.format_list(traceback.extract_tb(cause.__traceback__, limit=-MOST_FRAMES // 3))
    return shorten_stack("".join(lines))


def shorten_stack(text: str) -> str:
    """`text` within the limit: the first line and the end, where the error was raised, are kept."""
    text = clean(text)
    data = text.encode()
    if len(data) <= MOST_STACK_BYTES:
        return text
    head = text.split("\n", 1)[0]
    room = MOST_STACK_BYTES - len(head.encode()) - len("\n  …\n".encode())
    return f"{head}\n  …\n{data[-room:].decode('utf-8', 'ignore')}"


def clean(text: str, most_chars: int | None = None) -> str:
    """`text` without what UTF-8 cannot carry, and shortened."""
    if most_chars is not None and len(text) > most_chars:
        text = text[: most_chars - 1] + "…"
    return text.encode("utf-8", "replace").decode("utf-8")
