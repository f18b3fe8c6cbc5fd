"""Futures and options as instruments: what a conId of ``derivatives`` is, in the words of the table.

Owns: building the instrument of a future, an option, or the commodity that futures follow.
Leaves: which are listed (``derivatives``). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from trading.gateway import derivatives
from trading.gateway.derivatives import FutureId, FutureRoot, OptionId
from trading.gateway.instrument import Instrument
from trading.gateway.model import Contract


def build(con_id: int, listed: Mapping[int, Instrument]) -> Instrument | None:
    """The future or option of a conId; None when it is neither or its underlying is not listed."""
    option = derivatives.option_of(con_id)
    if option is not None:
        underlying = listed.get(option.root.underlying)
        return None if underlying is None else _option(con_id, option, underlying)
    future = derivatives.future_of(con_id)
    if future is None:
        return None
    if future.month == 0:
        return _commodity(con_id, future.root)
    followed = listed.get(future.root.underlying)
    if followed is None and future.root.reference_price is None:
        return None
    return _future(future, followed or _commodity(future.root.underlying, future.root))


def underlying_of(con_id: int) -> int:
    """The conId that a derivative follows, 0 for anything else."""
    option = derivatives.option_of(con_id)
    if option is not None:
        return option.root.underlying
    future = derivatives.future_of(con_id)
    return 0 if future is None else future.root.underlying


def _commodity(con_id: int, root: FutureRoot) -> Instrument:
    """What crude oil or gold costs on the spot; nobody can find or trade it."""
    return Instrument(
        contract=Contract(con_id=con_id, symbol=root.symbol, sec_type="CMDTY", currency=root.currency),
        long_name=root.long_name,
        stock_type="",
        industry="",
        category="",
        subcategory="",
        market_rule=root.market_rule,
        calendar=root.calendar,
        time_zone=root.time_zone,
        size_increment=Decimal(1),
        reference_price=root.reference_price or Decimal(1),
        daily_volume=0,
        volatility=root.volatility or 0.25,
    )


def _future(found: FutureId, underlying: Instrument) -> Instrument:
    root = found.root
    return Instrument(
        contract=derivatives.future_contract(found),
        long_name=root.long_name,
        stock_type="",
        industry=underlying.industry,
        category=underlying.category,
        subcategory=underlying.subcategory,
        market_rule=root.market_rule,
        calendar=root.calendar,
        time_zone=root.time_zone,
        size_increment=Decimal(1),
        reference_price=underlying.reference_price,
        daily_volume=root.daily_volume,
        volatility=underlying.volatility,
        liquid_calendar=root.liquid_calendar,
        underlying=root.underlying,
        carry=root.carry,
        contract_month=f"{found.year:04d}{found.month:02d}",
    )


def _option(con_id: int, found: OptionId, underlying: Instrument) -> Instrument:
    contract = derivatives.option_contract(con_id, found, underlying.contract.currency)
    return Instrument(
        contract=contract,
        long_name=underlying.long_name,
        stock_type="",
        industry=underlying.industry,
        category=underlying.category,
        subcategory=underlying.subcategory,
        market_rule=found.root.market_rule,
        calendar=underlying.calendar,
        time_zone="America/New_York",
        size_increment=Decimal(1),
        reference_price=underlying.reference_price,
        daily_volume=max(underlying.daily_volume // 20_000, 1_000),
        volatility=underlying.volatility,
        underlying=found.root.underlying,
        contract_month=contract.last_trade_date[:6],
        exchanges=derivatives.OPTION_EXCHANGES,
        is_cash_settled=found.root.settlement == "cash",
    )
