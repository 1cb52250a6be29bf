"""Files that cannot hold a store: each gives one clear sentence and nothing is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from toril.engine.sqlite import filesystem
from toril.engine.sqlite.engine import SqliteEngine
from toril.engine.sqlite.migrate import APPLICATION_ID, migrate
from toril.engine.sqlite.statements import migrations
from toril.errors import EngineClosed, StoreCorrupt, StoreReadOnly, StoreTooNew, UnsupportedFileSystem


async def test_a_text_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "toril.db"
    path.write_text("dear diary, " * 100)
    with pytest.raises(StoreCorrupt, match="expected a Toril database, found a damaged or foreign file"):
        await SqliteEngine(path).start()
    assert path.read_text() == "dear diary, " * 100


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cookies.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cookies (n)")
    connection.close()
    with pytest.raises(StoreCorrupt, match="another program's database"):
        await SqliteEngine(path).start()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("cookies",)]
    connection.close()


async def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    """Pages in the middle of a real store are overwritten: a read of them is refused, not answered wrongly."""
    path = tmp_path / "toril.db"
    engine = SqliteEngine(path)
    await engine.start()
    await engine.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(bytes(content))
    broken = SqliteEngine(path)
    with pytest.raises(StoreCorrupt, match="restore a backup"):
        await _use(broken)
    await broken.close()


async def _use(engine: SqliteEngine) -> None:
    await engine.start()
    await engine.inspect.queues()


async def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toril.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    with pytest.raises(StoreTooNew, match="Upgrade Toril"):
        await SqliteEngine(path).start()


async def test_a_missing_folder_names_the_command_that_helps(tmp_path: Path) -> None:
    with pytest.raises(StoreReadOnly, match="mkdir -p"):
        await SqliteEngine(tmp_path / "no" / "toril.db").start()


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match="found a folder"):
        await SqliteEngine(tmp_path).start()


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    """Tried as another user where the tests run as root, whom permissions do not stop."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.getuid() == 0:
        for parent in [folder, *folder.parents]:
            if Path(tempfile.gettempdir()) in parent.parents:
                parent.chmod(0o755)
    code = (
        "import os, asyncio, concurrent.futures.thread, sys\n"
        "from toril.engine.sqlite.engine import SqliteEngine\n"
        "from toril.errors import StoreReadOnly\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try:\n    asyncio.run(SqliteEngine(sys.argv[1]).start())\n"
        "except StoreReadOnly as error:\n    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder / "toril.db")], capture_output=True, text=True, timeout=9, check=False
    )
    assert "can be written" in ran.stdout, ran.stderr
    assert not (folder / "toril.db").exists()


def test_network_file_systems_are_told_from_local_ones(tmp_path: Path) -> None:
    text = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /mnt/team\\040share rw,relatime shared:9 - nfs4 server:/x rw\n"
        "31 30 8:2 / /mnt/team\\040share/local rw - xfs /dev/sdb rw\n"
    )
    table = filesystem.parse_mountinfo(text)
    assert filesystem.file_system_of(Path("/srv/toril.db"), table) == "ext4"
    assert filesystem.file_system_of(Path("/mnt/team share/toril.db"), table) == "nfs4"
    assert filesystem.file_system_of(Path("/mnt/team share/local/toril.db"), table) == "xfs"
    assert filesystem.file_system_of(Path("/mnt/team sharely/toril.db"), table) == "ext4"
    filesystem.refuse_network(Path("/srv/toril.db"), table)
    with pytest.raises(UnsupportedFileSystem, match=r"network file system \(nfs4\)"):
        filesystem.refuse_network(Path("/mnt/team share/toril.db"), table)
    if sys.platform == "linux":
        assert filesystem.file_system_of(tmp_path, filesystem.mount_table()) != ""


async def test_start_refuses_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A17
    monkeypatch.setattr("toril.engine.sqlite.filesystem.mount_table", lambda: [("/", "cifs")])
    with pytest.raises(UnsupportedFileSystem, match="local disk"):
        await SqliteEngine(tmp_path / "toril.db").start()
    assert os.listdir(tmp_path) == []


async def test_a_port_before_start_and_after_close_says_so(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "toril.db")
    with pytest.raises(EngineClosed, match="not started"):
        _ = engine.jobs
    await engine.start()
    await engine.start()
    assert engine.fresh
    await engine.close()
    await engine.close()
    with pytest.raises(EngineClosed):
        _ = engine.inspect
    health = await engine.health()
    assert not health.ok
    assert "not started" in health.detail["error"]


def test_migrating_twice_changes_nothing() -> None:
    # S4-05
    connection = sqlite3.connect(":memory:", isolation_level=None)
    newest = migrations()[-1][0]
    assert migrate(connection, "memory") == newest
    schema = connection.execute("SELECT sql FROM sqlite_schema").fetchall()
    assert migrate(connection, "memory") == newest
    assert connection.execute("SELECT sql FROM sqlite_schema").fetchall() == schema
    assert [number for number, _ in migrations()] == list(range(1, newest + 1))
    connection.close()
