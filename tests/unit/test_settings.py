"""Settings: every option has a variable, and a wrong one is named."""

import os
from typing import Any

import pytest

from toril.engine.open import parse_url
from toril.errors import ConfigError
from toril.settings import (
    DEFAULT_URL,
    UNSET,
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
    ("TORIL_WORKER_ECO", "true", "worker", "eco", True),
    ("TORIL_WORKER_UNKNOWN", "fail", "worker", "unknown", "fail"),
    ("TORIL_WORKER_PROCESSES", "2", "worker", "processes", 2),
    ("TORIL_WORKER_MAX_JOBS", "1000", "worker", "max_jobs", 1000),
    ("TORIL_WORKER_MAX_AGE", "12h", "worker", "max_age", 43_200.0),
    ("TORIL_WORKER_MAX_RSS", "512MiB", "worker", "max_rss", 536_870_912),
    ("TORIL_WORKER_LIFESPAN", "false", "worker", "lifespan", False),
    ("TORIL_JOBS_QUEUE", "staging", "jobs", "queue", "staging"),
    ("TORIL_JOBS_ATTEMPTS", "5", "jobs", "attempts", 5),
    ("TORIL_JOBS_PAYLOAD_LIMIT", "2MiB", "jobs", "payload_limit", 2_097_152),
    ("TORIL_JOBS_RESULT_LIMIT", "1000", "jobs", "result_limit", 1000),
    ("TORIL_JOBS_RESULT_OVER_LIMIT", "drop", "jobs", "result_over_limit", "drop"),
    ("TORIL_JOBS_ENQUEUE_TIMEOUT", "3s", "jobs", "enqueue_timeout", 3.0),
    ("TORIL_JOBS_KEEP_COMPLETED", "30d", "jobs", "keep_completed", 2_592_000.0),
    ("TORIL_JOBS_KEEP_COMPLETED_MAX", "5000", "jobs", "keep_completed_max", 5000),
    ("TORIL_JOBS_KEEP_FAILED", "1w", "jobs", "keep_failed", 604_800.0),
    ("TORIL_JOBS_KEEP_FAILED_MAX", "7", "jobs", "keep_failed_max", 7),
    ("TORIL_JOBS_KEEP_EVENTS", "500", "jobs", "keep_events", 500),
    ("TORIL_JOBS_ON_OUTAGE", "direct", "jobs", "on_outage", "direct"),
    ("TORIL_JOBS_SPOOL_URL", "sqlite:////var/spool.db", "jobs", "spool_url", "sqlite:////var/spool.db"),
    ("TORIL_JOBS_SPOOL_LIMIT", "1GiB", "jobs", "spool_limit", 1_073_741_824),
    ("TORIL_JOBS_OUTAGE_URL", "sqlite:///away.db", "jobs", "outage_url", "sqlite:///away.db"),
    ("TORIL_REDIS_PREFIX", "{bull}", "redis", "prefix", "{bull}"),
    ("TORIL_REDIS_WIRE", "bullmq5", "redis", "wire", "bullmq5"),
    ("TORIL_REDIS_EVICTION", "allow", "redis", "eviction", "allow"),
    ("TORIL_REDIS_TIMEOUT", "500ms", "redis", "timeout", 0.5),
    ("TORIL_REDIS_MAX_RETRIES", "4", "redis", "max_retries", 4),
    ("TORIL_REDIS_RETRY_DELAY", "100ms", "redis", "retry_delay", 0.1),
    ("TORIL_CACHE_URL", "redis://cache", "cache", "url", "redis://cache"),
    ("TORIL_CACHE_ENABLED", "false", "cache", "enabled", False),
    ("TORIL_CACHE_NAMESPACE", "shop", "cache", "namespace", "shop"),
    ("TORIL_CACHE_TTL", "10m", "cache", "ttl", 600.0),
    ("TORIL_CACHE_TIMEOUT", "200ms", "cache", "timeout", 0.2),
    ("TORIL_CACHE_LOCK", "10", "cache", "lock", 10.0),
    ("TORIL_CACHE_LOCAL_ENTRIES", "0", "cache", "local_entries", 0),
    ("TORIL_CACHE_LOCAL_BYTES", "1MiB", "cache", "local_bytes", 1024 * 1024),
    ("TORIL_CACHE_COMPRESS_ABOVE", "1kb", "cache", "compress_above", 1000),
    ("TORIL_CACHE_WARM_TIMEOUT", "1m", "cache", "warm_timeout", 60.0),
    ("TORIL_IDEMPOTENCY_TTL", "1h", "idempotency", "ttl", 3600.0),
    ("TORIL_IDEMPOTENCY_LOCK", "5s", "idempotency", "lock", 5.0),
    ("TORIL_IDEMPOTENCY_TIMEOUT", "1", "idempotency", "timeout", 1.0),
    ("TORIL_IDEMPOTENCY_ON_OUTAGE", "run", "idempotency", "on_outage", "run"),
    ("TORIL_LIMITS_URL", "redis://limits", "limits", "url", "redis://limits"),
    ("TORIL_LIMITS_TIMEOUT", "200ms", "limits", "timeout", 0.2),
    ("TORIL_LIMITS_ON_OUTAGE", "closed", "limits", "on_outage", "closed"),
    ("TORIL_OUTBOX_URL", "postgresql://db/shop", "outbox", "url", "postgresql://db/shop"),
    ("TORIL_OUTBOX_TABLE", "app.jobs_out", "outbox", "table", "app.jobs_out"),
    ("TORIL_OUTBOX_POLL", "2s", "outbox", "poll", 2.0),
    ("TORIL_SESSIONS_URL", "sqlite:///sessions.db", "sessions", "url", "sqlite:///sessions.db"),
    ("TORIL_SESSIONS_SECRET", "x" * 40, "sessions", "secret", "x" * 40),
    ("TORIL_SESSIONS_IDLE", "2h", "sessions", "idle", 7200.0),
    ("TORIL_SESSIONS_ABSOLUTE", "7d", "sessions", "absolute", 604_800.0),
    ("TORIL_SESSIONS_TOUCH_EVERY", "1m", "sessions", "touch_every", 60.0),
    ("TORIL_SESSIONS_GRACE", "30s", "sessions", "grace", 30.0),
    ("TORIL_SESSIONS_TIMEOUT", "200ms", "sessions", "timeout", 0.2),
    ("TORIL_SESSIONS_LIMIT", "1MiB", "sessions", "limit", 1024 * 1024),
    ("TORIL_SESSIONS_SECURE", "false", "sessions", "secure", False),
    ("TORIL_SESSIONS_ENCRYPT", "true", "sessions", "encrypt", True),
    ("TORIL_SESSIONS_ON_OUTAGE", "empty", "sessions", "on_outage", "empty"),
    ("TORIL_REALTIME_HISTORY", "7", "realtime", "history", 7),
    ("TORIL_REALTIME_TTL", "2h", "realtime", "ttl", 7200.0),
    ("TORIL_REALTIME_MESSAGE_LIMIT", "1MiB", "realtime", "message_limit", 1024 * 1024),
    ("TORIL_REALTIME_BUFFER", "50", "realtime", "buffer", 50),
    ("TORIL_REALTIME_BUFFER_BYTES", "1MiB", "realtime", "buffer_bytes", 1024 * 1024),
    ("TORIL_REALTIME_HEARTBEAT", "20s", "realtime", "heartbeat", 20.0),
    ("TORIL_REALTIME_LONGEST_STREAM", "1h", "realtime", "longest_stream", 3600.0),
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
        ("TORIL_REDIS_WIRE", "bullmq4"),
        ("TORIL_REDIS_RETRY_DELAY", "0"),
        ("REDIS_MAX_RETRIES", "-1"),
        ("REDIS_RETRY_DELAY", "50ms"),
        ("REDIS_RETRY_DELAY", "0"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError) as caught:
        Settings()
    assert str(caught.value).startswith(f"{name}: ")
    got = {f"got {text!r}.", *([f"got {float(text)}."] if text.isdigit() else [])}
    assert any(one in str(caught.value) for one in got)
    assert str(caught.value).count("got ") == 1


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORIL_WORKER_CONCURRENCY", "10")
    monkeypatch.setenv("TORIL_URL", "sqlite:///env.db")
    settings = Settings(url="sqlite:///own.db", worker=WorkerSettings(concurrency=3))
    assert (settings.url, settings.worker.concurrency) == ("sqlite:///own.db", 3)
    with pytest.raises(ConfigError, match="KEEP_EVERYTHING"):
        JobSettings(keep_everything=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("environ", "retries", "delay"),
    [
        ({}, None, 0.05),
        ({"REDIS_MAX_RETRIES": "3", "REDIS_RETRY_DELAY": "50"}, 3, 0.05),
        ({"REDIS_MAX_RETRIES": "0", "REDIS_RETRY_DELAY": "200"}, 0, 0.2),
        ({"REDIS_MAX_RETRIES": "3", "TORIL_REDIS_MAX_RETRIES": "7"}, 7, 0.05),
        ({"REDIS_RETRY_DELAY": "200", "TORIL_REDIS_RETRY_DELAY": "1s"}, None, 1.0),
    ],
)
def test_retries_have_the_names_that_others_use_too(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], retries: int | None, delay: float
) -> None:
    # S3-20, S4-07
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    redis = Settings().redis
    assert (redis.max_retries, redis.retry_delay) == (retries, delay)


REDIS = "redis://default:hunter2@cache:6379/0"


@pytest.mark.parametrize(
    ("argument", "environ", "url", "decided_by", "warned"),
    [
        (None, {}, DEFAULT_URL, UNSET, ""),
        ("sqlite://", {"TORIL_URL": "sqlite:///x.db"}, "sqlite://", "the argument of Toril()", ""),
        (None, {"TORIL_URL": "sqlite:///x.db"}, "sqlite:///x.db", "TORIL_URL", ""),
        (None, {"TORIL_URL": "sqlite:///x.db", "REDIS_URL": REDIS}, "sqlite:///x.db", "TORIL_URL", ""),
        (None, {"TORIL_URL": REDIS, "USE_BULLMQ": "false"}, REDIS, "TORIL_URL", ""),
        (None, {"TORIL_URL": "", "REDIS_URL": ""}, DEFAULT_URL, UNSET, ""),
        (None, {"REDIS_URL": REDIS}, REDIS, "REDIS_URL", ""),
        (None, {"REDIS_URL": REDIS, "USE_BULLMQ": "true"}, REDIS, "REDIS_URL", ""),
        (None, {"REDIS_URL": REDIS, "REDIS_HOST": "other"}, REDIS, "REDIS_URL", ""),
        (None, {"REDIS_URL": REDIS, "USE_BULLMQ": "false"}, DEFAULT_URL, f"USE_BULLMQ is false, {UNSET}", ""),
        (None, {"REDIS_URL": REDIS, "BULLMQ_ENABLED": "No"}, DEFAULT_URL, f"BULLMQ_ENABLED is No, {UNSET}", ""),
        (None, {"REDIS_HOST": "cache", "REDIS_ENABLED": "0"}, DEFAULT_URL, f"REDIS_ENABLED is 0, {UNSET}", ""),
        (None, {"REDIS_HOST": "cache"}, "redis://cache:6379/0", "REDIS_HOST", ""),
        (None, {"REDIS_HOST": "::1", "REDIS_PORT": "6380", "REDIS_DB": "2"}, "redis://[::1]:6380/2", "REDIS_HOST", ""),
        (
            None,
            {"REDIS_HOST": "cache", "REDIS_PASSWORD": "hunter2/@:"},
            "redis://:hunter2%2F%40%3A@cache:6379/0",
            "REDIS_HOST",
            "",
        ),
        (
            None,
            {"REDIS_HOST": "cache", "REDIS_USERNAME": "ann", "REDIS_PASSWORD": "hunter2"},
            "redis://ann:hunter2@cache:6379/0",
            "REDIS_HOST",
            "",
        ),
        (None, {"USE_BULLMQ": "true"}, DEFAULT_URL, UNSET, "USE_BULLMQ is true, but neither REDIS_URL nor REDIS_HOST"),
        (None, {"REDIS_ENABLED": "1"}, DEFAULT_URL, UNSET, "REDIS_ENABLED is 1, but neither REDIS_URL nor REDIS_HOST"),
    ],
)
def test_which_store_is_used_and_who_decided(
    argument: str | None,
    environ: dict[str, str],
    url: str,
    decided_by: str,
    warned: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # S0-01, S0-08, S0-14, S0-10, S0-11
    if "TORIL_URL" in environ:
        monkeypatch.setenv("TORIL_URL", environ["TORIL_URL"])
    address = store_address(argument, Settings(), environ)
    assert (address.url, address.decided_by) == (url, decided_by)
    assert (address.warning or "").startswith(warned)
    assert bool(address.warning) == bool(warned)
    assert "hunter2" not in f"{address.warning}{address.decided_by}"
    parse_url(address.url)


@pytest.mark.parametrize(("name", "text"), [("REDIS_PORT", "hunter2"), ("REDIS_DB", "-1")])
def test_parts_of_an_address_that_are_no_numbers_are_named(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected a number"):
        store_address(None, Settings(), {"REDIS_HOST": "cache", name: text})


def test_a_misspelled_variable_is_told() -> None:
    said = unknown_variables({"TORIL_WORKER_CONCURENCY": "5", "TORIL_WORKER_LOCK": "5", "HOME": "/", "TORIL_URL": "x"})
    assert said == ["TORIL_WORKER_CONCURENCY is set, but no such option exists: did you mean TORIL_WORKER_CONCURRENCY?"]
    assert [name for name in os.environ if name.startswith("TORIL_")] == []
