"""What the comparison with the recordings leaves out is told, with its reason, to those who read the documentation."""

from __future__ import annotations

from pathlib import Path

from tests.interop.differences import GIVEN, NOTHING_LEFT, RIGHT, reason_to_give
from tests.interop.recorded import scenarios

PAGE = Path(__file__).parents[2] / "docs" / "bullmq-compatibility.md"
# Raw commands are the recordings' own means, no operation of BullMQ.
UNSAID = {GIVEN["redis"]}


def words(text: str) -> str:
    """Text in one line, in small letters, without marks of emphasis."""
    return " ".join(text.replace("*", "").lower().split())


def test_each_difference_is_explained_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [rule.name for rule in RIGHT if f"[{rule.name}]" not in page] == []


def test_each_reason_for_a_written_step_is_on_the_page() -> None:
    page = words(PAGE.read_text(encoding="utf-8"))
    reasons = {
        reason
        for scenario in scenarios()
        for number in range(len(scenario.steps))
        if (reason := reason_to_give(scenario, number)) is not None
    }
    said = reasons | set(NOTHING_LEFT.values())
    assert [reason for reason in sorted(said - UNSAID) if words(reason) not in page] == []
