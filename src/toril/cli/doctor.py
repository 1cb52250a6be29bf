"""`toril doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import typer
from rich.markup import escape

from toril.app import Toril
from toril.cli import block_checks, breakers, cache_checks, checks, outbox, redis_checks, spool
from toril.cli.checks import Check, Level
from toril.cli.loading import load_app
from toril.cli.options import AppOption, JsonOption, UrlOption
from toril.cli.presence import live_workers
from toril.cli.screen import console, say, show_json
from toril.engine.open import redacted
from toril.engine.protocol import Health
from toril.engine.sqlite.filesystem import file_system_of, mount_table
from toril.engine.sqlite.integrity import problems
from toril.errors import TorilError
from toril.jobs.states import State
from toril.settings import unknown_variables

_MARKS = {Level.PASS: "[green]pass[/]", Level.WARN: "[yellow]warn[/]", Level.FAIL: "[bold red]FAIL[/]"}


def doctor(app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Check configuration, store, disk, clock, workers and queues. Exit code 1 when something fails."""
    found = asyncio.run(_examine(app, url, quiet=as_json))
    worst = {one.level for one in found}
    if as_json:
        show_json({"ok": Level.FAIL not in worst, "checks": [one._asdict() for one in found]})
    else:
        counted = {level: sum(one.level is level for one in found) for level in Level}
        say("\n" + ", ".join(f"{count} {level}" for level, count in counted.items()))
    if Level.FAIL in worst:
        raise typer.Exit(1)


async def _examine(app: str | None, url: str | None, *, quiet: bool) -> list[Check]:
    """All checks; each is shown as soon as it is known, since a damaged store may make the next one slow."""
    found = []
    async for check in _checks(app, url):
        found.append(check)
        if not quiet:
            _show(check)
    return found


def _show(check: Check) -> None:
    target = console()
    target.print(f"{_MARKS[check.level]}  [bold]{escape(check.name)}[/]: {escape(check.found)}", soft_wrap=True)
    if check.todo:
        target.print(f"      → {escape(check.todo)}", soft_wrap=True)


async def _checks(app: str | None, url: str | None) -> AsyncIterator[Check]:
    try:
        toril = load_app(app) if app is not None else Toril(url)
        engine = toril.engine
    except TorilError as error:
        yield Check("configuration", Level.FAIL, str(error), "correct it, then run toril doctor again")
        return
    yield _configuration(toril, app, url)
    relayed = await outbox.check(toril)
    if relayed is not None:
        yield relayed
    embedded = engine.name == "sqlite" and engine.capabilities.shared
    if embedded:
        database = Path(engine.location)
        here = checks.folder(database.parent)
        yield here
        if here.level is Level.FAIL:
            return
        yield checks.space(database.parent)
        if not await asyncio.to_thread(database.exists):
            todo = "nothing, if no application has run yet; else look at the path above"
            yield Check("database", Level.WARN, f"{database} is not there yet", todo)
            return
    try:
        await engine.start()
    except TorilError as error:
        yield Check("store", Level.FAIL, str(error), _todo(error))
        return
    try:
        async for check in _open_checks(toril, database if embedded else None):
            yield check
    except TorilError as error:
        yield Check("store", Level.FAIL, str(error), _todo(error))
    finally:
        await toril.close()


def _configuration(toril: Toril, app: str | None, url: str | None) -> Check:
    decided = "--url" if url is not None and app is None else toril.address.decided_by
    found = f"{redacted(toril.address.url)} (decided by: {decided})"
    problems = [*([toril.address.warning] if toril.address.warning else []), *unknown_variables()]
    if problems:
        return Check("configuration", Level.WARN, found, " ".join(problems))
    return Check("configuration", Level.PASS, found)


async def _open_checks(toril: Toril, database: Path | None) -> AsyncIterator[Check]:
    engine, now = toril.engine, toril.clock.now_ms()
    if engine.name == "redis":
        health = await engine.health()
        for check in redis_checks.server(health):
            yield check
        waiting = await spool.check(toril)
        if waiting is not None:
            yield waiting
        if not health.ok:
            return
    stats = await toril.stats()
    if engine.name == "sqlite":
        yield _store(stats.health)
    if database is not None:
        yield _file_system(database)
        yield checks.files(database)
        yield await asyncio.to_thread(_integrity, database)
    queues, workers = stats.queues, live_workers(stats.workers)
    newest = [
        job
        for one in queues
        for job in (await engine.inspect.list(one.name, [State.COMPLETED], limit=1, newest_first=True)).jobs
    ]
    yield checks.clock(workers, newest, now)
    for check in checks.alive(workers, queues, now):
        yield check
    for one in queues:
        yield await checks.queue(engine, one, workers, now)
    yield await block_checks.channels(engine, now)
    cookies = block_checks.sessions(toril.sessions)
    if cookies is not None:
        yield cookies
    yield await cache_checks.cache(toril)
    yield cache_checks.limits(toril)
    yield cache_checks.once(toril)
    yield await breakers.check(toril)


def _store(health: Health) -> Check:
    detail = health.detail
    if not health.ok:
        return Check("store", Level.FAIL, str(detail.get("error", "it does not answer")), "see the message")
    found = (
        f"SQLite {detail['sqlite']}, schema {detail['user_version']}, journal mode {detail['journal_mode']}, "
        f"answers in {health.round_trip_ms:.1f} ms"
    )
    if detail["journal_mode"] not in ("wal", "memory"):
        return Check(
            "store", Level.WARN, found, "expected journal mode wal: close every program that has the file open"
        )
    return Check("store", Level.PASS, found)


def _file_system(database: Path) -> Check:
    kind = file_system_of(database.resolve(), mount_table()) or "unknown"
    return Check("file system", Level.PASS, f"{kind}, local")


def _integrity(database: Path) -> Check:
    found = problems(database)
    if found:
        todo = "stop the application, copy the file away, then restore a backup or use sqlite3's .recover"
        return Check("integrity", Level.FAIL, "; ".join(found), todo)
    return Check("integrity", Level.PASS, "quick check found no damage")


def _todo(error: TorilError) -> str:
    return "call again in a moment" if error.retryable else "see the message, then run toril doctor again"
