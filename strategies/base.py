"""BaseStrategy: what a strategy can do. Subclass it, write ``initialize_strategy`` and ``run_strategy``.

Owns: constructor, parameters, sizing, and the wrappers for positions and equity that strategy files use.
Leaves: thread, loop, connection (``life.py``), prices and bars (``market_access.py``), orders (``order_entry.py``).
Rule: everything asked about positions and money is this strategy's own, never the account's. Ledger reads touch the
database and run in a worker thread; everything else stays on the strategy's own loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ib_async import Contract

from strategies.exceptions import LedgerError, OrderDeniedError, TransientError
from strategies.market_access import REQUEST_TIMEOUT_S
from strategies.order_entry import OrderEntry
from strategies.params import PARAMS
from strategies.ports import EnginePort, PortfolioPort, StrategyPosition, Ticket
from strategies.sizing import Number, multiplier_of, size_to_quantity, to_decimal

__all__ = ["PARAMS", "BaseStrategy"]


class BaseStrategy(OrderEntry):
    """A strategy with its own thread, asyncio loop and IB connection.

    ``symbol`` names the strategy, never an instrument; it owns orders, fills, positions and cash.
    """

    def __init__(
        self,
        client_id: int,
        strategy_manager: EnginePort,
        params: Mapping[str, Any],
        broker_type: str = "live",
        backtest_engine: Any = None,
        strategy_symbol: str | None = None,
    ) -> None:
        super().__init__()
        self.client_id = client_id
        self.strategy_manager = strategy_manager
        self.broker_type = broker_type
        self.backtest_engine = backtest_engine
        self.symbol = strategy_symbol or type(self).__name__
        self.code_hash = ""  # the engine stamps both: every order carries the code and parameters that decided it
        self.params_revision = 0
        self._set_params(params)

    # -- hooks

    def on_params_changed(self) -> Any:
        """React to parameters edited while the strategy runs. May be async."""

    # -- state

    def get_status(self) -> dict[str, Any]:
        """Return what status pages show; safe to call from any thread."""
        return {
            "symbol": self.symbol,
            "client_id": self.client_id,
            "is_running": self.is_running,
            "is_connected": self.is_connected,
            "broker_type": self.broker_type,
            "params": dict(self.params),
            "open_orders": len(self._pending()),
        }

    def update_params(self, params: Mapping[str, Any]) -> None:
        """Take new, already validated parameters; ``on_params_changed`` follows on the strategy's loop. Thread-safe."""
        loop = self._loop
        if loop is None or loop.is_closed():
            self._set_params(params)
        else:
            loop.call_soon_threadsafe(self._apply_params, dict(params))

    def _apply_params(self, params: Mapping[str, Any]) -> None:
        self._set_params(params)
        self._enqueue(self.on_params_changed)

    def _set_params(self, params: Mapping[str, Any]) -> None:
        self.params: dict[str, Any] = {**PARAMS, **params}
        self.min_weight, self.target_weight, self.max_weight = (
            to_decimal(self.params[name]) for name in ("min_weight", "target_weight", "max_weight")
        )

    # -- orders

    async def place_order_by_size(
        self,
        contract: Contract,
        size: Number,
        side: str,
        order_type: str = "MKT",
        algo: bool = True,
        urgency: str = "Patient",
        limit: Number | None = None,
        stop: Number | None = None,
        useRth: bool = False,  # noqa: N803 - the name strategy files use
        tif: str = "DAY",
    ) -> Ticket:
        """Buy or sell for a fraction (0–1) of the strategy's equity.

        Raises: OrderDeniedError when not even one unit fits, or as ``place_order`` does.
        """
        with self._denials_told():
            if side not in ("BUY", "SELL"):
                raise OrderDeniedError(f"Side {side!r} is neither BUY nor SELL.", code="bad_side")
            quantity = await self.calculate_quantity(contract, size)
        signed = quantity if side == "BUY" else -quantity
        return await self.place_order(
            contract, signed, order_type, algo, urgency, limit=limit, stop=stop, useRth=useRth, tif=tif
        )

    async def calculate_quantity(self, contract: Contract, size: Number) -> Decimal:
        """Return how many whole units ``size`` (fraction 0–1, capped by max_position_size) of the equity buys.

        Raises: OrderDeniedError when it is less than one, or price, equity or an exchange rate are unknown.
        """
        qualified = await self.qualify(contract)
        fraction = min(to_decimal(size), to_decimal(self.params["max_position_size"]))
        try:
            price = await self.to_own_currency(await self.get_market_price(qualified), qualified.currency)
            equity = await self.get_equity()
        except (TransientError, LedgerError) as error:
            raise OrderDeniedError(f"Nothing to size with: {error.message}", code=error.code) from error
        points = multiplier_of(qualified) if self.broker is None else self.broker.point_value(qualified)
        return size_to_quantity(equity, fraction, price, points)

    async def to_own_currency(self, amount: Decimal, currency: str) -> Decimal:
        """Return an amount of another currency in the strategy's own; an old or delayed rate is told in the log.

        Raises: LedgerError while the rate is not known.
        """
        own = str(self.params["currency"])
        if currency == own:
            return amount
        converted = await asyncio.to_thread(self._books.fx_cache.convert_flagged, amount, currency, own)
        if converted.stale:
            self.log(f"The rate of {currency} to {own} is old or delayed (as of {converted.as_of}).", "warning")
        return converted.amount

    async def flatten(self, contract: Contract | None = None) -> list[Ticket]:
        """Cancel working orders, then close this strategy's own positions at market; return the closing tickets.

        Raises: OrderDeniedError when an order does not end its life in time: its fills could still come.
        """
        for ticket in await self.cancel_orders(contract):
            if not await ticket.wait_done(REQUEST_TIMEOUT_S):
                raise OrderDeniedError(
                    f"{ticket.order_ref} could not be cancelled; the position is left as it is.", code="order_working"
                )
        closing = []
        for position in await self.get_positions():
            if position.quantity and (contract is None or contract.conId == position.con_id):
                held = Contract(conId=position.con_id, exchange="SMART")
                closing.append(await self.place_order(held, -position.quantity, algo=False))
        return closing

    # -- books

    async def get_positions(self) -> list[StrategyPosition]:
        """Return this strategy's own positions from the ledger."""
        if self.broker is not None:
            return await self.broker.get_positions()
        return list(await asyncio.to_thread(self._books.get_strategy_positions, self.symbol))

    async def get_position(self, contract: Contract) -> Decimal:
        """Return this strategy's own signed quantity of one contract; 0 when flat."""
        con_id = (await self.qualify(contract)).conId
        return sum((p.quantity for p in await self.get_positions() if p.con_id == con_id), Decimal(0))

    async def get_equity(self) -> Decimal:
        """Return this strategy's own equity: cash plus marked positions, in its currency.

        Raises: LedgerError while it cannot be known.
        """
        if self.broker is not None:
            return await self.broker.get_equity()
        return await asyncio.to_thread(self._books.calculate_strategy_equity, self.symbol)

    async def get_total_equity(self) -> Decimal:
        """Return the account's net liquidation value, in its base currency.

        Raises: LedgerError until IB told it.
        """
        summary = await asyncio.to_thread(self._books.get_portfolio_summary)
        if summary.get("net_liquidation") is None:
            raise LedgerError("IB has not told the account's net liquidation yet.", code="equity_unknown")
        return Decimal(str(summary["net_liquidation"]))

    @property
    def _books(self) -> PortfolioPort:
        return self.strategy_manager.portfolio_manager
