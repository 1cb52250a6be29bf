"""`Signature`: a function's parameters and result as compiled validators, made once per task.

On the wire a job's data is the JSON object of the named arguments that were given; defaults stay in the function, so
that they can change without touching stored jobs.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, NotRequired, Required, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import (
    CoreConfig,
    CoreSchema,
    ErrorDetails,
    PydanticSerializationError,
    SchemaError,
    SchemaSerializer,
    SchemaValidator,
)
from typing_extensions import TypedDict

from toril.errors import ConfigError, InvalidArguments, InvalidResult
from toril.kernel import codec
from toril.tasks.context import Context

_REFUSED: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*{name}: arguments are stored by name, so take a list parameter instead",
    inspect.Parameter.POSITIONAL_ONLY: "{name} is positional-only: arguments are stored by name, so drop the '/'",
    inspect.Parameter.VAR_KEYWORD: "**{name}: a misspelled name could not be told, so take a dict parameter instead",
}
# Field names on both ways, whatever aliases a model has, so that everything written can be read; aliases are accepted
# too, for producers that know only those.
_READ: dict[str, Any] = {"by_alias": True, "by_name": True}
_WRITE: dict[str, Any] = {"by_alias": False, "round_trip": True}
# Only instances of models and dataclasses pass validation unseen; asking costs a microsecond, so ask only for those.
_WRITE_CHECKED: dict[str, Any] = {**_WRITE, "warnings": "error"}
# A whole string, so that brackets inside of it are passed over, or one bracket.
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
# A NaN is written as such, so that it is seen and refused; bytes need not be UTF-8.
_CONFIG = CoreConfig(ser_json_inf_nan="constants", ser_json_bytes="base64", val_json_bytes="base64")
_LONGEST_VALUE_SHOWN = 80
# What is read again must be readable: the parser stops at 200 levels.
DEEPEST = 190


class Signature:
    """What may go into a task and what comes out. `wants_context` says that the function's first parameter is its
    `Context`; `names` are its other parameters, in order.
    """

    wants_context: bool
    is_async: bool
    names: tuple[str, ...]

    def __init__(self, function: Callable[..., Any], what: str) -> None:
        """`what` names the task in errors. Raises ConfigError for a function that cannot be a task."""
        self._what = what
        self.is_async = is_async_function(function, what)
        parameters = list(inspect.signature(function).parameters.values())
        hints = _type_hints(function, what)
        self.wants_context = bool(parameters) and hints.get(parameters[0].name) is Context
        if self.wants_context:
            parameters = parameters[1:]
        for parameter in parameters:
            _check_parameter(parameter, hints, what)
        self.names = tuple(parameter.name for parameter in parameters)
        self._defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        self._positional = tuple(p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY)
        arguments = _compile(_arguments_type(parameters, hints), f"the parameters of {what}")
        self._validate = SchemaValidator(arguments, _CONFIG).validate_python
        self._validate_json = SchemaValidator(arguments, _CONFIG).validate_json
        self._dump = SchemaSerializer(arguments, _CONFIG).to_json
        self._write = _writing(arguments)
        self._arguments_may_hide_nan = _may_hold_floats(arguments)
        result = _compile(hints.get("return", Any), f"the result of {what}")
        self._validate_result = SchemaValidator(result, _CONFIG).validate_python
        self._validate_result_json = SchemaValidator(result, _CONFIG).validate_json
        self._dump_result = SchemaSerializer(result, _CONFIG).to_json
        self._write_result = _writing(result)
        self._result_may_hide_nan = _may_hold_floats(result)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The given arguments, validated, as a JSON object by name. Raises InvalidArguments."""
        given = self._by_name(args, kwargs) if args else kwargs
        try:
            valid = self._validate(given, **_READ)
            text = self._dump(valid, **self._write).decode("utf-8")
        except ValidationError as error:
            raise self._invalid(error) from None
        except (PydanticSerializationError, ValueError) as error:
            raise InvalidArguments(f"{self._what}: arguments that JSON cannot carry ({error}).") from error
        if _is_too_deep(text):
            raise InvalidArguments(
                f"{self._what}: expected at most {DEEPEST} levels of lists and objects in arguments."
            )
        if self._arguments_may_hide_nan and _is_not_finite(text, valid):
            raise InvalidArguments(f"{self._what}: expected finite numbers, got NaN or Infinity, which JSON has not.")
        return text

    def load(self, data: str) -> dict[str, Any]:
        """The keyword arguments stored in a job's data, validated. Raises InvalidArguments."""
        try:
            arguments: dict[str, Any] = self._validate_json(data, **_READ)
        except ValidationError as error:
            raise self._invalid(error) from None
        return arguments

    def with_defaults(self, data: str) -> dict[str, Any]:
        """The JSON values of a job's arguments by name, with those of the defaults that it leaves out.

        A default that JSON cannot carry is left out.
        """
        given: dict[str, Any] = codec.decode_object(data, self._what)
        for name in self._defaults.keys() - given.keys():
            with contextlib.suppress(PydanticSerializationError, ValueError):
                text = self._dump({name: self._defaults[name]}, **_WRITE, warnings="none")
                given |= codec.decode_object(text, self._what)
        return given

    def dump_result(self, value: Any) -> str:
        """A result as JSON text by the return annotation. Raises InvalidResult."""
        try:
            valid = self._validate_result(value, **_READ)
            text = self._dump_result(valid, **self._write_result).decode("utf-8")
        except ValidationError as error:
            problems = "; ".join(item["message"] for item in _problems(error, "result"))
            raise InvalidResult(f"{self._what} returned what its annotation does not allow: {problems}.") from None
        except (PydanticSerializationError, ValueError) as error:
            raise InvalidResult(f"{self._what} returned what JSON cannot carry ({error}).") from error
        if _is_too_deep(text):
            raise InvalidResult(f"{self._what} returned more than {DEEPEST} levels of lists and objects.")
        if self._result_may_hide_nan and _is_not_finite(text, valid):
            raise InvalidResult(f"{self._what} returned NaN or Infinity, which JSON has not: return None instead.")
        return text

    def load_result(self, text: str) -> Any:
        """A stored result by the return annotation. Raises InvalidResult when it does not fit (any more)."""
        try:
            return self._validate_result_json(text, **_READ)
        except ValidationError as error:
            problems = "; ".join(item["message"] for item in _problems(error, "result"))
            raise InvalidResult(f"The stored result of {self._what} is not what it returns: {problems}.") from None

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        names = self._positional
        if len(args) > len(names):
            raise InvalidArguments(
                f"{self._what} takes {len(names)} positional arguments ({', '.join(names)}), got {len(args)}."
            )
        given = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name in given:
                raise InvalidArguments(f"{self._what}: {name} is given twice, by position and by name.")
            given[name] = value
        return given

    def _invalid(self, error: ValidationError) -> InvalidArguments:
        fields = _problems(error, "arguments", self.names)
        listed = "; ".join(item["message"] for item in fields)
        return InvalidArguments(f"{self._what}: {listed}.", fields)


def is_async_function(function: Callable[..., Any], what: str) -> bool:
    """Whether a function is an `async def`. Raises ConfigError for what cannot be a task at all."""
    if not callable(function) or isinstance(function, type):
        raise ConfigError(f"{what}: expected a function, got {function!r}.")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(f"{what} yields: a task returns its result once; report steps with ctx.progress().")
    return inspect.iscoroutinefunction(_routine(function))


def _routine(function: Callable[..., Any]) -> Any:
    """The function behind a callable object."""
    return function if inspect.isroutine(function) else type(function).__call__


def _type_hints(function: Callable[..., Any], what: str) -> dict[str, Any]:
    target = _routine(function)
    try:
        return get_type_hints(target, include_extras=True)
    except NameError as error:
        missing = error
    # A task declared inside a function may name classes of that function, which only its frame knows.
    for local_names in _frames_outside():
        try:
            return get_type_hints(target, localns=local_names, include_extras=True)
        except NameError as error:
            missing = error
    raise ConfigError(
        f"{what}: an annotation cannot be resolved ({missing}): import or define it where the task is declared."
    ) from missing


def _frames_outside() -> Iterator[dict[str, Any]]:
    frame = sys._getframe(1)
    while frame is not None:
        if not str(frame.f_globals.get("__name__", "")).startswith("toril."):
            yield dict(frame.f_locals)
        if frame.f_back is None:
            return
        frame = frame.f_back


def _check_parameter(parameter: inspect.Parameter, hints: dict[str, Any], what: str) -> None:
    refused = _REFUSED.get(parameter.kind)
    if refused is not None:
        raise ConfigError(f"{what}: a task cannot take {refused.format(name=parameter.name)}.")
    if hints.get(parameter.name) is Context:
        raise ConfigError(f"{what}: {parameter.name}: Context must be the first parameter.")
    if parameter.name == "ctx" and parameter.name not in hints:
        raise ConfigError(f"{what}: ctx has no annotation: write `ctx: Context` to get the context of the job.")
    if isinstance(parameter.default, FieldInfo):
        raise ConfigError(f"{what}: {parameter.name} has a Field as default: write Annotated[…, Field(…)] = value.")


def _arguments_type(parameters: list[inspect.Parameter], hints: dict[str, Any]) -> Any:
    fields: dict[str, Any] = {}
    for parameter in parameters:
        annotation = hints.get(parameter.name, Any)
        given = Required if parameter.default is inspect.Parameter.empty else NotRequired
        fields[parameter.name] = given[annotation]
    make: Any = TypedDict  # the type checker knows only classes written out
    arguments: Any = make("Arguments", fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")
    return arguments


def _compile(annotation: Any, what: str) -> CoreSchema:
    try:
        return TypeAdapter(annotation).core_schema
    except (PydanticUserError, SchemaError, TypeError) as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(f"{what} cannot be stored as JSON: {first_line}") from error


def _problems(error: ValidationError, root: str, names: tuple[str, ...] = ()) -> list[dict[str, str]]:
    problems = []
    for detail in error.errors(include_url=False):
        field = ".".join(str(part) for part in detail["loc"]) or root
        problems.append({"field": field, "message": f"{field}: {_explain(detail, names)}", "type": detail["type"]})
    return problems


def _explain(detail: ErrorDetails, names: tuple[str, ...]) -> str:
    kind = detail["type"]
    if kind == "missing":
        return "Field required, but it was not given"
    if kind == "extra_forbidden" and len(detail["loc"]) == 1:
        near = get_close_matches(str(detail["loc"][0]), names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(names) or 'no arguments'}"
        return f"no such argument, {hint}"
    shown = repr(detail["input"])
    if len(shown) > _LONGEST_VALUE_SHOWN:
        shown = shown[: _LONGEST_VALUE_SHOWN - 1] + "…"
    return f"{detail['msg'].removeprefix('Value error, ')}, got {shown}"


def _writing(schema: Any) -> dict[str, Any]:
    return _WRITE_CHECKED if any(part["type"] in ("model", "dataclass") for part in _parts(schema)) else _WRITE


def _may_hold_floats(schema: Any) -> bool:
    """Whether values of a core schema can hold floats; then NaN may hide behind a `null`, see `_is_not_finite`."""
    return any(
        part["type"] in ("float", "any", "decimal")
        or (
            part["type"] in ("list", "dict", "set", "frozenset") and not part.keys() & {"items_schema", "values_schema"}
        )
        for part in _parts(schema)
    )


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema within a core schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
        for value in schema.values():
            yield from _parts(value)
    elif isinstance(schema, list | tuple):
        for item in schema:
            yield from _parts(item)


def _is_too_deep(text: str) -> bool:
    if len(text) <= 2 * DEEPEST or text.count("[") + text.count("{") <= DEEPEST:
        return False
    level = 0
    for part in _STRUCTURE.finditer(text):
        if part[0] in "[{":
            level += 1
            if level > DEEPEST:
                return True
        elif part[0] in "]}":
            level -= 1
    return False


def _is_not_finite(text: str, value: Any) -> bool:
    """Whether `text`, the JSON of `value`, stands for a value with NaN or an infinity in it.

    Where a nested model has a configuration of its own, pydantic writes `null` for NaN without a word.
    """
    if "NaN" in text or "Infinity" in text or "null" in text:
        return any(not math.isfinite(number) for number in _floats(value, set()))
    return False


def _floats(value: Any, seen: set[int]) -> Iterator[float]:
    if isinstance(value, float):
        yield value
        return
    if value is None or isinstance(value, str | int | bytes) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        parts: Any = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = value
    else:
        parts = list(getattr(value, "__dict__", {}).values())
        parts += [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
    for part in parts:
        yield from _floats(part, seen)
