"""Wire types of changes to the books, of alerts and of the audit trail."""

from __future__ import annotations

from typing import Annotated, Any

from ninja import Schema
from pydantic import ConfigDict, Field

from strategies.schemas import MAX_ID, AwareTime, Owner, UtcTime

Reason = Annotated[str, Field(min_length=1, max_length=400, pattern=r"\S")]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
ExecId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")]
DecimalText = Annotated[str, Field(pattern=r"^-?[0-9]{1,18}(\.[0-9]{1,10})?$")]
Id = Annotated[int, Field(ge=1, le=MAX_ID)]


class _Asked(Schema):
    """What a caller sends; unknown names are refused."""

    model_config = ConfigDict(extra="forbid")


class EventIn(_Asked):
    """An event that is no fill; ``details`` by kind, see the documentation."""

    kind: Annotated[str, Field(max_length=20)]
    details: dict[str, Any]
    effective_at: AwareTime | None = None


class AdjustmentIn(EventIn):
    """An event to book; with ``propose`` it waits for an approval, the same ``key`` books once."""

    reason: Reason
    key: Key | None = None
    propose: bool | None = None


class WhyIn(_Asked):
    """Why something is done."""

    reason: Reason


class MaybeWhyIn(_Asked):
    """Why something is done, if there is more to say."""

    reason: Reason | None = None


class AssignIn(_Asked):
    """An execution, or a part of it, for an owner; without ``from_owner`` it is taken from Discretionary."""

    exec_id: ExecId
    owner: Owner
    quantity: DecimalText | None = None
    from_owner: Owner | None = None
    reason: Reason
    key: Key | None = None


class DivideIn(_Asked):
    """Parts of an execution for several owners, all or none; taken from ``from_owner``, else from Discretionary."""

    exec_id: ExecId
    owners: dict[Owner, DecimalText]
    from_owner: Owner | None = None
    reason: Reason
    key: Key | None = None


class RebalanceIn(MaybeWhyIn):
    """How to rebalance; ``force`` also moves amounts that are within the bounds."""

    force: bool | None = None


class SettleIn(WhyIn):
    """What becomes of a report that was set aside: ``retry`` or ``discard``."""

    action: Annotated[str, Field(pattern="^(retry|discard)$")]


class PreviewOut(Schema):
    """What booking an event would do, line by line; nothing was written."""

    lines: list[dict[str, Any]]


class AlertOut(Schema):
    """Something that a person should see; open until ``cleared_at``."""

    id: int
    key: str
    severity: str
    title: str
    text: str
    strategy: str
    opened_at: UtcTime
    last_at: UtcTime
    times: int
    acknowledged_at: UtcTime | None
    acknowledged_by: str
    cleared_at: UtcTime | None


class AuditOut(Schema):
    """One action: who, what, why, what stood before and after; ``hash`` covers it and ``previous_hash``."""

    id: int
    at: UtcTime
    actor: str
    source: str
    action: str
    subject: str
    reason: str
    before: Any
    after: Any
    previous_hash: str
    hash: str
