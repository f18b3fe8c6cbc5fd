"""Wire types of risk: states, limits, overrides, locks, exposure."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import Field

from strategies.schemas import MAX_ID, AwareTime, Owner, Weight
from trading.books_schemas import DecimalText, Id, WhyIn

ConId = Annotated[int, Field(ge=0, le=MAX_ID)]
Value = Annotated[Decimal, Field(ge=0, max_digits=28, decimal_places=10)]


class _ScopeIn(WhyIn):
    """For whom: a strategy, a contract, both, or neither for the account."""

    strategy: Owner | None = None
    con_id: ConId = 0


class LimitIn(_ScopeIn):
    """A limit; fractions as fractions, 0.05 is 5 %."""

    name: Annotated[str, Field(max_length=32)]
    value: Value


class OverrideIn(_ScopeIn):
    """An override; ``multiplier`` counts for that action alone."""

    action: Literal["multiplier", "reduce_only", "close", "no_trading"]
    multiplier: Annotated[Decimal, Field(ge=0, le=1, max_digits=7, decimal_places=6)] = Decimal(1)


class LockIn(_ScopeIn):
    """A lock against openings; without ``until`` it holds until it is released."""

    until: AwareTime | None = None


class StateIn(WhyIn):
    """A trading state; without ``owner`` the account's. Making it looser needs the right to manage risk."""

    owner: Owner | None = None
    state: Literal["active", "reducing", "halted"]


class KillIn(WhyIn):
    """A kill level from 1 to 5; 4 and 5 want ``confirm`` true."""

    level: Annotated[int, Field(ge=1, le=5)]
    owner: Owner | None = None
    confirm: bool = False


class WhatIfIn(Schema):
    """An order that is not placed; buys positive, sells negative."""

    con_id: Id
    quantity: DecimalText
    order_type: Literal["MKT", "LMT", "STP"] = "MKT"
    limit_price: DecimalText | None = None
    stop_price: DecimalText | None = None


class DoneOut(Schema):
    """The row that a change left; ``id`` 0 where a row went."""

    id: int = 0
    text: str


class StateOut(Schema):
    """One trading state; ``owner`` empty is the account."""

    owner: str
    state: str
    reason: str
    set_by: str
    since: str | None


class StatesOut(Schema):
    """All trading states."""

    account: StateOut
    halt_file: bool
    strategies: list[StateOut]


class LimitOut(Schema):
    """A limit that was set."""

    id: int
    name: str
    value: str
    scope: str
    strategy: str
    con_id: int
    symbol: str
    reason: str
    set_by: str
    since: str


class UsageOut(Schema):
    """A limit of the account, who set it, and what is used of it; null: not known."""

    name: str
    summary: str
    unit: str
    value: str
    source: str
    default: str | None
    used: str | None


class RowsOut(Schema):
    """Rows whose columns the documentation names."""

    items: list[dict[str, Any]]


class ExposureOut(Schema):
    """Exposure in base currency and as a fraction of the account's equity; null: not known."""

    currency: str
    equity: str | None
    account: dict[str, Any]
    owners: list[dict[str, Any]]
    largest: str | None


class MarginShareOut(Schema):
    """One owner's part of the account's margin; null: not known."""

    owner: str
    initial: str | None
    maintenance: str | None


class MarginContractOut(Schema):
    """What closing the account's position in a contract would release, as IB says; null: IB did not say it."""

    con_id: int
    symbol: str
    quantity: str
    initial: str | None
    maintenance: str | None


class MarginOut(Schema):
    """Whose margin the account's is, in base currency; the owners' parts add up to IB's figures."""

    currency: str
    at: str | None
    initial: str | None
    maintenance: str | None
    owners: list[MarginShareOut]
    contracts: list[MarginContractOut]
    problem: str


class StartIn(Schema):
    """How to start; ``accept_margin`` lets it pass a limit of the account: with a reason, for administrators."""

    accept_margin: bool = False
    reason: Annotated[str, Field(max_length=400)] = ""


class PlanIn(Schema):
    """The weight to ask about; without it the strategy's own target."""

    weight: Weight | None = None
