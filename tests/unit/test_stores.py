"""Which store each role uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from toril.blocks import Stores
from toril.engine.open import Opening, open_engine
from toril.errors import ConfigError
from toril.kernel.telemetry import Telemetry
from toril.settings import CacheSettings, LimitSettings, SessionSettings, Settings


def stores(folder: Path, settings: Settings) -> tuple[Stores, Opening]:
    url, telemetry = f"sqlite:///{folder}/jobs.db", Telemetry()
    jobs = Opening(lambda: open_engine(url, telemetry=telemetry))
    return Stores(jobs, url, settings, telemetry), jobs


def test_every_role_is_where_jobs_are(tmp_path: Path) -> None:
    made, jobs = stores(tmp_path, Settings())
    assert made.of("cache") is made.of("limits") is made.of("sessions") is jobs


async def test_two_roles_may_use_another_store_together(tmp_path: Path) -> None:
    # S3-17
    other = f"sqlite:///{tmp_path}/other.db"
    settings = Settings(cache=CacheSettings(url=other), sessions=SessionSettings(url=other))
    made, jobs = stores(tmp_path, settings)
    assert made.of("cache") is made.of("sessions") is not made.of("limits") is jobs
    engine = await made.of("cache").get()
    assert engine.location.endswith("other.db")
    await made.close()
    assert not made.of("cache").started
    made.reopen()
    assert (await made.of("cache").get()).location == engine.location
    await made.close()
    assert not (tmp_path / "jobs.db").exists()


def test_the_environment_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORIL_LIMITS_URL", "sqlite://")
    made, jobs = stores(tmp_path, Settings())
    assert made.of("limits") is not jobs


def test_a_wrong_url_is_told_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TORIL_LIMITS_URL: The URL .*unknown scheme") as caught:
        stores(tmp_path, Settings(limits=LimitSettings(url="mysql://u:hunter2@h")))
    assert "hunter2" not in str(caught.value)
