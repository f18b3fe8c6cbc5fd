"""Wire types of engine, orders and connections; rows are those of ``trading.queries``, already in wire form."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from ninja import Schema
from pydantic import Field

from portfolio.schemas import EquityPoint, FiguresOut, PositionOut
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
    state: str
    filled: str
    average_price: str | None
    reason: str
    created_at: str
    updated_at: str
    client_id: int | None
    perm_id: int | None


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
