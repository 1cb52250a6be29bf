"""What may go into a task and what comes out: checked, and the same after a trip over the wire."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field
from typing_extensions import TypedDict

from toril.errors import ConfigError, InvalidArguments, InvalidResult
from toril.tasks.context import Context
from toril.tasks.signature import DEEPEST, Signature


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Page(BaseModel):
    title: str
    words: int = 0


class Aliased(BaseModel):
    page_count: int = Field(alias="pageCount")
    shown: str = Field("x", serialization_alias="display")

    @computed_field
    def double(self) -> int:
        return self.page_count * 2


@dataclass
class Point:
    x: float
    y: float = 0.0


class Options(TypedDict):
    depth: int


def of(function: Callable[..., Any]) -> Signature:
    return Signature(function, f"Task {function.__name__!r}")


def taking(annotation: Any) -> Signature:
    def take(value: Any) -> None: ...

    take.__annotations__["value"] = annotation
    return of(take)


def giving(annotation: Any) -> Signature:
    def give() -> None: ...

    give.__annotations__["return"] = annotation
    return of(give)


ROUND_TRIPS: list[tuple[Any, Any]] = [
    (int, 5),
    (int, 2**80),
    (float, 0.1),
    (str, 'ä "\\ \x00 😀'),
    (bool, True),
    (bytes, b"\x00\xff"),
    (int | None, None),
    (list[int], [1, 2]),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (dict[str, list[int]], {"a": [1]}),
    (dict[int, str], {1: "a"}),
    (datetime, datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    (date, date(2030, 1, 2)),
    (time, time(1, 2, 3)),
    (timedelta, timedelta(days=1, microseconds=5)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=7)),
    (Colour, Colour.RED),
    (Level, Level.HIGH),
    (Literal["fast", "slow"], "slow"),
    (Page, Page(title="x", words=2)),
    (list[Page], [Page(title="x")]),
    (Page | None, None),
    (Aliased, Aliased(pageCount=3, shown="y")),
    (Point, Point(1.5, 2.5)),
    (Options, {"depth": 3}),
    (Annotated[int, Field(gt=0)], 5),
    (Any, {"a": [1, 2.5, None, "x"]}),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=lambda part: str(part)[:40])
def test_arguments_come_out_as_they_went_in(annotation: Any, value: Any) -> None:
    # S1-23
    signature = taking(annotation)
    loaded = signature.load(signature.bind((value,), {}))["value"]
    assert (type(loaded), loaded) == (type(value), value)


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=lambda part: str(part)[:40])
def test_results_come_out_as_they_went_in(annotation: Any, value: Any) -> None:
    signature = giving(annotation)
    loaded = signature.load_result(signature.dump_result(value))
    assert (type(loaded), loaded) == (type(value), value)


def generate(ctx: Context, url: str, depth: int = 2, *, kind: Literal["a", "b"] = "a") -> list[int]:
    raise NotImplementedError


async def fetch(url: str) -> str:
    return url


def test_a_signature_knows_its_function() -> None:
    assert (of(generate).wants_context, of(generate).is_async, of(generate).names) == (
        True,
        False,
        ("url", "depth", "kind"),
    )
    assert (of(fetch).wants_context, of(fetch).is_async, of(fetch).names) == (False, True, ("url",))


def test_only_what_was_given_is_stored_by_name() -> None:
    signature = of(generate)
    assert json.loads(signature.bind(("https://x",), {})) == {"url": "https://x"}
    assert json.loads(signature.bind(("https://x", 3), {"kind": "b"})) == {"url": "https://x", "depth": 3, "kind": "b"}
    assert signature.load('{"depth": "7", "url": "https://x"}') == {"url": "https://x", "depth": 7}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (("u", "x"), {}, "depth: Input should be a valid integer, unable to parse string as an integer, got 'x'"),
        ((), {}, "url: Field required"),
        (("u",), {"dept": 3}, "dept: no such argument, did you mean depth?"),
        (("u",), {"zzz": 3}, "zzz: no such argument, expected url, depth, kind"),
        (("u", 1, "a"), {}, "takes 2 positional arguments (url, depth), got 3"),
        (("u",), {"url": "v"}, "url is given twice"),
        (("u",), {"kind": "c"}, "kind: Input should be 'a' or 'b', got 'c'"),
        ((b"\xff",), {}, "url: "),
        (("\ud800",), {}, "arguments that JSON cannot carry"),
    ],
)
def test_wrong_arguments_say_which_and_why(args: tuple[Any, ...], kwargs: dict[str, Any], message: str) -> None:
    # S1-23
    with pytest.raises(InvalidArguments) as caught:
        of(generate).bind(args, kwargs)
    assert str(caught.value).startswith("Task 'generate'")
    assert message in str(caught.value)


def test_every_wrong_field_is_listed() -> None:
    with pytest.raises(InvalidArguments) as caught:
        of(generate).load('{"url": 5, "depth": "x"}')
    assert [(field["field"], field["type"]) for field in caught.value.fields] == [
        ("url", "string_type"),
        ("depth", "int_parsing"),
    ]
    with pytest.raises(InvalidArguments) as caught:
        taking(list[Page]).bind(([{"title": "x"}, {"words": "many"}],), {})
    assert [field["field"] for field in caught.value.fields] == ["value.1.title", "value.1.words"]


def test_a_long_value_is_not_shown_whole() -> None:
    with pytest.raises(InvalidArguments) as caught:
        taking(int).bind(("x" * 10_000,), {})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("data", ["", "null", "[]", "{", '{"url": NaN}', '{"url": "\\ud800"}'])
def test_stored_data_that_is_no_object_is_refused(data: str) -> None:
    with pytest.raises(InvalidArguments, match="Task 'generate'"):
        of(generate).load(data)


class Loose(BaseModel):
    x: float | None = None
    anything: Any = None


@dataclass(slots=True)
class Slotted:
    x: float | None


NOT_FINITE = [
    (float, math.inf),
    (Any, math.nan),
    (Any, [1, {"a": -math.inf}]),
    (list[float], [math.nan]),
    (Loose, Loose(x=math.nan)),
    (Loose, Loose(anything=[math.inf])),
    (list[Loose], [Loose(x=math.inf)]),
    (Slotted, Slotted(math.nan)),
    (list[Any], [None, Loose(x=math.nan)]),
]


@pytest.mark.parametrize(("annotation", "value"), NOT_FINITE, ids=lambda part: str(part)[:40])
def test_numbers_that_json_has_not_are_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidArguments, match="Task 'take'"):
        taking(annotation).bind((value,), {})
    with pytest.raises(InvalidResult, match="Task 'give'"):
        giving(annotation).dump_result(value)


def test_nothing_is_taken_for_a_missing_number() -> None:
    assert taking(Loose).bind((Loose(),), {}) == '{"value":{"x":null,"anything":null}}'
    assert giving(Any).dump_result(["NaN", None, 1.5]) == '["NaN",null,1.5]'


@pytest.mark.parametrize("value", [object(), {1, object()}, "\ud800", {"\udc00": 1}])
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArguments, match="JSON cannot carry"):
        taking(Any).bind((value,), {})
    with pytest.raises(InvalidResult, match="JSON cannot carry"):
        giving(Any).dump_result(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "x"),
        (None, 5),
        (Page, {"words": 1}),
        (list[int], "12"),
        (Literal["a"], "b"),
        (Annotated[int, Field(gt=0)], 0),
        (Page, Page.model_construct(title=5)),
    ],
)
def test_a_result_of_another_type_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidResult, match="Task 'give' returned what"):
        giving(annotation).dump_result(value)


def test_a_stored_result_that_does_not_fit_any_more_is_refused() -> None:
    with pytest.raises(InvalidResult, match="The stored result of Task 'give' is not what it returns"):
        giving(int).load_result('"x"')


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_what_could_not_be_read_again_is_not_written() -> None:
    deepest = nested(DEEPEST - 1)
    assert taking(Any).load(taking(Any).bind((deepest,), {})) == {"value": deepest}
    wide = {"text": "[{" * 500, "list": [[]] * 500}
    assert taking(Any).load(taking(Any).bind((wide,), {})) == {"value": wide}
    with pytest.raises(InvalidArguments, match="levels of lists and objects"):
        taking(Any).bind((nested(DEEPEST),), {})
    with pytest.raises(InvalidResult, match="levels of lists and objects"):
        giving(Any).dump_result(nested(DEEPEST + 1))


def test_aliases_are_read_and_names_are_written() -> None:
    signature = taking(Aliased)
    assert json.loads(signature.bind(({"pageCount": 3},), {})) == {"value": {"page_count": 3, "shown": "x"}}
    assert signature.load('{"value": {"pageCount": 3}}') == signature.load('{"value": {"page_count": 3}}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_whatever_is_accepted_is_read_back(value: Any) -> None:
    signature = of(lambda_like)
    try:
        data = signature.bind((value,), {})
    except InvalidArguments:
        return
    assert signature.load(data) == {"value": value}
    assert signature.load_result(signature.dump_result(value)) == value


def lambda_like(value):  # type: ignore[no-untyped-def]
    return value


def star(*urls: str) -> None: ...


def double_star(**options: str) -> None: ...


def positional(url: str, /) -> None: ...


def late_context(url: str, ctx: Context) -> None: ...


def bare_context(ctx, url: str) -> None: ...  # type: ignore[no-untyped-def]


def field_default(depth: int = Field(3)) -> None: ...


def unknown_name(url: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def generator() -> Any:
    yield 1


class Opaque:
    pass


def opaque(value: Opaque) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (star, r"cannot take \*urls: arguments are stored by name, so take a list"),
        (double_star, r"cannot take \*\*options: .* dict parameter"),
        (positional, "url is positional-only"),
        (late_context, "Context must be the first parameter"),
        (bare_context, "write `ctx: Context`"),
        (field_default, "Annotated"),
        (unknown_name, "annotation cannot be resolved .*Nowhere"),
        (generator, "yields"),
        (opaque, "cannot be stored as JSON: .*Opaque"),
        (5, "expected a function"),
        (Page, "expected a function"),
    ],
)
def test_a_function_that_cannot_be_a_task_is_refused_when_it_is_declared(function: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Signature(function, "Task 'it'")


def test_annotations_may_name_classes_of_the_function_around() -> None:
    class Local(BaseModel):
        x: int

    def handle(value: "Local") -> "list[Local]":
        return [value]

    signature = of(handle)
    assert signature.load('{"value": {"x": 1}}') == {"value": Local(x=1)}


def test_callable_objects_are_functions_too() -> None:
    class Handler:
        async def __call__(self, ctx: Context, size: int) -> int:
            return size

    signature = Signature(Handler(), "Task 'handler'")
    assert (signature.is_async, signature.wants_context, signature.names) == (True, True, ("size",))
