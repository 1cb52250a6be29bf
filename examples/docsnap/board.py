"""The terminal: five live progress bars, then where to look."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

_STYLES = {"completed": "green", "failed": "red", "active": "cyan"}
_WORDS = {"completed": "done", "active": "running", "delayed": "will retry", "prioritized": "waiting"}


@dataclass(frozen=True)
class Row:
    """One job as the board shows it."""

    id: str
    url: str
    state: str
    percent: float
    message: str

    @property
    def finished(self) -> bool:
        """Whether the job has reached its end, good or bad."""
        return self.state in ("completed", "failed")


class Board:
    """Live bars, one for each job. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            _StateColumn(),
            TextColumn("[dim]{task.fields[message]}", markup=True),
            console=console,
            refresh_per_second=10,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> "Board":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, rows: Iterable[Row]) -> None:
        """Bring the bars up to date."""
        for row in rows:
            if row.id not in self._bars:
                name = urlsplit(row.url).path.strip("/") or row.url
                self._bars[row.id] = self._progress.add_task(name, total=100, state=row.state, message="")
            percent = 100.0 if row.state == "completed" else row.percent
            message = row.message.replace("[", "\\[")
            self._progress.update(self._bars[row.id], completed=percent, state=row.state, message=message)


class _StateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        state = str(task.fields["state"])
        return Text(f"{_WORDS.get(state, state):<10}", style=_STYLES.get(state, "yellow"))
