"""Real worker processes on one file: killed and stopped."""

import asyncio
import signal
import time
from collections import Counter

import pytest

from tests.worker.yard import Station, said
from toril.jobs.states import State

pytestmark = pytest.mark.timeout(60)


async def test_a_killed_worker_is_taken_over(station: Station) -> None:  # S0-03 S2-23 A02
    # S0-26, S1-02, S1-15
    first = await station.spawn()
    id = await station.enqueue("hold_first", "{}")
    await said(first, "started")
    second = await station.spawn()
    await said(second, "up")
    first.kill()
    killed = time.monotonic()
    assert (await said(second, "started"))[1:] == [id, "2"]
    # The lock lasts 1 s and is looked for every 0.2 s; the rest is for a busy machine.
    assert time.monotonic() - killed < 15
    job = await station.in_state(id, State.COMPLETED, State.FAILED)
    assert (job.state, job.result) == (State.COMPLETED, f'"{second.pid}"')
    assert (job.attempts_made, job.stalls, job.starts) == (1, 1, 2)


async def test_a_worker_that_was_frozen_finds_its_lock_lost(any_station: Station) -> None:  # A03
    station = any_station
    first = await station.spawn()
    id = await station.enqueue("hold_first", "{}")
    assert (await said(first, "started"))[1:] == [id, "1"]
    first.send_signal(signal.SIGSTOP)
    second = await station.spawn()
    assert (await said(second, "started"))[1:] == [id, "2"]
    job = await station.in_state(id, State.COMPLETED, State.FAILED)
    first.send_signal(signal.SIGCONT)
    # Its handler is cancelled, and what it would have said is not stored.
    assert (await said(first, "lost"))[1:] == [id, "True"]
    after = await station.in_state(id, State.COMPLETED, State.FAILED)
    assert (after.result, after.worker, after.history) == (job.result, job.worker, job.history)
    assert (after.result, after.attempts_made, after.stalls, after.starts) == (f'"{second.pid}"', 1, 1, 2)
    # It goes on as any other worker does.
    second.terminate()
    await second.communicate()
    more = await station.enqueue("count", '{"number":7}')
    assert (await said(first, "ran"))[1:] == ["7"]
    assert (await station.in_state(more, State.COMPLETED)).result == "7"


@pytest.mark.timeout(60)
async def test_a_stopped_worker_that_wakes_does_no_harm(station: Station) -> None:  # A02
    # S0-26
    first = await station.spawn()
    id = await station.enqueue("hold", '{"seconds":1}')
    await said(first, "started")
    first.send_signal(signal.SIGSTOP)
    second = await station.spawn()
    assert (await said(second, "started"))[1:] == [id, "2"]
    first.send_signal(signal.SIGCONT)
    job = await station.in_state(id, State.COMPLETED, State.FAILED)
    assert (job.state, job.result, job.starts, job.stalls) == (State.COMPLETED, f'"{second.pid}"', 2, 1)
    # Both go on to work, whoever of them maintains the queue now.
    others = [await station.enqueue("count", f'{{"number":{number}}}') for number in range(20)]
    for other in others:
        assert (await station.in_state(other, State.COMPLETED, State.FAILED)).starts == 1


async def test_two_processes_share_a_file_and_nothing_runs_twice(station: Station) -> None:  # S0-21
    children = [await station.spawn(), await station.spawn()]
    for child in children:
        await said(child, "up")
    ids = [await station.enqueue("count", f'{{"number":{number}}}') for number in range(200)]
    workers = {(await station.in_state(id, State.COMPLETED)).worker for id in ids}
    runs: Counter[str] = Counter()
    for child in children:
        child.terminate()
        out, _ = await child.communicate()
        runs.update(line for line in out.decode().splitlines() if line.startswith("ran"))
        assert child.returncode == 0
    assert runs == {f"ran {number}": 1 for number in range(200)}
    assert len(workers) == 2


@pytest.mark.parametrize("name", ["stubborn", "deaf"])
async def test_sigterm_hands_back_and_exits_with_0_in_time(station: Station, name: str) -> None:  # A07 S2-30
    child = await station.spawn("hasty")
    id = await station.enqueue(name, "{}")
    await said(child, "started")
    began = time.monotonic()
    child.terminate()
    await child.communicate()
    assert child.returncode == 0
    # The patience is 0.3 s; a busy machine may take longer, but not as long as the handler would.
    assert time.monotonic() - began < 20
    job = await station.in_state(id, State.WAITING)
    assert job.attempts_made == 0


async def test_what_is_handed_back_runs_elsewhere_at_once(any_station: Station) -> None:  # A07
    station = any_station
    first = await station.spawn("hasty")
    id = await station.enqueue("hold", '{"seconds":60}')
    assert (await said(first, "started"))[1:] == [id, "1"]
    second = await station.spawn()
    await said(second, "up")
    first.terminate()
    await first.communicate()
    assert first.returncode == 0
    ended = time.monotonic()
    # At once and not when a lock has run out: the job was handed back.
    assert (await said(second, "started"))[1:] == [id, "2"]
    assert time.monotonic() - ended < 5
    job = await station.in_state(id, State.ACTIVE)
    assert (job.attempts_made, job.stalls) == (0, 0)
    # This one would wait for 20 s; the second signal hands back at once.
    second.send_signal(signal.SIGINT)
    await asyncio.wait([asyncio.ensure_future(second.wait())], timeout=0.4)
    ended_too_early = second.returncode is not None
    second.send_signal(signal.SIGINT)
    await second.communicate()
    assert (ended_too_early, second.returncode) == (False, 0)
    assert time.monotonic() - ended < 18
    job = await station.in_state(id, State.WAITING)
    assert (job.attempts_made, job.stalls, [run.outcome for run in job.history]) == (0, 0, ["released", "released"])
