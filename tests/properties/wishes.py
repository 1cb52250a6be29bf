"""What the machine asks for: jobs, outcomes, how long to keep them, exchanges."""

from typing import NamedTuple

from hypothesis import strategies as st

from toril.engine.ports.jobs import Finish
from toril.jobs.flow import OnFailure
from toril.jobs.options import Keep
from toril.jobs.outcome import Cancelled, Done, Failed, Limited, Outcome, Parked, Released, Retry, Snooze
from toril.jobs.unique import UniqueKey
from toril.kernel import codec

PICKS = st.integers(0, 30)
WORKERS = st.sampled_from(["one", "two"])
UNITS = st.sampled_from([0, 0, 1, 7])
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Done("1")),
    st.builds(Retry, st.just("no"), st.just("Error: no"), UNITS),
    st.just(Failed("no", "Error: no")),
    st.builds(Snooze, UNITS),
    st.just(Cancelled("late", "ann")),
    st.just(Released()),
    st.just(Parked()),
    st.builds(Limited, st.sampled_from([1, 7])),
)
KEEPS = st.sampled_from([None, None, None, None, Keep(None, 0), Keep(None, 2), Keep(0.5, None)])
SEVERAL = st.lists(PICKS, min_size=1, max_size=3)
POLICIES = st.sampled_from([None, *OnFailure])


class Wish(NamedTuple):
    """A job to be added. `unique` says how it wants a key; each way has a key of its own."""

    id: str
    priority: int
    units: int
    lifo: bool
    ours: bool
    unique: str


UNIQUE = {
    "plain": UniqueKey("plain"),
    "window": UniqueKey("window", 1),
    "extend": UniqueKey("extend", 1, extend=True),
    "replace": UniqueKey("replace", replace=True),
    "debounce": UniqueKey("debounce", 1, extend=True, replace=True),
    "throttle": UniqueKey("throttle", 1, replace=True),
    "last": UniqueKey("last", keep_last=True),
}
NEW = st.builds(
    Wish,
    st.sampled_from("abcdefghijklmnopqrstuvwxyz"),
    st.sampled_from([0, 0, 1, 2]),
    UNITS,
    st.booleans(),
    st.sampled_from([True, True, True, False]),
    st.sampled_from(["", "", "", "", *UNIQUE]),
)
WINDOW_UNITS = 5


class Call(NamedTuple):
    """An exchange that can be repeated."""

    worker: str
    seq: int
    token: str
    finished: tuple[Finish, ...]
    want: int
    at: int


def opts_of(delay: int, priority: int, lifo: bool, ours: bool) -> str:
    """The stored options of a job."""
    given = {"delay": delay, "priority": priority, "lifo": lifo, "toril": {"v": 1} if ours else None}
    return codec.encode({"attempts": 3} | {name: value for name, value in given.items() if value})
