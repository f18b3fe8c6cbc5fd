"""The border between the wire and the market side: everything that the wire may ask.

Owns: the protocol. Leaves: the words that pass it (``model``), answering (``exchange``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from trading.gateway.model import (
    AccountRow,
    Bar,
    Commission,
    Contract,
    ContractDetails,
    Entitlement,
    Execution,
    ExecutionFilter,
    OptionChain,
    OptionFigures,
    OrderRequest,
    OrderSnapshot,
    Pnl,
    PositionRow,
    PriceIncrement,
    Quote,
    Scan,
    Tick,
    TickKind,
    TradingSession,
    VenueEvent,
)


class Venue(Protocol):
    """Everything the wire may ask of the market side. Implemented by ``exchange.Exchange``. Not thread-safe: one loop.

    ``now`` is always given by the caller (``server`` owns the clock). Methods that change orders return the events
    they caused, in order; ``advance`` is called some 10–20 times a second and returns what the market caused since.
    """

    # reference data
    def resolve(self, query: Contract, *, include_expired: bool = False) -> Sequence[ContractDetails]:
        """Listed instruments that match; raises RequestError 200 when none do, 321 when the query is malformed."""

    def search(self, pattern: str) -> Sequence[ContractDetails]: ...
    def market_rule(self, rule_id: int) -> Sequence[PriceIncrement]: ...

    def option_chains(self, con_id: int, exchange: str) -> Sequence[OptionChain]:
        """Expiries and strikes on an underlying; empty when none are listed. An empty exchange means all."""

    # market data
    def entitlement(self, con_id: int) -> Entitlement: ...
    @property
    def competing(self) -> bool:
        """Whether the user is logged in elsewhere and the market data go there."""

    def is_open(self, con_id: int, now: datetime) -> bool: ...
    def quote(self, con_id: int, now: datetime, *, frozen: bool = False, delayed: bool = False) -> Quote:
        """Top of book; ``frozen`` keeps the quotes of a closed market, ``delayed`` is of 15 minutes ago."""

    def option_figures(self, con_id: int, price: Decimal | None, now: datetime) -> OptionFigures | None:
        """An option's sensitivities at a price of it, None: at the model's; None for what is no option."""

    def implied_volatility(
        self, con_id: int, price: Decimal, underlying: Decimal, now: datetime
    ) -> OptionFigures | None: ...
    def option_price(
        self, con_id: int, volatility: float, underlying: Decimal, now: datetime
    ) -> OptionFigures | None: ...
    def ticks(self, con_id: int, kind: TickKind, since: datetime, until: datetime) -> Sequence[Tick]:
        """Ticks in [since, until), oldest first."""

    def past_ticks(
        self, con_id: int, kind: TickKind, *, start: datetime | None, end: datetime | None, count: int, use_rth: bool,
        now: datetime,
    ) -> Sequence[Tick]:  # fmt: skip
        """The first ``count`` ticks from ``start`` on, or the last before ``end``, oldest first."""

    def scan(self, scan: Scan, now: datetime) -> Sequence[ContractDetails]:
        """Listed instruments, best first; raises RequestError 162 for an unknown scan code or location."""

    def schedule(
        self, con_id: int, *, end: datetime, days: int, use_rth: bool, now: datetime
    ) -> Sequence[TradingSession]: ...
    def bars(
        self, con_id: int, *, end: datetime, duration: str, bar_size: str, what: str, use_rth: bool, now: datetime
    ) -> Sequence[Bar]:
        """Historical bars for IB's own duration and bar-size texts; raises RequestError 162, 321, 200."""

    def latest_bar(self, con_id: int, *, seconds: int, what: str, now: datetime) -> Bar | None:
        """The newest bar of ``seconds`` that has closed at ``now`` (5-second bars, keepUpToDate)."""

    def head_timestamp(self, con_id: int, what: str, use_rth: bool) -> datetime: ...

    # orders
    def next_order_id(self, client_id: int) -> int: ...
    def place(self, request: OrderRequest, now: datetime) -> list[VenueEvent]:
        """New order or modification of a working one, as the order id decides."""

    def cancel(self, client_id: int, order_id: int, now: datetime) -> list[VenueEvent]: ...
    def global_cancel(self, now: datetime) -> list[VenueEvent]: ...
    def exercise_option(
        self, query: Contract, *, exercise: bool, quantity: Decimal, override: bool, now: datetime
    ) -> list[VenueEvent]:
        """Exercise long options early, or let them lapse."""

    def bind_manual(self, now: datetime) -> list[VenueEvent]:
        """Give client 0 an order id for every order that was typed into TWS and has none yet."""

    def auto_bind(self, bind: bool) -> None:
        """From now on bind manual orders to client 0 as they come, or no longer."""

    def advance(self, now: datetime) -> list[VenueEvent]: ...
    def open_orders(self, client_id: int | None = None) -> Sequence[OrderSnapshot]: ...
    def completed_orders(self, *, api_only: bool) -> Sequence[OrderSnapshot]: ...
    def executions(self, filter_: ExecutionFilter) -> Sequence[tuple[Execution, Commission | None]]: ...

    # account
    @property
    def accounts(self) -> Sequence[str]: ...
    def positions(self, now: datetime) -> Sequence[PositionRow]: ...
    def account_values(self, now: datetime) -> Sequence[AccountRow]: ...
    def account_summary(self, tags: Sequence[str], now: datetime) -> Sequence[AccountRow]: ...
    def pnl(self, now: datetime) -> Pnl: ...
    def pnl_single(self, con_id: int, now: datetime) -> Pnl: ...

    # life
    def save(self) -> None:
        """Persist everything that a restart must keep, atomically."""
