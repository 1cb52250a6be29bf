"""JSON in and out. Never pickle.

pydantic-core's JSON is used because it is fast and already here. Non-finite floats and lone surrogates are refused,
since other readers of the same store (Node, SQL) cannot read them.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from toril.errors import InvalidArguments


def encode(value: Any) -> str:
    """`value` as JSON text. Raises ValueError for what JSON cannot carry."""
    try:
        # allow_inf_nan is left at "constants" so that the check below sees them instead of a silent null.
        text = to_json(value, inf_nan_mode="constants").decode("utf-8")
    except (PydanticSerializationError, UnicodeError) as error:
        raise ValueError(str(error)) from error
    if "NaN" in text or "Infinity" in text:
        _refuse_non_finite(text)
    return text


def decode(text: str | bytes) -> Any:
    """The value of JSON text. Raises ValueError for anything that is no JSON, NaN and Infinity included."""
    return from_json(text, allow_inf_nan=False, cache_strings="keys")


def decode_object(text: str | bytes, what: str) -> dict[str, Any]:
    """The value of JSON text that must be an object. Raises InvalidArguments naming `what`."""
    try:
        value = decode(text)
    except ValueError as error:
        raise InvalidArguments(f"{what}: expected a JSON object, found text that is no JSON ({error}).") from error
    if not isinstance(value, dict):
        raise InvalidArguments(f"{what}: expected a JSON object of named arguments, found {type(value).__name__}.")
    return value


def _refuse_non_finite(text: str) -> None:
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError("NaN and Infinity are no JSON values") from error
