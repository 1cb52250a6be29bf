"""Work that is done once per key, however often and from wherever it is asked for."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.features.absent import Absent
from toril import EngineUnavailable, IdempotencyMismatch, IdempotencyRunning, InvalidResult, Settings, Toril
from toril.idempotency.guard import Guard, OnOutage
from toril.idempotency.once import Once
from toril.kernel.blocking import BlockingLoop
from toril.settings import IdempotencySettings
from toril.testing.clock import ManualClock

# On a busy machine real processes, servers and many tasks take their time.
pytestmark = pytest.mark.timeout(60)

DOER = """
import asyncio, sys
from pathlib import Path
from toril import Settings, Toril
from toril.settings import IdempotencySettings

async def main():
    url, folder, mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

    async def charge():
        with (folder / "charges").open("a") as charges:
            charges.write("charged\\n")
        if mode == "dies":
            await asyncio.sleep(60)
        return 42

    async with Toril(url, settings=Settings(idempotency=IdempotencySettings(lock=5, timeout=30))) as toril:
        print(await toril.once("charge", charge))

asyncio.run(main())
"""


class Receipt(BaseModel):
    number: int


async def test_it_is_done_once(toril: Toril) -> None:
    # S1-22, A18
    charged: list[int] = []

    async def charge() -> Receipt:
        charged.append(1)
        return Receipt(number=len(charged))

    receipts = [await toril.once("charge:42", charge, type=Receipt) for _ in range(3)]
    assert receipts == [Receipt(number=1)] * 3
    assert await toril.once("charge:43", charge, type=Receipt) == Receipt(number=2)
    assert await toril.once.forget("charge:42")
    assert await toril.once("charge:42", charge, type=Receipt) == Receipt(number=3)


async def test_who_asks_meanwhile_waits(toril: Toril) -> None:
    # S1-22
    calls: list[int] = []
    gate = asyncio.Event()

    async def work() -> int:
        calls.append(1)
        await gate.wait()
        return 7

    asking = [asyncio.create_task(toril.once("k", work)) for _ in range(20)]
    while not calls:
        await asyncio.sleep(0)
    with pytest.raises(IdempotencyRunning):
        await toril.once("k", work, wait=0)
    gate.set()
    assert await asyncio.gather(*asking) == [7] * 20
    assert calls == [1]


async def test_what_failed_may_be_done_again(toril: Toril) -> None:
    calls: list[int] = []

    async def work() -> float:
        calls.append(1)
        if len(calls) == 1:
            raise LookupError("not yet")
        return float("nan") if len(calls) == 2 else 1.5

    with pytest.raises(LookupError):
        await toril.once("k", work)
    with pytest.raises(InvalidResult):
        await toril.once("k", work)
    assert await toril.once("k", work) == 1.5


async def test_who_gives_up_leaves_it_to_the_next(toril: Toril) -> None:
    begun = asyncio.Event()

    async def endless() -> int:
        begun.set()
        await asyncio.Event().wait()
        return 0

    async def quick() -> int:
        return 1

    first = asyncio.create_task(toril.once("k", endless))
    await begun.wait()
    first.cancel()
    assert await toril.once("k", quick) == 1


async def test_a_key_stands_for_one_call(toril: Toril) -> None:
    async def work() -> str:
        return "done"

    assert await toril.once("k", work, asked={"amount": 5}) == "done"
    assert await toril.once("k", work, asked={"amount": 5}) == "done"
    with pytest.raises(IdempotencyMismatch, match="something else"):
        await toril.once("k", work, asked={"amount": 6})


async def test_a_result_is_kept_for_its_time() -> None:
    clock, calls = ManualClock(), []

    async def work() -> int:
        calls.append(1)
        return len(calls)

    async with Toril("sqlite://", clock=clock) as toril:
        assert await toril.once("k", work, ttl="1h") == 1
        clock.advance("59m")
        assert await toril.once("k", work, ttl="1h") == 1
        clock.advance("2m")
        assert await toril.once("k", work) == 2
        clock.advance("23h")
        assert await toril.once("k", work) == 2


def test_plain_code_too() -> None:
    toril, calls = Toril("sqlite://"), []

    def work() -> int:
        calls.append(1)
        return len(calls)

    assert [toril.once.sync("k", work) for _ in range(3)] == [1] * 3
    toril.close_sync()


async def test_who_dies_in_the_midst_is_taken_over_from(tmp_path: Path) -> None:
    # A18
    url = f"sqlite:///{tmp_path}/once.db"
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", DOER, url, str(tmp_path), "dies")
    while not (tmp_path / "charges").exists():
        await asyncio.sleep(0.01)
    dying.kill()
    await dying.wait()
    command = (sys.executable, "-c", DOER, url, str(tmp_path), "lives")
    living = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(3)]
    assert [(await each.communicate())[0] for each in living] == [b"42\n"] * 3
    assert (tmp_path / "charges").read_text().splitlines() == ["charged"] * 2


@pytest.mark.parametrize("policy", ["fail", "run"])
async def test_while_the_store_is_away_a_policy_holds(absent: Absent, policy: OnOutage) -> None:
    # A18
    guard = Guard(absent.open, clock=ManualClock(), lock_ms=1_000, timeout_s=1, on_outage=policy)
    once, calls = Once(guard, BlockingLoop(), ttl_s=60), []

    async def work() -> int:
        calls.append(1)
        return len(calls)

    async def interrupted() -> int:
        absent.away = True
        return await work()

    # That the store does not hear of it changes nothing for who asked.
    assert await once("k", interrupted) == 1
    if policy == "run":
        assert [await once("k", work), await once("other", work)] == [2, 3]
    else:
        for _ in range(3):
            with pytest.raises(EngineUnavailable):
                await once("other", work)
        assert calls == [1]
    await guard.close()


def test_its_settings() -> None:
    settings = Settings(idempotency=IdempotencySettings(ttl=7200, on_outage="run"))
    assert Toril("sqlite://", settings=settings).once.ttl_ms == 7_200_000
