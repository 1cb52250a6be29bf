"""Settings: every option has a variable, and a wrong one is named."""

import os
from typing import Any

import pytest

from toril.errors import ConfigError
from toril.settings import (
    DEFAULT_URL,
    JobSettings,
    Settings,
    WorkerSettings,
    store_address,
    unknown_variables,
    variables,
)

TABLE: list[tuple[str, str, str, str, Any]] = [
    ("TORIL_WORKER_CONCURRENCY", "10", "worker", "concurrency", 10),
    ("TORIL_WORKER_LOCK", "30s", "worker", "lock", 30.0),
    ("TORIL_WORKER_HEARTBEAT", "2500ms", "worker", "heartbeat", 2.5),
    ("TORIL_WORKER_RECOVER_EVERY", "7", "worker", "recover_every", 7.0),
    ("TORIL_WORKER_MAX_STALLS", "0", "worker", "max_stalls", 0),
    ("TORIL_WORKER_SHUTDOWN_TIMEOUT", "2m", "worker", "shutdown_timeout", 120.0),
    ("TORIL_WORKER_POLL", "1s", "worker", "poll", 1.0),
    ("TORIL_WORKER_UNKNOWN", "fail", "worker", "unknown", "fail"),
    ("TORIL_WORKER_PROCESSES", "2", "worker", "processes", 2),
    ("TORIL_WORKER_LIFESPAN", "false", "worker", "lifespan", False),
    ("TORIL_JOBS_QUEUE", "staging", "jobs", "queue", "staging"),
    ("TORIL_JOBS_ATTEMPTS", "5", "jobs", "attempts", 5),
    ("TORIL_JOBS_PAYLOAD_LIMIT", "2MiB", "jobs", "payload_limit", 2_097_152),
    ("TORIL_JOBS_RESULT_LIMIT", "1000", "jobs", "result_limit", 1000),
    ("TORIL_JOBS_ENQUEUE_TIMEOUT", "3s", "jobs", "enqueue_timeout", 3.0),
    ("TORIL_JOBS_KEEP_COMPLETED", "30d", "jobs", "keep_completed", 2_592_000.0),
    ("TORIL_JOBS_KEEP_COMPLETED_MAX", "5000", "jobs", "keep_completed_max", 5000),
    ("TORIL_JOBS_KEEP_FAILED", "1w", "jobs", "keep_failed", 604_800.0),
    ("TORIL_JOBS_KEEP_FAILED_MAX", "7", "jobs", "keep_failed_max", 7),
    ("TORIL_JOBS_KEEP_EVENTS", "500", "jobs", "keep_events", 500),
]


@pytest.mark.parametrize(("name", "text", "section", "field", "value"), TABLE, ids=[row[0] for row in TABLE])
def test_an_option_is_read_from_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, section: str, field: str, value: Any
) -> None:
    # S0-04, S0-10, S0-23, S1-08, S1-29
    assert getattr(getattr(Settings(), section), field) != value
    monkeypatch.setenv(name, text)
    assert getattr(getattr(Settings(), section), field) == value


def test_the_table_holds_every_option() -> None:
    assert {"TORIL_URL", *(row[0] for row in TABLE)} == set(variables())
    assert all(meaning for meaning in variables().values())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TORIL_WORKER_CONCURRENCY", "0"),
        ("TORIL_WORKER_CONCURRENCY", "many"),
        ("TORIL_WORKER_LOCK", "soon"),
        ("TORIL_WORKER_LOCK", "0"),
        ("TORIL_WORKER_UNKNOWN", "ignore"),
        ("TORIL_WORKER_LIFESPAN", "maybe"),
        ("TORIL_JOBS_PAYLOAD_LIMIT", "big"),
        ("TORIL_JOBS_PAYLOAD_LIMIT", "0"),
        ("TORIL_JOBS_KEEP_FAILED_MAX", "-1"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError) as caught:
        Settings()
    assert str(caught.value).startswith(f"{name}: ")
    assert f"got {text!r}." in str(caught.value) or f"got {float(text)}." in str(caught.value)


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORIL_WORKER_CONCURRENCY", "10")
    monkeypatch.setenv("TORIL_URL", "sqlite:///env.db")
    settings = Settings(url="sqlite:///own.db", worker=WorkerSettings(concurrency=3))
    assert (settings.url, settings.worker.concurrency) == ("sqlite:///own.db", 3)
    with pytest.raises(ConfigError, match="KEEP_EVERYTHING"):
        JobSettings(keep_everything=True)  # type: ignore[call-arg]


REDIS = "redis://default:hunter2@cache:6379/0"


@pytest.mark.parametrize(
    ("argument", "environ", "url", "decided_by", "warned"),
    [
        (None, {}, DEFAULT_URL, "TORIL_URL is not set", False),
        ("sqlite://", {"TORIL_URL": "sqlite:///x.db"}, "sqlite://", "the argument of Toril()", False),
        (None, {"TORIL_URL": "sqlite:///x.db"}, "sqlite:///x.db", "TORIL_URL", False),
        (None, {"TORIL_URL": "sqlite:///x.db", "REDIS_URL": REDIS}, "sqlite:///x.db", "TORIL_URL", False),
        (None, {"TORIL_URL": ""}, DEFAULT_URL, "TORIL_URL is not set", False),
        (None, {"REDIS_URL": REDIS}, DEFAULT_URL, "TORIL_URL is not set", True),
        (None, {"REDIS_HOST": "cache"}, DEFAULT_URL, "TORIL_URL is not set", True),
        (None, {"REDIS_URL": REDIS, "USE_BULLMQ": "false"}, DEFAULT_URL, "TORIL_URL is not set", False),
        (None, {"REDIS_URL": REDIS, "REDIS_ENABLED": "0"}, DEFAULT_URL, "TORIL_URL is not set", False),
        (None, {"REDIS_URL": REDIS, "USE_BULLMQ": "true"}, DEFAULT_URL, "TORIL_URL is not set", True),
    ],
)
def test_which_store_is_used_and_who_decided(
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    environ: dict[str, str],
    url: str,
    decided_by: str,
    warned: bool,
) -> None:
    # S0-01, S0-08, S0-14, S0-10
    for name in ("REDIS_URL", "REDIS_HOST", "USE_BULLMQ", "BULLMQ_ENABLED", "REDIS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    address = store_address(argument, Settings())
    assert (address.url, address.decided_by, address.warning is not None) == (url, decided_by, warned)
    assert "hunter2" not in str(address.warning)


def test_a_misspelled_variable_is_told() -> None:
    said = unknown_variables({"TORIL_WORKER_CONCURENCY": "5", "TORIL_WORKER_LOCK": "5", "HOME": "/", "TORIL_URL": "x"})
    assert said == ["TORIL_WORKER_CONCURENCY is set, but no such option exists: did you mean TORIL_WORKER_CONCURRENCY?"]
    assert [name for name in os.environ if name.startswith("TORIL_")] == []
