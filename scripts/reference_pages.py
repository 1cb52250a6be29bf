"""Writes the pages of the documentation that are drawn from the code: python scripts/reference_pages.py

A test compares them with what this would write, so that they cannot go stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from toril.cli.main import app
from toril.jobs import states
from toril.kernel.durations import human
from toril.settings import DEFAULT_URL, SECTIONS, Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "bench" / "results"
# What has a further word in its name is of another benchmark, or a part.
_FULL_RUN = re.compile(r"\d{4}-\d\d-\d\d-\d{4}")
BENCHMARKS = DOCS / "benchmarks.md"
NOTE = "<!-- Written by scripts/reference_pages.py: change the code, then run it. -->"

_STATES = """
# The states of a job

Where a job is, and what leads it elsewhere. Engines are tested against every row of this table, and against every
pair that it leaves out.

`waiting` is the line, first in, first out · `prioritized` the line behind it, sorted by number, 1 first · `delayed`
waits for its time · `active` is being run · `completed` and `failed` are ends. A cancelled job is `failed`, with
the reason `cancelled`. `waiting-children` is known by name, and no job of this version gets there.
"""

_CAUSES = """
`take` a worker takes the job · `due` its time has come · `promote` somebody put it in line before its time · `done`
the handler returned · `retry` it failed, with attempts left, or raised `Retry` · `failed` it failed for good ·
`snooze` it raised `Snooze` · `limited` it raised `RateLimited` · `cancelled` it was stopped on request · `released` a
stopping worker gave it back ·
`stall` its worker vanished · `cancel` somebody asked to cancel it · `replay` a finished job is put in line again.
"""

_SETTINGS = """
# Settings

Every option can be given as a variable, or in Python:
`Toril(settings=Settings(worker=WorkerSettings(concurrency=20)))`, with both classes from `toril.settings`.
Arguments in Python win over variables. A wrong value is an error that names its variable; a variable that nobody
reads is told in the log, with the nearest that exists.

Durations are seconds, or text such as `500ms`, `15s`, `5m`, `2h`, `7d`, `1w`; sizes are bytes, or text such as
`512KiB`, `1MiB`.
"""

_STORE = """
## The store

The argument of `Toril(…)` decides; without it `TORIL_URL`; without that `REDIS_URL`, or `REDIS_HOST` with
`REDIS_PORT`, `REDIS_USERNAME`, `REDIS_PASSWORD` and `REDIS_DB`; else the embedded file. With `USE_BULLMQ`,
`BULLMQ_ENABLED` or `REDIS_ENABLED` set to `false` the `REDIS_` variables say nothing about jobs. Which one it was, and
why, is the first line of a worker and a line in the log.

| URL | what it is |
|---|---|
| `sqlite:///toril.db` | a file beside the working directory |
| `sqlite:////var/lib/app/toril.db` | a file by its absolute path: four slashes |
| `sqlite:///toril.db?durable=full` | each commit waits for the disk: survives power loss, slower |
| `sqlite://` | memory: ends with the process, and only this process sees it |
| `redis://user:password@host:6379/0` | Redis or Valkey; `valkey://` is the same |
| `rediss://user:password@host:6380` | the same with TLS; `?ssl_ca_certs=/path/ca.pem` names a CA of your own |
| `unix:///run/redis.sock?db=0` | the same by a Unix socket |
| `redis+sentinel://:password@one,two,three/mymaster/0` | the primary that these sentinels name |
| `redis+cluster://:password@one,two,three` | a cluster that these nodes belong to |

[On Redis](../how-to/redis.md) says what such a server must be like, and what happens when it is away.
"""

_CLI = """
# Command line

`toril` finds the application that `--app module:attribute` or `TORIL_APP` names, in the current folder first.
Commands that only look at the store do without it: they use `--url`, else the application's store, else
`TORIL_URL`, else `toril.db` here. They never make a store that is not there.

Exit codes: 0 all is well · 1 no (not confirmed, or `doctor` found something that fails) · 2 wrong use, or the store
cannot be used; one sentence says why · 130 interrupted. `toril --version` prints the version.
"""


def pages() -> dict[str, str]:
    """Every page by its path below docs/, as it is to be."""
    return {
        "states.md": f"{NOTE}\n{_STATES}{_CAUSES}\n{states.render()}\n",
        "reference/settings.md": _settings(),
        "reference/cli.md": _command_line(),
    }


def benchmarks(result: str) -> str:
    """The page of benchmarks with the figures of a file in bench/results/."""
    page = BENCHMARKS.read_text(encoding="utf-8")
    figures = re.sub(r"^(#+) ", r"#\1 ", (RESULTS / result).read_text(encoding="utf-8").strip(), flags=re.MULTILINE)
    shown = f"<!-- figures: bench/results/{result} -->\n{figures}\n<!-- end of figures -->"
    return re.sub(r"<!-- figures: .*<!-- end of figures -->", lambda _: shown, page, flags=re.DOTALL)


def shown_result() -> str:
    """The name of the file whose figures the page of benchmarks shows."""
    found = re.search(r"<!-- figures: bench/results/(\S+) -->", BENCHMARKS.read_text(encoding="utf-8"))
    return found[1] if found else ""


def main() -> None:
    """Write the pages that differ. The page of benchmarks gets the newest full run."""
    written = pages()
    if results := sorted(path.name for path in RESULTS.glob("*.md") if _FULL_RUN.fullmatch(path.stem)):
        written["benchmarks.md"] = benchmarks(results[-1])
    for name, text in written.items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


def _settings() -> str:
    lines = [NOTE, _SETTINGS]
    url = Settings.model_fields["url"]
    lines += [*_head(), f"| `TORIL_URL` | `{DEFAULT_URL}` | {url.description} |", _STORE]
    for title, section in SECTIONS.items():
        prefix = section.model_config.get("env_prefix", "")
        lines += [f"## {title}", "", *_head()]
        for name, field in section.model_fields.items():
            shown = _default(name, field.default)
            lines.append(f"| `{prefix}{name.upper()}` | {shown} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def _head() -> tuple[str, str]:
    return "| variable | default | meaning |", "|---|---|---|"


def _default(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return human(value)
    return f"{value:,} bytes" if name.endswith("_limit") and isinstance(value, int) else f"`{value}`"


def _command_line() -> str:
    return "\n".join((NOTE, _CLI, *_command(get_command(app), "toril"))) + "\n"


def _command(command: Any, path: str) -> Iterator[str]:
    """A command and those below it. `Any`: Typer may bring a copy of click with it."""
    below: dict[str, Any] = getattr(command, "commands", {})
    if below:
        yield from (f"## {path}", "", _sentence(command), "")
        for name in command.list_commands(None):
            yield from _command(below[name], f"{path} {name}")
        return
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join((path, *(_argument(one) for one in arguments)))
    yield from (f"### {path}", "", _sentence(command), "", "```text", f"{usage} [OPTIONS]", "```", "")
    yield from ("| | default | |", "|---|---|---|")
    for parameter in command.params:
        names = [parameter.name.upper()] if parameter in arguments else [*parameter.opts, *parameter.secondary_opts]
        variable = f" Variable: `{parameter.envvar}`." if parameter.envvar else ""
        shown = ", ".join(f"`{name}`" for name in names)
        yield f"| {shown} | {_option_default(parameter)} | {' '.join((parameter.help or '').split())}{variable} |"
    yield ""


def _argument(parameter: Any) -> str:
    name = f"{parameter.name.upper()}{'…' if parameter.nargs == -1 else ''}"
    return name if parameter.required else f"[{name}]"


def _sentence(command: Any) -> str:
    return " ".join((command.help or "").split())


def _option_default(parameter: Any) -> str:
    value = parameter.default
    if value in (None, False, "", ()) or callable(value) or parameter.required:
        return ""
    return f"`{getattr(value, 'value', value)}`"


if __name__ == "__main__":
    main()
