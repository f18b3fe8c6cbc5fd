"""The paper venue: market, orders and account of one paper account behind the ``Venue`` border.

Owns: putting the parts together, the day's roll, saving what happened before it is told.
Leaves: orders (``exchange_orders``), prices (``market``), books (``account``), disk (``persistence``).
Rule: no event leaves before its record is in the journal.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

from strategies.exceptions import ConfigError
from trading.gateway import account_values, hours
from trading.gateway.account import Account, Figures, RateOf
from trading.gateway.exchange_expiry import Expiries
from trading.gateway.exchange_matching import DeskOptions
from trading.gateway.exchange_orders import OrderDesk
from trading.gateway.exchange_state import VenueState
from trading.gateway.hours import to_micros
from trading.gateway.instrument import MARKET_RULES, Instrument
from trading.gateway.instruments import InstrumentTable, details, load_table
from trading.gateway.market import Market
from trading.gateway.market_bars import check_what
from trading.gateway.market_entitlements import parse_subscriptions
from trading.gateway.market_source import open_source
from trading.gateway.model import (
    AccountRow,
    Bar,
    Commission,
    Contract,
    ContractDetails,
    Execution,
    ExecutionFilter,
    OrderRequest,
    OrderSnapshot,
    Pnl,
    PositionRow,
    PriceIncrement,
    Quote,
    RequestError,
    VenueEvent,
)
from trading.gateway.persistence import Journal
from trading.gateway.venue_data import VenueData
from trading.gateway.venue_hands import VenueHands
from trading.gateway.venue_steps import VenueSteps

logger = logging.getLogger(__name__)
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class VenueOptions:
    """What a paper venue is made of."""

    market: str = "replay:sample"  # or replay:PATH, synthetic
    speed: float = 60
    clock: Literal["wall", "replay", "step"] = "wall"  # step: a replay that goes on when it is told to
    hours: Literal["always", "exchange"] = "always"
    seed: int = 7
    account: str = "DU1000001"
    cash: Decimal = Decimal(1_000_000)
    currency: str = "USD"
    state_file: Path | None = None
    instruments_file: Path | None = None
    commission_delay_s: float = 0.05
    partial_fills: bool = True
    subscriptions: str = "all"  # market data: all, or security types and exchanges
    max_active_orders: int = 20  # of one contract and side, as IB allows
    size_limit: Decimal | None = None  # of the order presets: larger orders are error 383
    tif_preset: bool = False  # say 10349 when a client leaves the time in force to the preset
    processing_s: float = 0.0  # how long a new order is «still being processed» and cannot be modified


def build_venue(options: VenueOptions) -> Exchange:
    """Build the venue, restored from its state file when there is one.

    Raises: ConfigError when options, bar file, instrument table or state file are unusable.
    """
    _check(options)
    table = load_table(options.instruments_file)
    market = Market(
        table,
        open_source(options.market),
        seed=options.seed,
        speed=options.speed,
        replay_clock=options.clock != "wall",
        stepped=options.clock == "step",
        exchange_hours=options.hours == "exchange",
    )
    table.derivatives.centre = market.centre
    account = Account(options.account, options.currency, {options.currency: options.cash}, magnifiers=table.magnifiers)
    state = VenueState(table, account)
    journal = None
    if options.state_file is not None:
        journal = Journal(options.state_file)
        state.restore(journal.load())
    table.check_currencies(options.currency)
    return Exchange(options, table, market, state, journal)


def _check(options: VenueOptions) -> None:
    parse_subscriptions(options.subscriptions)
    if not 0 < options.speed <= 100_000:
        raise ConfigError(f"The speed {options.speed} must lie above 0 and not above 100000.", code="bad_speed")
    if options.clock not in ("wall", "replay", "step"):
        raise ConfigError(f"The clock {options.clock!r} is unknown: use wall, replay or step.", code="unknown_clock")
    if options.clock == "step" and not options.market.startswith("replay:"):
        raise ConfigError("Only replayed bars can be stepped through: use --market replay:….", code="unknown_clock")
    if options.hours not in ("always", "exchange"):
        raise ConfigError(f"The hours {options.hours!r} are unknown: use always or exchange.", code="unknown_hours")
    if options.commission_delay_s < 0:
        raise ConfigError("The commission delay must not be negative.", code="bad_commission_delay")


class Exchange(VenueData, VenueHands, VenueSteps):
    """The paper venue; implements ``model.Venue``. Not thread-safe."""

    def __init__(
        self, options: VenueOptions, table: InstrumentTable, market: Market, state: VenueState, journal: Journal | None
    ) -> None:
        self._options, self._table, self._market, self._state, self._journal = options, table, market, state, journal
        self._subscriptions = parse_subscriptions(options.subscriptions)
        desk_options = DeskOptions(
            partial_fills=options.partial_fills,
            # A clock that stands would keep a commission back for a whole bar.
            commission_delay=timedelta(seconds=0 if options.clock == "step" else options.commission_delay_s),
            processing=timedelta(seconds=options.processing_s),
            max_active=options.max_active_orders,
            size_limit=options.size_limit,
            tif_preset=options.tif_preset,
        )
        self._desk = OrderDesk(table, market, state, desk_options, self._rates)
        self._expiries = Expiries(table, market, state, self._desk)
        self._now: datetime | None = None
        self._day_ends_us = 0

    # reference data

    def resolve(self, query: Contract, *, include_expired: bool = False) -> Sequence[ContractDetails]:
        """Listed instruments that match a query."""
        found = self._table.match(query, include_expired=include_expired)
        return [self._details(instrument, contract) for instrument, contract in found]

    def search(self, pattern: str) -> Sequence[ContractDetails]:
        """Instruments by symbol or name."""
        found = [(instrument, self._details_of(instrument)) for instrument in self._table.search(pattern)]
        return [replace(row, derivatives=self._table.derivatives.kinds(instrument.con_id)) for instrument, row in found]

    def _details_of(self, instrument: Instrument) -> ContractDetails:
        return self._details(instrument, instrument.contract)

    def _details(self, instrument: Instrument, contract: Contract) -> ContractDetails:
        day = self._table.derivatives.now.astimezone(hours.NEW_YORK).date()
        followed = self._table.followed(instrument)
        return details(instrument, contract, day, followed)

    def market_rule(self, rule_id: int) -> Sequence[PriceIncrement]:
        """The price steps of a market rule."""
        if rule_id not in MARKET_RULES:
            raise RequestError(321, f"Error validating request.-'cl' : cause - Invalid market rule id: {rule_id}")
        return MARKET_RULES[rule_id]

    # market data

    def market_now(self, wall: datetime) -> datetime:
        """The venue's present at a wall time: the same on the wall clock, the bars' own time on the replay clock.

        The server's clock must go through this, so that everything it stamps is in the venue's time.
        """
        if not self._state.born_s:
            # Ids come from the real time of the first start: two lives of a replay begin at the same market time.
            self._state.begin(wall)
        if self._options.clock != "wall" and self._market.anchor is None:
            self._market.start(self._state.anchor, wall)
        now = self._market.market_now(wall)
        if self._now is None:
            self._table.derivatives.now = now  # clients ask what is listed before the market has moved once
        return now

    def quote(self, con_id: int, now: datetime, *, frozen: bool = False, delayed: bool = False) -> Quote:
        """Top of book and day figures."""
        self._touch(now)
        return self._market.quote(con_id, now, frozen=frozen, delayed=delayed)

    def bars(
        self, con_id: int, *, end: datetime, duration: str, bar_size: str, what: str, use_rth: bool, now: datetime
    ) -> Sequence[Bar]:
        """Historical bars."""
        self._touch(now)
        return self._market.bars(
            con_id, end=end, duration=duration, bar_size=bar_size, what=what, use_rth=use_rth, now=now
        )

    def latest_bar(self, con_id: int, *, seconds: int, what: str, now: datetime) -> Bar | None:
        """The newest bar that has closed."""
        self._touch(now)
        return self._market.latest_bar(con_id, seconds=seconds, what=what, now=now)

    def head_timestamp(self, con_id: int, what: str, use_rth: bool) -> datetime:
        """Where an instrument's history begins."""
        check_what(what, self._table.get(con_id).contract.sec_type)
        return self._market.head(con_id)

    # orders

    def next_order_id(self, client_id: int) -> int:
        """The lowest order id that a client may use."""
        return self._state.next_ids.get(client_id, 1)

    def place(self, request: OrderRequest, now: datetime) -> list[VenueEvent]:
        """New order or modification, as the order id decides."""
        self._touch(now)
        return self._saved(self._desk.place(request, now))

    def cancel(self, client_id: int, order_id: int, now: datetime) -> list[VenueEvent]:
        """Cancel one order."""
        self._touch(now)
        return self._saved(self._desk.cancel(client_id, order_id, now))

    def global_cancel(self, now: datetime) -> list[VenueEvent]:
        """Cancel all orders of all clients."""
        self._touch(now)
        return self._saved(self._desk.cancel_all(now))

    def bind_manual(self, now: datetime) -> list[VenueEvent]:
        """Give client 0 an order id for every order that was typed into TWS and has none yet."""
        self._touch(now)
        return self._saved(self._desk.bind_manual())

    def auto_bind(self, bind: bool) -> None:
        """From now on bind manual orders to client 0 as they come, or no longer."""
        self._desk.binds_manual = bind

    def advance(self, now: datetime) -> list[VenueEvent]:
        """Let the market work; return what it caused."""
        self._touch(now)
        return self._saved([*self._expiries.due(now), *self._desk.advance(now)])

    def exercise_option(
        self, query: Contract, *, exercise: bool, quantity: Decimal, override: bool, now: datetime
    ) -> list[VenueEvent]:
        """Exercise long options early, or let them lapse, which needs no doing."""
        self._touch(now)
        instrument, _ = self._table.single(query)
        if not exercise:
            return []
        return self._saved(self._expiries.exercise(instrument.con_id, quantity, now, override=override))

    def open_orders(self, client_id: int | None = None) -> Sequence[OrderSnapshot]:
        """Working orders, of one client or of all."""
        return [
            order.snapshot()
            for order in self._state.working.values()
            if not order.held and client_id in (None, order.request.client_id)
        ]

    def completed_orders(self, *, api_only: bool) -> Sequence[OrderSnapshot]:
        """Orders that ended today, those typed into TWS only on request."""
        return [
            order.snapshot()
            for order in self._state.by_perm.values()
            if order.is_done and not (api_only and order.manual)
        ]

    def executions(self, filter_: ExecutionFilter) -> Sequence[tuple[Execution, Commission | None]]:
        """Executions of the day with the commissions told so far."""
        return [
            (entry.execution, entry.commission if entry.reported else None)
            for entry in self._state.executions
            if _passes(filter_, entry.execution)
        ]

    @property
    def received_order_refs(self) -> Counter[str]:
        """How often each order reference came with a new order."""
        return self._state.order_refs

    # account

    @property
    def accounts(self) -> Sequence[str]:
        """The one account."""
        return (self._options.account,)

    def positions(self, now: datetime) -> Sequence[PositionRow]:
        """Positions, and those closed today."""
        self._touch(now)
        return account_values.position_rows(self._state.account, lambda con_id: self._market.mark(con_id, now))

    def account_values(self, now: datetime) -> Sequence[AccountRow]:
        """All rows of an account update."""
        self._touch(now)
        figures, rates = self._figures(now), self._rates(now)
        return account_values.account_values(
            self._state.account, figures, lambda con_id: self._market.mark(con_id, now), rates
        )

    def account_summary(self, tags: Sequence[str], now: datetime) -> Sequence[AccountRow]:
        """Rows of the tags asked for."""
        self._touch(now)
        figures, rates = self._figures(now), self._rates(now)
        return account_values.account_summary(
            self._state.account, figures, lambda con_id: self._market.mark(con_id, now), rates, tags
        )

    def pnl(self, now: datetime) -> Pnl:
        """Profit of the account."""
        self._touch(now)
        figures = self._figures(now)
        start = self._state.account.day_start_equity
        daily = ZERO if start is None else figures.net_liquidation - start
        return Pnl(daily, figures.unrealized, figures.realized)

    def pnl_single(self, con_id: int, now: datetime) -> Pnl:
        """Profit of one position."""
        self._touch(now)
        holding = self._state.account.holdings.get(con_id)
        if holding is None:
            self._table.get(con_id)
            return Pnl(ZERO, ZERO, ZERO, ZERO, ZERO)
        value = self._state.account.value(holding, self._market.mark(con_id, now))
        unrealized = value - holding.quantity * holding.average_cost
        return Pnl(unrealized + holding.realized, unrealized, holding.realized, holding.quantity, value)

    # life

    def save(self) -> None:
        """Write the whole state into the state file, atomically."""
        if self._journal is not None:
            self._flush()
            self._journal.compact(self._state.records())

    def close(self) -> None:
        """Save and let go of the state file."""
        self.save()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _touch(self, now: datetime) -> None:
        """Start the market at the first call, end the day when it is over."""
        if self._now is None:
            self._start(now)
        self._now = self._table.derivatives.now = now
        if to_micros(now) >= self._day_ends_us:
            local = now.astimezone(hours.NEW_YORK)
            self._roll(local, now)

    def _start(self, now: datetime) -> None:
        if not self._state.born_s:
            self._state.begin(now)
        before = self._state.anchor
        anchor = self._market.anchor or self._market.start(before, now)
        if anchor != before:
            self._state.set_anchor(anchor)

    def _roll(self, local: datetime, now: datetime) -> None:
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        self._day_ends_us = to_micros((midnight + timedelta(days=1)).astimezone(UTC))
        day = local.date().isoformat()
        if self._state.day != day:
            self._state.roll_day(day)
            self._state.set_day_equity(self._figures(now).net_liquidation)

    def _figures(self, now: datetime) -> Figures:
        return self._state.account.figures(lambda con_id: self._market.mark(con_id, now), self._rates(now))

    def _rates(self, now: datetime) -> RateOf:
        base = self._options.currency

        def rate(currency: str) -> Decimal:
            if currency == base:
                return Decimal(1)
            for con_id, inverse in self._table.pairs(currency, base):
                mark = self._market.mark(con_id, now)
                return 1 / mark if inverse else mark
            raise RequestError(200, f"No exchange rate of {currency} in {base}: the instrument table lacks the pair.")

        return rate

    def _saved(self, events: list[VenueEvent]) -> list[VenueEvent]:
        if self._state.unsaved:
            self._flush()
        return events

    def _flush(self) -> None:
        records, self._state.unsaved = self._state.unsaved, []
        if self._journal is None or not records:
            return
        self._journal.append(records)
        if self._journal.wants_compaction:
            self._journal.compact(self._state.records())


def _passes(wanted: ExecutionFilter, execution: Execution) -> bool:
    contract = execution.contract
    side = {"BUY": "BOT", "SELL": "SLD"}.get(wanted.side.upper(), wanted.side.upper())
    pairs = (
        (wanted.client_id, execution.client_id),
        (wanted.account, execution.account),
        (wanted.symbol, contract.symbol),
        (wanted.sec_type, contract.sec_type),
        (side, execution.side),
    )
    if any(asked and asked != value for asked, value in pairs):
        return False
    if wanted.exchange and wanted.exchange not in (execution.exchange, contract.exchange):
        return False
    return wanted.since is None or execution.time >= wanted.since
