"""All cases in one class."""

from __future__ import annotations

from toril.testing.conformance.cancel import CancelCases
from toril.testing.conformance.channels import ChannelCases, TailCases
from toril.testing.conformance.concurrency import ConcurrencyCases
from toril.testing.conformance.counts import CountsCases
from toril.testing.conformance.delay import DelayCases
from toril.testing.conformance.events import EventCases
from toril.testing.conformance.exchange import ExchangeCases
from toril.testing.conformance.flow_changes import FlowChangeCases
from toril.testing.conformance.flow_endings import FlowEndingCases
from toril.testing.conformance.flow_failures import FailingChildCases
from toril.testing.conformance.flows import FlowCases
from toril.testing.conformance.insert import InsertCases
from toril.testing.conformance.inspection import InspectionCases
from toril.testing.conformance.keyvalue import KeyValueCases
from toril.testing.conformance.leases import LeaseCases
from toril.testing.conformance.limits import LimitCases
from toril.testing.conformance.locks import LockCases
from toril.testing.conformance.looking import LookingCases
from toril.testing.conformance.lost_replies import LostReplyCases
from toril.testing.conformance.odd_input import OddInputCases
from toril.testing.conformance.opening import OpeningCases
from toril.testing.conformance.order import OrderCases
from toril.testing.conformance.outcomes import OutcomeCases
from toril.testing.conformance.paging import PagingCases
from toril.testing.conformance.pause import PauseCases
from toril.testing.conformance.racing import RacingCases
from toril.testing.conformance.rate import RateCases, StoppedCases
from toril.testing.conformance.removal import RemovalCases
from toril.testing.conformance.replay import ReplayCases
from toril.testing.conformance.reports import ReportCases
from toril.testing.conformance.reschedule import RescheduleCases
from toril.testing.conformance.retention import RetentionCases
from toril.testing.conformance.schedules import ScheduleCases
from toril.testing.conformance.shared import DurableCases, SharedCases
from toril.testing.conformance.stalled import StalledCases
from toril.testing.conformance.telling import TellingCases
from toril.testing.conformance.unique import UniqueCases
from toril.testing.conformance.waking import WakingCases


class Conformance(
    InsertCases,
    OrderCases,
    DelayCases,
    ExchangeCases,
    OutcomeCases,
    LeaseCases,
    LockCases,
    LookingCases,
    StalledCases,
    CancelCases,
    RetentionCases,
    InspectionCases,
    PagingCases,
    CountsCases,
    PauseCases,
    ReplayCases,
    RemovalCases,
    ReportCases,
    EventCases,
    KeyValueCases,
    ChannelCases,
    TailCases,
    LimitCases,
    TellingCases,
    UniqueCases,
    ConcurrencyCases,
    RateCases,
    StoppedCases,
    LostReplyCases,
    OddInputCases,
    WakingCases,
    ScheduleCases,
    RescheduleCases,
    FlowCases,
    FailingChildCases,
    FlowChangeCases,
    FlowEndingCases,
    RacingCases,
    SharedCases,
    DurableCases,
    OpeningCases,
):
    """What every engine must do. A subclass gives it a fixture `engines` that answers an `EngineFactory`."""
