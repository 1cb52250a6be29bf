"""`toril worker` as a real process: it says what it is, stops in order, shares a file, and is taken over."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.stored import ROOT, add, answer, spawn, toril, url_of

APP = "tests.cli.sample:toril"
pytestmark = pytest.mark.timeout(60)
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Start `toril worker` on the test's own store; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, app: str = APP, **environ: str) -> subprocess.Popen[str]:
        process = spawn("worker", app, *arguments, environ={"TORIL_URL": url_of(path), **environ}, cwd=path.parent)
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=8)


def wait_until(true: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> str:
    """Send a signal and answer what the process logged; its exit code must be 0."""
    process.send_signal(number)
    _, err = process.communicate(timeout=40)
    assert process.returncode == 0, err
    assert "Traceback" not in err, err
    return err


def state(path: Path, job_id: str) -> str:
    found: str = answer("jobs", "show", job_id, "--url", url_of(path))["state"]
    return found


def first_lines(process: subprocess.Popen[str], last: str) -> str:
    """What it writes up to the line that holds `last`."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if last in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def test_the_banner_says_who_where_and_what(start: Start, path: Path) -> None:  # S0-13, S2-14
    # S2-21
    process = start("--concurrency", "200", "--name", "crew")
    shown = first_lines(process, "new, empty database")
    assert re.search(r"worker +crew-\d+-\w+", shown)
    assert re.search(r"mode +sqlite, embedded file", shown)
    assert f"{path}  (from TORIL_URL)" in shown
    assert "pids  (hold)" in shown
    assert "sums  (add, divide)" in shown
    assert re.search(r"slots +200", shown)
    stop(process)


def test_without_a_variable_the_file_lies_here_and_that_is_said(start: Start, path: Path) -> None:  # S0-08, S0-14
    # S0-01, S1-12
    shown = first_lines(start(TORIL_URL=""), "new, empty database")
    assert f"{path.parent / 'toril.db'}  (neither TORIL_URL nor REDIS_URL is set)" in shown


def test_the_start_log_names_mode_and_queues(start: Start, path: Path) -> None:  # S0-13
    process = start()
    wait_until(path.exists)
    wait_until(lambda: bool(answer("stats", "--url", url_of(path))["workers"]))
    process.terminate()
    _, err = process.communicate(timeout=40)
    assert process.returncode == 0
    assert f"mode sqlite, {path} (decided by: TORIL_URL); queues: pids, sums" in err


def test_a_job_from_the_command_line_is_run(start: Start, path: Path) -> None:
    start()
    environ = {"TORIL_URL": url_of(path)}
    done = spawn("jobs", "enqueue", "add", "left=40", "right:=2", "--wait", "40", "-A", APP, "--json", environ=environ)
    out, err = done.communicate(timeout=40)
    assert done.returncode == 0, err
    assert json.loads(out)["result"] == 42
    failing = spawn("jobs", "enqueue", "divide", "left=1", "right=0", "--wait", "40", "-A", APP, environ=environ)
    _, err = failing.communicate(timeout=40)
    assert failing.returncode == 2
    assert "ZeroDivisionError" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_hands_running_jobs_back(number: int, start: Start, path: Path) -> None:  # S2-30
    job_id = add(path, "pids", "hold", folder=str(path.parent))
    process = start("--shutdown-timeout", "0.1s")
    wait_until((path.parent / "started-1").exists)
    assert "has stopped, 1 jobs handed back" in stop(process, number)
    job = answer("jobs", "show", job_id, "--url", url_of(path))
    assert (job["state"], job["attempts"]) == ("waiting", 0)


def test_two_processes_share_the_work(start: Start, path: Path) -> None:  # S2-20
    # S1-16, S2-21
    process = start("--processes", "2", "--concurrency", "1")
    assert "1 in each of 2 processes, 2 together" in first_lines(process, "new, empty database")
    wait_until(lambda: path.exists() and len(answer("stats", "--url", url_of(path))["workers"]) == 2)
    folders = [path.parent / name for name in ("left", "right")]
    for folder in folders:
        folder.mkdir()
        add(path, "pids", "hold", folder=str(folder))
    # Each process has one slot: both jobs run at the same time only if both processes take one.
    wait_until(lambda: all((folder / "started-1").exists() for folder in folders))
    assert len({(folder / "started-1").read_text(encoding="utf-8") for folder in folders}) == 2
    for folder in folders:
        (folder / "go").touch()
    wait_until(lambda: answer("stats", "--url", url_of(path))["stats"]["completed"] == 2)
    jobs = answer("jobs", "list", "pids", "--url", url_of(path))["jobs"]
    assert all(job["attempts"] == 1 for job in jobs)
    stop(process)


def test_a_killed_worker_is_taken_over(start: Start, path: Path) -> None:  # S2-23, S0-03
    quick = {
        "TORIL_WORKER_LOCK": "0.6s",
        "TORIL_WORKER_HEARTBEAT": "0.2s",
        "TORIL_WORKER_RECOVER_EVERY": "0.2s",
    }
    job_id = add(path, "pids", "hold", folder=str(path.parent))
    first = start(**quick)
    wait_until((path.parent / "started-1").exists)
    first.kill()
    first.wait(timeout=40)
    second = start(**quick)
    wait_until((path.parent / "started-2").exists)
    (path.parent / "go").touch()
    wait_until(lambda: state(path, job_id) == "completed")
    job = answer("jobs", "show", job_id, "--url", url_of(path))
    assert (job["result"], job["starts"], job["stalls"], job["attempts"]) == ("held", 2, 1, 1)
    stop(second)


def test_a_crashed_child_is_started_again(start: Start, path: Path) -> None:  # S2-23
    process = start("--processes", "2")
    wait_until(lambda: path.exists() and len(answer("stats", "--url", url_of(path))["workers"]) == 2)
    pids = {worker["pid"] for worker in answer("stats", "--url", url_of(path))["workers"]}
    victim = pids.pop()
    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        alive = {worker["pid"] for worker in answer("stats", "--url", url_of(path))["workers"]}
        return len(alive - pids - {victim}) == 1

    wait_until(replaced)
    stop(process)


def test_a_worn_out_process_is_replaced(start: Start, path: Path) -> None:  # A05
    process = start("--max-jobs", "3", TORIL_WORKER_MAX_AGE="1h", TORIL_WORKER_MAX_RSS="1GiB")
    ids = [add(path, "sums", "add", left=number) for number in range(3)]
    wait_until(lambda: all(state(path, id) == "completed" for id in ids))
    # Not from the list of workers: its successor may be all that stands there by now.
    first = int(answer("jobs", "show", ids[0], "--url", url_of(path))["worker"].split("-")[-2])

    def replaced() -> bool:
        pids = {worker["pid"] for worker in answer("stats", "--url", url_of(path))["workers"]}
        return len(pids) == 1 and first not in pids

    wait_until(replaced)
    last = add(path, "sums", "add", left=40)
    wait_until(lambda: state(path, last) == "completed")
    said = stop(process)
    assert re.search(rf"Worker process {first} is replaced by \d+: it has run 3 jobs", said)


def test_a_limit_of_memory_that_nothing_fits_in_is_refused(start: Start) -> None:
    process = start("--max-rss", "10MiB")
    _, err = process.communicate()
    assert process.returncode == 2
    assert "max_rss: expected more than the" in err


def test_changed_code_is_used_with_reload(start: Start, path: Path) -> None:
    source = (
        "from toril import Toril\ntoril = Toril()\n@toril.task(queue='sums')\nasync def which() -> int: return {}\n"
    )
    module = path.parent / "changing.py"
    module.write_text(source.format(1), encoding="utf-8")
    process = start("--reload", app="changing:toril")

    def answers(expected: int) -> bool:
        job_id = add(path, "sums", "which")
        wait_until(lambda: state(path, job_id) == "completed")
        found: int = answer("jobs", "show", job_id, "--url", url_of(path))["result"]
        return found == expected

    wait_until(lambda: answers(1))
    module.write_text(source.format("no number"), encoding="utf-8")
    module.write_text(source.format(22), encoding="utf-8")
    wait_until(lambda: answers(22))
    assert "changing.py" in stop(process)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "needs the application"),
        ([APP, "--max-age", "later"], "--max-age"),
        ([APP, "--max-rss", "lots"], "--max-rss"),
        ([APP, "--reload", "--reload-dir", "nowhere"], "--reload-dir: expected a folder"),
        ([APP, "--queues", "no good"], "queue: expected"),
        ([APP, "--shutdown-timeout", "later"], "--shutdown-timeout"),
        ([APP, "--concurrency", "0"], "--concurrency"),
    ],
)
def test_wrong_use_is_exit_code_2(
    arguments: list[str], sentence: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    monkeypatch.syspath_prepend(str(ROOT))
    result = toril("worker", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_an_application_without_tasks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "no_tasks.py").write_text("from toril import Toril\ntoril = Toril()\n", encoding="utf-8")
    result = toril("worker", "no_tasks:toril")
    assert result.exit_code == 2
    assert "has no task" in result.stderr


def test_memory_cannot_be_shared_by_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from toril import Toril\ntoril = Toril('sqlite://')\n@toril.task\nasync def one() -> None: ...\n"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "in_memory.py").write_text(source, encoding="utf-8")
    for several in (("--processes", "2"), ("--max-jobs", "9"), ("--reload",)):
        result = toril("worker", "in_memory:toril", *several)
        assert result.exit_code == 2
        assert "cannot be shared" in result.stderr
