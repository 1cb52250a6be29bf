"""`Registry`: the tasks of one `Toril`, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from toril.errors import ConfigError, TaskExists, UnknownTask
from toril.tasks.middleware import RunMiddleware
from toril.tasks.task import Task

# Blanks, colons and braces would be taken apart by stores that build keys from names.
_NAME = re.compile(r"[^\s:{}\x00-\x1f\x7f]{1,100}")


class Registry:
    """Name → task, and the middleware around their runs."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[Any, Any]] = {}
        self.run_middleware: tuple[RunMiddleware, ...] = ()

    def add(self, task: Task[Any, Any]) -> None:
        """Make a task known. Raises TaskExists when its name is taken."""
        present = self._tasks.get(task.name)
        if present is not None:
            raise TaskExists(
                f"Two tasks are named {task.name!r}: {_place(present)} and {_place(task)}. "
                "Give one of them another name: @toril.task(name=…)."
            )
        self._tasks[task.name] = task

    def get(self, name: str) -> Task[Any, Any] | None:
        """The task of that name, or None."""
        return self._tasks.get(name)

    def __getitem__(self, name: str) -> Task[Any, Any]:
        task = self._tasks.get(name)
        if task is None:
            near = get_close_matches(name, self._tasks, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(sorted(self._tasks)) or 'none'}."
            raise UnknownTask(f"No task is named {name!r}: {hint}")
        return task

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[Task[Any, Any]]:
        return iter(tuple(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)

    def queues(self) -> frozenset[str]:
        """The queues of all tasks."""
        return frozenset(task.queue for task in self._tasks.values())


def check_name(value: str, what: str) -> str:
    """`value`, if it can name a queue or a task. Raises ConfigError."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(f"{what}: expected 1 to 100 characters without blanks, ':', '{{' and '}}', got {value!r}.")
    return value


def _place(task: Task[Any, Any]) -> str:
    return f"{task.function.__module__}.{getattr(task.function, '__qualname__', task.name)}"
