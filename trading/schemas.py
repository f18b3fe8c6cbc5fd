"""Wire types of engine, orders and connections; rows are those of ``trading.queries``, already in wire form."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from ninja import Schema
from pydantic import ConfigDict, Field

from portfolio.schemas import EquityPoint, FiguresOut, PositionOut
from strategies.exceptions import ConfigError
from strategies.schemas import StrategyOut, UtcTime

OrderRef = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./-]{1,64}$")]
ClientId = Annotated[int, Field(ge=0, le=99)]


class QueuedOut(Schema):
    """A request handed to the engine; its outcome is read at ``status_url``."""

    command_id: UUID
    state: str
    status_url: str


class CommandOut(Schema):
    """A command and its outcome: queued → accepted → done, failed or expired."""

    id: UUID
    kind: str
    args: dict[str, Any]
    state: str
    result: Any
    error: str
    error_code: str
    user: str | None
    source: str
    created_at: UtcTime
    expires_at: UtcTime | None
    accepted_at: UtcTime | None
    finished_at: UtcTime | None

    @staticmethod
    def resolve_user(command: Any) -> str | None:
        """Name who asked."""
        return command.user.get_username() if command.user else None


class OrderOut(Schema):
    """An order; ``state`` is ours, see the order's state machine."""

    order_ref: str
    strategy: str
    symbol: str
    con_id: int
    side: str
    quantity: str
    order_type: str
    limit_price: str | None
    stop_price: str | None
    tif: str
    trail_amount: str | None
    trail_percent: str | None
    good_till: str | None
    good_after: str | None
    outside_rth: bool
    algo: str
    oca_group: str
    parent_ref: str
    state: str
    filled: str
    average_price: str | None
    reason: str
    created_at: str
    updated_at: str
    client_id: int | None
    perm_id: int | None


class ContractIn(Schema):
    """Which instrument: IB's conId, or a symbol with what is needed to tell it apart."""

    model_config = ConfigDict(extra="forbid")

    con_id: int | None = None
    symbol: str | None = None
    sec_type: str | None = None
    exchange: str | None = None
    primary_exchange: str | None = None
    currency: str | None = None
    expiry: str | None = None
    strike: str | None = None
    right: str | None = None
    multiplier: str | None = None
    local_symbol: str | None = None


class TermsIn(Schema):
    """How an order is worked. Decimals as text; times with their zone; ``trail_percent`` in per cent."""

    model_config = ConfigDict(extra="forbid")

    order_type: str | None = None
    limit: str | None = None
    stop: str | None = None
    trail: str | None = None
    trail_percent: str | None = None
    limit_offset: str | None = None
    tif: str | None = None
    good_till: str | None = None
    good_after: str | None = None
    outside_rth: bool | None = None


class OrderIn(TermsIn):
    """An order: side, quantity and terms; ``algo`` asks for IB's Adaptive (MKT and LMT)."""

    side: str | None = None
    quantity: str | None = None
    algo: bool | None = None
    urgency: str | None = None


class TradeIn(ContractIn, OrderIn):
    """One order, flat (``symbol``, ``side``, ``quantity``, …) or as ``contract`` and ``order``; not both."""

    strategy: str | None = Field(None, pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$")
    contract: ContractIn | None = None
    order: OrderIn | None = None

    def as_args(self) -> dict[str, Any]:
        """Return the command's arguments.

        Raises: ConfigError (bad_order) when parts are given in both ways.
        """
        flat = self.dict(exclude_none=True, exclude={"contract", "order", "strategy"})
        contract = {name: flat.pop(name) for name in ContractIn.model_fields if name in flat}
        args: dict[str, Any] = {} if self.strategy is None else {"strategy": self.strategy}
        for name, given, loose in (("contract", self.contract, contract), ("order", self.order, flat)):
            nested = {} if given is None else given.dict(exclude_none=True)
            if nested and loose:
                text = f"{', '.join(sorted(loose))} stand beside {name}; give them in one way."
                raise ConfigError(text, code="bad_order", errors={name: text})
            args[name] = nested or loose
        return args


class BracketIn(TradeIn):
    """An entry (as in ``TradeIn``) with its exits: a LMT and a STP unless they say otherwise."""

    take_profit: TermsIn | None = None
    stop_loss: TermsIn | None = None

    def as_args(self) -> dict[str, Any]:
        """Return the command's arguments."""
        exits = {"take_profit": self.take_profit, "stop_loss": self.stop_loss}
        entry = TradeIn(**self.dict(exclude_none=True, exclude=set(exits)))
        found = {name: part.dict(exclude_none=True) for name, part in exits.items() if part is not None}
        return {**entry.as_args(), **found}


class RollIn(Schema):
    """A roll: ``quantity`` unsigned, all without it; ``limit`` the price of new minus current."""

    model_config = ConfigDict(extra="forbid")

    strategy: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$")
    contract: ContractIn
    new_contract: ContractIn
    quantity: str | None = None
    limit: str | None = None

    def as_args(self) -> dict[str, Any]:
        """Return the command's arguments."""
        return self.dict(exclude_none=True)


class ChangeIn(Schema):
    """What is to become of a working order; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    quantity: str | None = None
    limit: str | None = None
    stop: str | None = None
    trail: str | None = None
    trail_percent: str | None = None


class SettleIn(Schema):
    """Why an order that nobody answers for is taken for ended."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=400)


class PatternIn(Schema):
    """A symbol or a part of a name."""

    model_config = ConfigDict(extra="forbid")

    pattern: str = Field(min_length=1, max_length=32)


class RunOut(Schema):
    """A strategy's life in the engine."""

    state: str
    client_id: int | None
    connected: bool
    message: str
    restarts: int
    started_at: str | None
    heartbeat_at: str | None


class StrategyFactsOut(Schema):
    """A strategy's configuration and result as a list shows them."""

    symbol: str
    name: str
    description: str
    color: str
    filename: str
    kind: str
    active: bool
    min_weight: str
    target_weight: str
    max_weight: str
    currency: str
    params_revision: int
    load_error: str
    synced: bool
    positions: int
    equity: str | None
    cash: str | None
    realized_pnl: str | None
    unrealized_pnl: str | None
    day_pnl: str | None


class StrategyRowOut(RunOut, StrategyFactsOut):
    """A strategy in the list: configuration, life, result; money is null until the first equity snapshot."""


class DetailsOut(Schema):
    """All about one strategy; ``equity`` is the last 90 days, oldest first."""

    strategy: StrategyOut
    run: RunOut
    stats: FiguresOut
    positions: list[PositionOut]
    equity: list[EquityPoint]


class EngineOut(Schema):
    """The engine as its lease shows it; ``age_s`` seconds since its last heartbeat."""

    running: bool
    epoch: int
    heartbeat_at: str | None
    age_s: float | None
    status: dict[str, Any]


class EventOut(Schema):
    """One thing that happened; ids only grow."""

    id: int
    at: str
    kind: str
    strategy: str
    payload: Any


class ConnectionOut(Schema):
    """One connection to IB."""

    client_id: int
    role: str
    name: str
    connected: bool
    host: str | None = None
    port: int | None = None
    message: str = ""
    members: list[str] = []  # strategies that share it
    budget: dict[str, int] | None = None  # lines, messages in the last second, open history requests


class ResetOut(Schema):
    """A scheduled reset; times ISO 8601 UTC."""

    kind: str
    begins: str
    ends: str


class LinkOut(Schema):
    """How the link to IB stands (docs/link.md); ``hold`` says why new orders wait for a reset, else null."""

    state: str
    since: str
    message: str
    farms_down: list[str]
    reset: ResetOut | None
    hold: str | None
    reconciled_at: str | None


class BudgetOut(Schema):
    """One of the gateway's limits and what is used of it."""

    used: int
    most: int


class ConnectionsOut(Schema):
    """All connections to IB; strategies in order of client id."""

    engine_running: bool
    master_connection: ConnectionOut
    message_queue_connection: ConnectionOut
    strategy_connections: list[ConnectionOut]
    shared_connections: list[ConnectionOut]
    link: LinkOut | None
    budget: dict[str, BudgetOut]


class BarOut(Schema):
    """One bar; ``start`` is the beginning of its interval."""

    con_id: int
    symbol: str
    start: str
    open: str
    high: str
    low: str
    close: str
    volume: str | None
    seconds: int
