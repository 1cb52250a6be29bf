"""A supervisor and its worker processes: crashed, worn out, replaced one after another, stopped together."""

import asyncio
import errno
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.worker.yard import Station, said
from toril.jobs.states import State
from toril.kernel.telemetry import LoopFailed, ProcessStarted, Telemetry
from toril.worker.offspring import Offspring
from toril.worker.supervisor import Supervisor

pytestmark = pytest.mark.timeout(60)


def gone(*pids: int) -> bool:
    """Neither running nor left as a zombie."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_a_killed_child_is_started_again_and_all_are_stopped(station: Station) -> None:  # S2-23
    supervisor = await station.supervise(2)
    pids = [int((await said(supervisor, "up"))[1]) for _ in range(2)]
    os.kill(pids[0], signal.SIGKILL)
    assert (await said(supervisor, "ProcessEnded"))[2:4] == [str(pids[0]), "-9"]
    pids.append(int((await said(supervisor, "up"))[1]))
    assert len(set(pids)) == 3
    assert gone(pids[0])
    supervisor.terminate()
    out, _ = await supervisor.communicate()
    assert supervisor.returncode == 0
    assert {line.split()[1] for line in out.decode().splitlines() if line.startswith("down")} == set(map(str, pids[1:]))
    assert gone(*pids)


async def test_no_child_outlives_a_killed_supervisor(station: Station) -> None:  # A02
    supervisor = await station.supervise(1)
    pid = (await said(supervisor, "up"))[1]
    supervisor.kill()
    # The child holds the other end of the output: it is closed when the child is gone.
    out, _ = await supervisor.communicate()
    assert out.decode().split() == ["down", pid]


async def test_a_child_that_cannot_start_ends_the_supervisor(station: Station) -> None:
    supervisor = await station.supervise(2, "wrong")
    await supervisor.communicate()
    assert supervisor.returncode == 2


async def test_children_that_crash_are_started_with_growing_waits(station: Station) -> None:
    supervisor = await station.supervise(1, "crash")
    waits = [float((await said(supervisor, "ProcessEnded"))[4]) for _ in range(4)]
    assert all(0.1 * 2**number <= wait <= 0.2 * 2**number for number, wait in enumerate(waits))
    supervisor.terminate()
    await supervisor.communicate()
    assert supervisor.returncode == 0


async def test_a_machine_that_has_no_room_for_a_process_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # S2-23: EAGAIN, ENOMEM and EMFILE pass, and a place must not stay empty for ever
    telemetry = Telemetry()
    told: list[LoopFailed | ProcessStarted] = []
    started = asyncio.Event()

    def hear(event: LoopFailed | ProcessStarted) -> None:
        told.append(event)
        if isinstance(event, ProcessStarted):
            started.set()

    telemetry.subscribe(hear, LoopFailed, ProcessStarted)
    start, refusals = Offspring.start, 2

    async def refusing(*args: Any, **kwargs: Any) -> Offspring:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return await start(*args, **kwargs)

    monkeypatch.setattr(Offspring, "start", refusing)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    supervisor = Supervisor(command, 1, shutdown_timeout_s=5, telemetry=telemetry)
    running = asyncio.create_task(supervisor.run())
    await started.wait()
    supervisor.ask_to_stop()
    assert await running == 0
    assert [type(event) for event in told] == [LoopFailed, LoopFailed, ProcessStarted]


async def test_a_successor_that_cannot_be_started_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    failed, started = asyncio.Event(), asyncio.Event()
    telemetry.subscribe(lambda event: failed.set(), LoopFailed)
    telemetry.subscribe(lambda event: started.set(), ProcessStarted)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    supervisor = Supervisor(command, 1, shutdown_timeout_s=5, telemetry=telemetry)
    running = asyncio.create_task(supervisor.run())
    await started.wait()

    async def refuse(*args: Any, **kwargs: Any) -> Offspring:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(Offspring, "start", refuse)
    supervisor.ask_to_roll()
    await failed.wait()
    assert not running.done()
    supervisor.ask_to_stop()
    assert await running == 0


async def test_children_that_do_not_stop_are_killed_in_the_end(station: Station) -> None:
    supervisor = await station.supervise(1, timeout=-4.5)
    pid = int((await said(supervisor, "up"))[1])
    os.kill(pid, signal.SIGSTOP)
    supervisor.terminate()
    await supervisor.communicate()
    assert supervisor.returncode == 0
    assert gone(pid)


async def test_a_worn_out_child_is_replaced_without_losing_a_job(station: Station) -> None:  # A05
    supervisor = await station.supervise(1, "wears")
    old = (await said(supervisor, "up"))[1]
    held = await station.enqueue("hold", '{"seconds":2}')
    assert (await said(supervisor, "started"))[1] == held
    ids = [await station.enqueue("count", f'{{"number":{number}}}') for number in range(60)]
    lines: list[str] = []
    ups = 0
    while not (ups and lines[-1].startswith("down")):
        assert supervisor.stdout is not None
        lines.append((await supervisor.stdout.readline()).decode().strip())
        ups += lines[-1].startswith("up")
    # The new one works before the old one is asked to stop, and a long job ends where it began.
    [new] = [line.split()[1] for line in lines if line.startswith("up")]
    [replaced] = [line for line in lines if line.startswith("ProcessReplaced")]
    assert replaced.startswith(f"ProcessReplaced {old} {new} it has run ")
    assert lines.index(f"up {new}") < lines.index(replaced) < lines.index(f"down {old}")
    job = await station.in_state(held, State.COMPLETED, State.FAILED)
    assert (job.result, job.starts) == (f'"{old}"', 1)
    jobs = [await station.in_state(id, State.COMPLETED, State.FAILED) for id in ids]
    assert all((job.state, job.starts) == (State.COMPLETED, 1) for job in jobs)
    supervisor.terminate()
    out, _ = await supervisor.communicate()
    runs = Counter(line for line in [*lines, *out.decode().splitlines()] if line.startswith("ran"))
    assert runs == {f"ran {number}": 1 for number in range(60)}
    assert gone(int(old), int(new))


async def test_new_code_that_cannot_start_breaks_the_roll_off(station: Station, tmp_path: Path) -> None:  # A07
    obstacle = tmp_path / "broken"
    supervisor = await station.supervise(1, f"unless:{obstacle}")
    old = (await said(supervisor, "up"))[1]
    obstacle.write_text("2", encoding="utf-8")
    supervisor.send_signal(signal.SIGHUP)
    failed = await said(supervisor, "ReplacementFailed")
    assert (failed[1], failed[3]) == (old, "2")
    assert await said(supervisor, "RollEnded") == ["RollEnded", "0", "1"]
    id = await station.enqueue("count", '{"number":1}')
    await station.in_state(id, State.COMPLETED)
    # When the old one crashes it cannot come back, either, until the code is right again; that is no reason to end.
    os.kill(int(old), signal.SIGKILL)
    while (ended := await said(supervisor, "ProcessEnded"))[2] == old:
        pass
    assert (ended[3], ended[4] != "None") == ("2", True)
    obstacle.unlink()
    await said(supervisor, "up")
    supervisor.terminate()
    await supervisor.communicate()
    assert supervisor.returncode == 0
    assert gone(int(old))


async def test_stopping_in_the_middle_of_a_roll_stops_old_and_new(station: Station) -> None:
    supervisor = await station.supervise(1)
    old = (await said(supervisor, "up"))[1]
    held = await station.enqueue("hold", '{"seconds":60}')
    await said(supervisor, "started")
    supervisor.send_signal(signal.SIGHUP)
    new = (await said(supervisor, "up"))[1]
    await said(supervisor, "ProcessReplaced")
    supervisor.terminate()
    # The old one has been asked already, and is not hurried by the stop of all.
    assert (await said(supervisor, "down"))[1] == new
    assert not gone(int(old))
    await asyncio.wait([asyncio.ensure_future(supervisor.wait())], timeout=0.3)
    supervisor.terminate()
    await supervisor.communicate()
    assert supervisor.returncode == 0
    assert gone(int(old), int(new))
    assert (await station.in_state(held, State.WAITING)).attempts_made == 0
