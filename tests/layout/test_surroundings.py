"""The promises of `tests/conftest.py` hold."""

import asyncio
import os
import socket

import pytest


def test_a_test_cannot_reach_another_machine() -> None:
    with socket.socket() as client, pytest.raises(AssertionError, match="this machine only"):
        client.connect(("192.0.2.1", 80))


async def test_asyncio_cannot_reach_another_machine_either() -> None:
    with pytest.raises(AssertionError, match="this machine only"):
        await asyncio.open_connection("192.0.2.1", 80)


def test_no_variable_configures_toril() -> None:
    assert [name for name in os.environ if name.startswith("TORIL_")] == []
