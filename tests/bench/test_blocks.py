"""What the rows about blocks measure is done, and whole; their peers are not asked for here."""

from bench.blocks import fanout
from bench.blocks.run import MEASURES


async def test_fan_out_delivers_everything() -> None:
    assert await fanout.deliveries_per_s(50) > 0


def test_each_row_has_a_goal() -> None:
    assert all(measure.times or measure.at_most for measure in MEASURES)
