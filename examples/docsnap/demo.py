"""The demo: a site to read, the API, a worker, five jobs, five progress bars.

Three processes, as in real life: this one (the Lantern site and the terminal), the API, and the worker with five slots.
They share one folder. Killed in the middle, the next start finds the unfinished jobs there and finishes them.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from docsnap.board import Board, Row
from docsnap.children import Child, ChildFailed
from docsnap.client import ApiClient
from docsnap.lantern.server import HOST, LanternSite, Pace
from docsnap.rounds import FolderBusy, Round, RoundFile, exclusive, plan_round
from toril.settings import Settings, store_address

DATA_DIR = Path("docsnap-data")
FIRST_PORT = 8000
SLOTS = 5
ONCE_SECONDS = 120.0
FRAME_SECONDS = 0.12


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


def main(*, once: bool = False, port: int | None = None, data_dir: Path | None = None) -> int:
    """Run the demo until Ctrl-C or SIGTERM.

    Args:
        once: end after the five jobs.
        port: of the page; 0 takes any free one, None takes 8000 or, when that is taken, any free one.
        data_dir: folder of database, documents and logs, made when missing; None takes `docsnap-data` here.

    Returns:
        The exit code: 0, or 1 when a job failed, the five took more than two minutes (`once`), or nothing could start.
    """
    console = Console(highlight=False)
    folder = (data_dir or DATA_DIR).resolve()
    try:
        with exclusive(folder):
            return asyncio.run(run(once=once, port=port, data_dir=folder, console=console))
    except (DemoFailed, ChildFailed, FolderBusy, OSError) as error:
        console.print(f"[red]The demo stopped:[/] {error}", markup=True)
        return 1


async def run(*, once: bool, port: int | None, data_dir: Path, console: Console, pace: Pace | None = None) -> int:
    """`main` for callers with an event loop and a folder of their own."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        working = asyncio.ensure_future(_work(once, port, data_dir, console, pace))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        working.cancel()
        try:
            return await working
        except asyncio.CancelledError:
            console.print("\nStopped. What was not finished goes on at the next start.")
            return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _work(once: bool, port: int | None, data_dir: Path, console: Console, pace: Pace | None) -> int:
    file = RoundFile(data_dir)
    current = file.load()
    async with AsyncExitStack() as stack:
        site = _open_site(current, pace)
        stack.callback(site.stop)
        current.site_port = site.port
        file.save(current)
        page = f"http://{HOST}:{_page_port(port)}"
        children = await _start_children(stack, site, page, data_dir, current)
        client = await stack.enter_async_context(ApiClient(page))
        with console.status("Starting the API and the worker …"):
            await client.wait_until_up(children)
        ids = await _five_jobs(client, site, current, file, console)
        console.print(f"The page with the same bars: [bold]{page}/[/]\n", markup=True)
        ok = await _watch(client, ids, children, console, ONCE_SECONDS if once else None)
        _say_where(console, page, ids[0], data_dir, ok)
        if not once:
            console.print("\nCtrl-C ends the demo.")
        while not once:
            _check(children)
            await asyncio.sleep(1.0)
    return 0 if ok else 1


def _open_site(current: Round, pace: Pace | None) -> LanternSite:
    try:
        site = LanternSite(current.site_port, pace)
    except OSError as error:
        if current.jobs:
            raise DemoFailed(
                f"port {current.site_port}, which the demo site had last time, is taken now ({error.strerror}); "
                "free it, or start afresh with another --data"
            ) from error
        site = LanternSite(0, pace)
    site.start()
    return site


def store_url(data_dir: Path) -> str:
    """Where the jobs are: on the Redis that the environment names, or in a file of the demo's folder."""
    address = store_address(None, Settings(url=None))
    return address.url if address.decided_by in ("REDIS_URL", "REDIS_HOST") else f"sqlite:///{data_dir / 'toril.db'}"


async def _start_children(
    stack: AsyncExitStack, site: LanternSite, page: str, data_dir: Path, current: Round
) -> list[Child]:
    logs = data_dir / "logs"
    logs.mkdir(exist_ok=True)
    environ = {
        **os.environ,
        "TORIL_URL": store_url(data_dir),
        "DOCSNAP_DATA": str(data_dir),
        "DOCSNAP_ALLOW": site.authority,
        "DOCSNAP_SECRET": current.secret,
        "DOCSNAP_DEMO": "1",
    }
    server = ["uvicorn", "docsnap.app:app", "--host", HOST, "--port", page.rpartition(":")[2]]
    # In one process the API would run jobs as well; here they have a worker of their own.
    environ["TORIL_WORKER_LIFESPAN"] = "false"
    environ["TORIL_WORKER_SHUTDOWN_TIMEOUT"] = "1s"  # Ctrl-C should not wait for jobs which the next start goes on with
    commands = {
        "worker": ["toril", "worker", "docsnap.app:toril", "--concurrency", str(SLOTS)],
        "api": [*server, "--no-access-log", "--timeout-graceful-shutdown", "2"],
    }
    children = []
    for name, arguments in commands.items():
        child = await Child.start(name, arguments, environ, logs)
        stack.push_async_callback(child.stop)
        children.append(child)
    return children


async def _five_jobs(
    client: ApiClient, site: LanternSite, current: Round, file: RoundFile, console: Console
) -> list[str]:
    """The ids of the five jobs: those of a demo that was interrupted, or new ones."""
    plan = plan_round(current.jobs, await client.rows(), site.urls)
    if plan.unfinished:
        console.print(f"resuming {plan.unfinished} unfinished job{'' if plan.unfinished == 1 else 's'}")
    if plan.missing:
        console.print(f"Submitting {len(plan.missing)} jobs, one for each book of the Lantern handbook.")
    current.jobs = plan.kept
    file.save(current)
    for url in plan.missing:
        current.jobs[url] = await client.submit(url)
        file.save(current)
    return [current.jobs[url] for url in site.urls]


async def _watch(
    client: ApiClient, ids: list[str], children: list[Child], console: Console, limit: float | None
) -> bool:
    """Show the bars until all five jobs are finished; True when all succeeded."""
    rows: dict[str, Row] = {}
    try:
        async with asyncio.timeout(limit):
            with Board(console) as board:
                while len(rows) < len(ids) or not all(row.finished for row in rows.values()):
                    _check(children)
                    # A job that changes its state during the listing may be absent once: its last look stays.
                    rows |= {row.id: row for row in await client.rows() if row.id in ids}
                    board.show(rows[job_id] for job_id in ids if job_id in rows)
                    await asyncio.sleep(FRAME_SECONDS)
    except TimeoutError:
        console.print(f"[red]The five jobs were not finished within {limit:g} s.[/]", markup=True)
        return False
    return all(row.state == "completed" for row in rows.values())


def _say_where(console: Console, page: str, first: str, data_dir: Path, ok: bool) -> None:
    if not ok:
        console.print(f"[red]Not every job succeeded;[/] the logs are in {data_dir / 'logs'}", markup=True)
    console.print(f"\nPage          [bold]{page}/[/]", markup=True)
    console.print(f"First result  [bold]{page}/documents/{first}[/]", markup=True)
    console.print(f"As a file     {data_dir / 'documents' / first}.md", soft_wrap=True)


def _check(children: Iterable[Child]) -> None:
    for child in children:
        child.check()


def _page_port(wanted: int | None) -> int:
    """A port that is free now.

    Raises:
        DemoFailed: the wanted one is taken.
    """
    for port in [FIRST_PORT, 0] if wanted is None else [wanted]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed(f"port {wanted} is taken; choose another one with --port, or none to take any")
