"""The worker survives the stress that every service must survive."""

from tests.worker.workshop import Workshop
from toril.testing.lifecycle import stress


async def test_a_worker_survives_starts_and_stops_in_any_order(shop: Workshop) -> None:
    @shop.toril.task()
    async def work() -> None: ...

    await stress(lambda: shop.worker("default", "other"))
