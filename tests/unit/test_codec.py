"""JSON in and out: what goes in comes out, and what others cannot read is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril.errors import InvalidArguments
from toril.kernel import codec

CYCLE: list[Any] = []
CYCLE.append(CYCLE)
PLAIN = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert codec.decode(codec.encode(value)) == value


@given(VALUES)
def test_others_read_the_same(value: Any) -> None:
    assert json.loads(codec.encode(value)) == value
    assert codec.decode(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["NaN", "Infinity and NaN", '"NaN"'])
def test_text_that_looks_like_no_number_is_text(text: str) -> None:
    assert codec.decode(codec.encode([text])) == [text]


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        [float("inf")],
        {"NaN": {"x": float("-inf")}},
        "\ud800",
        {"\udfff": 1},
        b"\xff",
        object(),
        pytest.param(CYCLE, id="cycle"),
    ],
)
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        codec.encode(value)


@pytest.mark.parametrize(
    "text", ["", "{", "nul", "NaN", "[Infinity]", '"\\ud800"', b"\xff", "1 2", "{'a': 1}", "[" * 300 + "]" * 300]
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"line \d"):
        codec.decode(text)


@pytest.mark.parametrize(("text", "found"), [("[1]", "list"), ("null", "NoneType"), ("{", "no JSON")])
def test_an_object_is_asked_for_by_name(text: str, found: str) -> None:
    with pytest.raises(InvalidArguments, match=rf"^--data: expected a JSON object.*{found}"):
        codec.decode_object(text, "--data")
    assert codec.decode_object('{"a": [1]}', "--data") == {"a": [1]}
