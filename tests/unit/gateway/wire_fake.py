"""A venue of a few canned answers and a client that speaks raw frames: what wire tests need and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from trading.gateway import model
from trading.gateway.protocol import frame
from trading.gateway.session import Session
from trading.gateway.wire_context import Context
from trading.gateway.wire_hub import Hub

NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
AAPL = model.Contract(
    con_id=265598, symbol="AAPL", sec_type="STK", exchange="SMART", primary_exchange="NASDAQ", currency="USD",
    local_symbol="AAPL", trading_class="NMS",
)  # fmt: skip
DETAILS = model.ContractDetails(
    contract=AAPL, long_name="APPLE INC", min_tick=Decimal("0.01"), valid_exchanges=("SMART", "NASDAQ"),
    order_types=("LMT", "MKT"), market_rule_ids=(26, 26), time_zone="America/New_York",
    trading_hours="20260302:0400-20260302:2000", liquid_hours="20260302:0930-20260302:1600", stock_type="COMMON",
)  # fmt: skip
CONTRACT_FIELDS = ["265598", "AAPL", "STK", "", "0.0", "", "", "SMART", "NASDAQ", "USD", "AAPL", "NMS"]


def order(client_id: int = 1, order_id: int = 1, **changes: object) -> model.OrderSnapshot:
    """A working limit order for 100 AAPL."""
    request = model.OrderRequest(
        client_id=client_id, order_id=order_id, contract=AAPL, action="BUY", quantity=Decimal(100), order_type="LMT",
        limit_price=Decimal("187.50"), account="DU1", order_ref="DEMO/1",
    )  # fmt: skip
    values: dict[str, object] = {
        "request": request, "contract": AAPL, "perm_id": 777, "status": "Submitted", "filled": Decimal(0),
        "remaining": Decimal(100), "average_price": Decimal(0), "last_price": Decimal(0),
    }  # fmt: skip
    return model.OrderSnapshot(**{**values, **changes})  # type: ignore[arg-type]  # one builder for all fields


def execution(client_id: int = 1, number: int = 1) -> model.Execution:
    """A fill of 40 AAPL."""
    return model.Execution(
        exec_id=f"0000abcd.{number:08x}.01.01", time=NOW, account="DU1", contract=AAPL, side="BOT",
        quantity=Decimal(40), price=Decimal("187.50"), perm_id=777, client_id=client_id, order_id=1,
        cum_quantity=Decimal(40), average_price=Decimal("187.50"), exchange="NASDAQ", order_ref="DEMO/1",
    )  # fmt: skip


def held(quantity: int = 40) -> model.PositionRow:
    """A position in AAPL."""
    nothing = Decimal(0)
    cost = Decimal("187.525")
    return model.PositionRow("DU1", AAPL, Decimal(quantity), cost, Decimal("187.5"), nothing, nothing, nothing)


class FakeVenue:
    """Answers with constants, remembers the orders that reached it."""

    accounts: Sequence[str] = ("DU1",)

    def __init__(self) -> None:
        self.placed: list[model.OrderRequest] = []
        self.cancelled: list[tuple[int, int]] = []
        self.due: list[model.VenueEvent] = []
        self.saves = 0
        self.bindable: list[model.VenueEvent] = []
        self.wishes: list[bool] = []  # of auto_bind
        self.filters: list[model.ExecutionFilter] = []
        self.rows: list[model.PositionRow] = [held()]
        self.cash = Decimal(1000)
        self.bid = Decimal("187.49")
        self.broken = False
        self.withdrawn = False
        self.closed_bars = 0

    def resolve(self, query: model.Contract, *, include_expired: bool = False) -> Sequence[model.ContractDetails]:
        """Know AAPL; be in two minds about TWIN; break down at BOOM."""
        if query.symbol == "BOOM":
            raise ZeroDivisionError
        if query.symbol == "TWIN":
            return [DETAILS, DETAILS]
        if query.con_id == AAPL.con_id or query.symbol == "AAPL":
            return [DETAILS]
        raise model.RequestError(200, "No security definition has been found for the request")

    def search(self, pattern: str) -> Sequence[model.ContractDetails]:
        """Find AAPL by its beginning."""
        return [DETAILS] if "AAPL".startswith(pattern) else []

    def market_rule(self, rule_id: int) -> Sequence[model.PriceIncrement]:
        """One rule of one step."""
        return [model.PriceIncrement(Decimal(0), Decimal("0.01"))]

    competing = False
    entitled = model.Entitlement.FULL
    is_trading = True

    def entitlement(self, con_id: int) -> model.Entitlement:
        """What the test granted."""
        return self.entitled

    def is_open(self, con_id: int, now: datetime) -> bool:
        """As the test says."""
        return self.is_trading

    def option_chains(self, con_id: int, exchange: str) -> Sequence[model.OptionChain]:
        """One chain of one expiry and two strikes."""
        strikes = (Decimal("187.5"), Decimal(190))
        return [model.OptionChain("SMART", con_id, "AAPL", "100", ("20260320",), strikes)]

    def option_figures(self, con_id: int, price: Decimal | None, now: datetime) -> model.OptionFigures | None:
        """No option."""
        return None

    def implied_volatility(
        self, con_id: int, price: Decimal, underlying: Decimal, now: datetime
    ) -> model.OptionFigures | None:
        """A computation without its volatility."""
        return model.OptionFigures(None, None, float(price), None, None, None, float(underlying))

    def option_price(
        self, con_id: int, volatility: float, underlying: Decimal, now: datetime
    ) -> model.OptionFigures | None:
        """A computation of constants."""
        return model.OptionFigures(volatility, 0.5, 4.25, 0.01, 0.2, -0.03, float(underlying))

    def _tick(self, time: datetime) -> model.Tick:
        return model.Tick(
            time, Decimal("187.5"), Decimal(7), Decimal("187.49"), Decimal("187.51"), Decimal(100), Decimal(200)
        )

    def ticks(self, con_id: int, kind: model.TickKind, since: datetime, until: datetime) -> Sequence[model.Tick]:
        """One at the beginning."""
        return [self._tick(since)] if since < until else []

    def past_ticks(
        self, con_id: int, kind: model.TickKind, *, start: datetime | None, end: datetime | None, count: int,
        use_rth: bool, now: datetime,
    ) -> Sequence[model.Tick]:  # fmt: skip
        """As many as asked for, all at once."""
        return [self._tick(start or end or now)] * count

    def scan(self, scan: model.Scan, now: datetime) -> Sequence[model.ContractDetails]:
        """AAPL, unless nothing is cheap enough."""
        return [] if scan.below_price else [DETAILS]

    def schedule(
        self, con_id: int, *, end: datetime, days: int, use_rth: bool, now: datetime
    ) -> Sequence[model.TradingSession]:
        """One day."""
        return [model.TradingSession("20260302", NOW, NOW + timedelta(hours=6))]

    def exercise_option(
        self, query: model.Contract, *, exercise: bool, quantity: Decimal, override: bool, now: datetime
    ) -> list[model.VenueEvent]:
        """Say no."""
        raise model.RequestError(322, "Error processing request : cause - not held")

    def quote(self, con_id: int, now: datetime, *, frozen: bool = False, delayed: bool = False) -> model.Quote:
        """A quote whose bid the test may move."""
        if self.broken:
            raise ZeroDivisionError
        if self.withdrawn:
            raise model.RequestError(200, "No security definition has been found for the request")
        return model.Quote(
            now, self.bid, None, Decimal(100), Decimal(200), Decimal("187.5"), Decimal(5), Decimal(1000),
            Decimal(190), Decimal(180), Decimal(185), Decimal(184),
        )  # fmt: skip

    def _bar(self, start: datetime) -> model.Bar:
        one = Decimal(1)
        return model.Bar(start, one, one + 1, one, one, Decimal(10), one, 3)

    def bars(
        self, con_id: int, *, end: datetime, duration: str, bar_size: str, what: str, use_rth: bool, now: datetime
    ) -> Sequence[model.Bar]:
        """Three minute bars before the end; none for 0 D."""
        if bar_size == "5 secs":
            return [self._bar(NOW + timedelta(seconds=5 * n)) for n in range(1, self.closed_bars + 1)]
        if duration.startswith("0"):
            return []
        return [self._bar(end - timedelta(minutes=n)) for n in (3, 2, 1)]

    def latest_bar(self, con_id: int, *, seconds: int, what: str, now: datetime) -> model.Bar | None:
        """As many 5-second bars as the test closed."""
        return self._bar(NOW + timedelta(seconds=seconds * self.closed_bars)) if self.closed_bars else None

    def head_timestamp(self, con_id: int, what: str, use_rth: bool) -> datetime:
        """The first day of 2020."""
        return datetime(2020, 1, 2, 14, 30, tzinfo=UTC)

    def next_order_id(self, client_id: int) -> int:
        """Separate per client."""
        return 100 + client_id

    def place(self, request: model.OrderRequest, now: datetime) -> list[model.VenueEvent]:
        """Accept everything."""
        self.placed.append(request)
        return [model.OrderChanged(order(request.client_id, request.order_id))]

    def cancel(self, client_id: int, order_id: int, now: datetime) -> list[model.VenueEvent]:
        """Confirm with notice 202."""
        self.cancelled.append((client_id, order_id))
        return [model.OrderError(client_id, order_id, 202, "Order Canceled - reason:")]

    def global_cancel(self, now: datetime) -> list[model.VenueEvent]:
        """Nothing to cancel."""
        return []

    def bind_manual(self, now: datetime) -> list[model.VenueEvent]:
        """What the test put in to be bound."""
        return list(self.bindable)

    def auto_bind(self, bind: bool) -> None:
        """Remember the wish."""
        self.wishes.append(bind)

    def advance(self, now: datetime) -> list[model.VenueEvent]:
        """What the test put in."""
        due, self.due = self.due, []
        return due

    def open_orders(self, client_id: int | None = None) -> Sequence[model.OrderSnapshot]:
        """One of client 1, one of client 2."""
        return [order(owner) for owner in (1, 2) if client_id in {None, owner}]

    def completed_orders(self, *, api_only: bool) -> Sequence[model.OrderSnapshot]:
        """One filled order."""
        return [order(status="Filled", completed_time="20260302 10:00:00 US/Eastern", completed_status="Filled")]

    def executions(self, filter_: model.ExecutionFilter) -> Sequence[tuple[model.Execution, model.Commission | None]]:
        """One of each client, commission known for the first."""
        self.filters.append(filter_)
        paid = model.Commission(execution(1).exec_id, Decimal(1), "USD", None, 1)
        return [(execution(1), paid), (execution(2, 2), None)]

    def positions(self, now: datetime) -> Sequence[model.PositionRow]:
        """What the test set."""
        return self.rows

    def account_values(self, now: datetime) -> Sequence[model.AccountRow]:
        """Cash, and a constant."""
        return [model.AccountRow("CashBalance", f"{self.cash}", "USD"), model.AccountRow("AccountType", "DEMO", "")]

    def account_summary(self, tags: Sequence[str], now: datetime) -> Sequence[model.AccountRow]:
        """Cash under every tag."""
        return [model.AccountRow(tag, f"{self.cash}", "USD") for tag in tags]

    def pnl(self, now: datetime) -> model.Pnl:
        """Constant."""
        return model.Pnl(Decimal(1), Decimal(2), Decimal(3))

    def pnl_single(self, con_id: int, now: datetime) -> model.Pnl:
        """Constant."""
        return model.Pnl(Decimal(1), Decimal(2), Decimal(3), Decimal(40), Decimal(7500))

    def save(self) -> None:
        """Count."""
        self.saves += 1


class Bench:
    """A hub, a clock that the test moves, and sessions that read back what they were sent."""

    def __init__(self, **options: object) -> None:
        self.venue = FakeVenue()
        self.now = NOW
        self.context = Context(venue=self.venue, clock=lambda: self.now, **options)  # type: ignore[arg-type]  # the test's own options
        self.hub = Hub(self.context)

    def connect(self, client_id: int, version: int = 178) -> Session:
        """Start a session and throw its greeting away."""
        session = Session(version=version)
        self.say(session, "71", "2", str(client_id), "")
        return session

    def say(self, session: Session, *fields: str) -> list[list[str]]:
        """Send one message and return what the session got since the last look."""
        self.hub.handle(session, list(fields))
        return heard(session)

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass and the market move."""
        self.now += timedelta(seconds=seconds)
        self.hub.tick((self.now - NOW).total_seconds())


def heard(session: Session) -> list[list[str]]:
    """Return and forget what waits in a session's outbox, as fields."""
    session.outbox.extend(session.backlog or ())
    session.backlog = None
    frames = [data[4:-1].decode().split("\0") for data in session.outbox]
    assert all(frame(data[4:]) == data for data in session.outbox)
    session.outbox.clear()
    return frames


def ids(frames: list[list[str]]) -> list[str]:
    """The message ids of some frames."""
    return [fields[0] for fields in frames]
