"""Read the requests about chains, option figures, single ticks, histograms and scans.

Owns: their field order. Leaves: what is answered (``wire_options``, ``wire_ticks``, ``wire_scanner``).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from . import protocol_data_messages as m
from .model import Contract, Scan
from .protocol_fields import FieldReader
from .protocol_place_order import read_contract

Reader = Callable[[FieldReader, int], m.DataRequest]


def _option_parameters(r: FieldReader, version: int) -> m.DataRequest:
    req_id = r.request_id()
    r.skip()
    exchange = r.text()
    r.skip()
    return m.RequestOptionParameters(req_id, r.integer(), exchange)


def _implied_volatility(r: FieldReader, version: int) -> m.DataRequest:
    r.skip()
    request = m.CalculateImpliedVolatility(r.request_id(), read_contract(r), r.decimal(), r.decimal())
    r.texts(2)  # options: their number and text
    return request


def _option_price(r: FieldReader, version: int) -> m.DataRequest:
    r.skip()
    request = m.CalculateOptionPrice(r.request_id(), read_contract(r), r.decimal(), r.decimal())
    r.texts(2)
    return request


def _exercise(r: FieldReader, version: int) -> m.DataRequest:
    r.skip()
    req_id = r.request_id()
    contract = Contract(
        con_id=r.integer(),
        symbol=r.text(),
        sec_type=r.text(),
        last_trade_date=r.text(),
        strike=r.number(),
        right=r.text(),
        multiplier=r.text(),
        exchange=r.text(),
        currency=r.text(),
        local_symbol=r.text(),
        trading_class=r.text(),
    )
    return m.ExerciseOption(req_id, contract, r.integer(), r.integer(), r.text(), r.flag())


def _tick_by_tick(r: FieldReader, version: int) -> m.DataRequest:
    return m.RequestTickByTick(r.request_id(), read_contract(r), r.text(), r.integer(), r.flag())


def _historical_ticks(r: FieldReader, version: int) -> m.DataRequest:
    req_id = r.request_id()
    contract, expired = read_contract(r), r.flag()
    start, end = r.text(), r.text()
    request = m.RequestHistoricalTicks(req_id, contract, expired, start, end, r.integer(), r.text(), r.flag())
    r.flag()  # ignore size: a quote counts only when a price changes
    r.skip()
    return request


def _histogram(r: FieldReader, version: int) -> m.DataRequest:
    req_id, contract = r.request_id(), read_contract(r)
    r.flag()
    return m.RequestHistogram(req_id, contract, r.flag(), r.text())


def _market_depth(r: FieldReader, version: int) -> m.DataRequest:
    r.skip()
    request = m.RequestMarketDepth(r.request_id(), read_contract(r))
    r.texts(3)  # rows, smart depth, options
    return request


def _scanner(r: FieldReader, version: int) -> m.DataRequest:
    req_id = r.request_id()
    rows, instrument, location, code = r.integer(-1), r.text(), r.text(), r.text()
    above, below, volume = r.decimal(), r.decimal(), r.decimal()
    r.texts(14)  # capitalisation, ratings, maturities, coupons, option volume, setting pairs, stock types
    filters = _tag_values(r.text())
    r.skip()
    scan = Scan(
        code=code,
        instrument=instrument,
        location=location,
        rows=rows,
        above_price=_stricter(max, above, filters, "priceAbove", "usdPriceAbove"),
        below_price=_stricter(min, below, filters, "priceBelow", "usdPriceBelow"),
        above_volume=_stricter(max, volume, filters, "volumeAbove"),
        above_change=filters.get("changePercAbove"),
        below_change=filters.get("changePercBelow"),
    )
    return m.RequestScanner(req_id, scan)


def _tag_values(text: str) -> dict[str, Decimal]:
    """Read ``tag=value;tag=value;``; what is no number is no filter that the gateway has."""
    found: dict[str, Decimal] = {}
    for part in text.split(";"):
        tag, _, value = part.partition("=")
        try:
            number = Decimal(value)
        except InvalidOperation:
            continue
        if number.is_finite():
            found[tag.strip()] = number
    return found


def _stricter(
    pick: Callable[[list[Decimal]], Decimal], own: Decimal | None, filters: dict[str, Decimal], *tags: str
) -> Decimal | None:
    limits = [limit for limit in (own, *(filters.get(tag) for tag in tags)) if limit is not None]
    return pick(limits) if limits else None


def _parameters(r: FieldReader, version: int) -> m.DataRequest:
    r.skip()
    return m.RequestScannerParameters()


def _versioned(build: Callable[[int], m.DataRequest]) -> Reader:
    def read(r: FieldReader, version: int) -> m.DataRequest:
        r.skip()
        return build(r.request_id())

    return read


def _bare(build: Callable[[int], m.DataRequest]) -> Reader:
    def read(r: FieldReader, version: int) -> m.DataRequest:
        return build(r.request_id())

    return read


DATA_READERS: dict[str, Reader] = {
    "10": _market_depth,
    "21": _exercise,
    "22": _scanner,
    "23": _versioned(m.CancelScanner),
    "24": _parameters,
    "54": _implied_volatility,
    "55": _option_price,
    "56": _versioned(m.CancelCalculation),
    "57": _versioned(m.CancelCalculation),
    "78": _option_parameters,
    "88": _histogram,
    "89": _bare(m.CancelHistogram),
    "96": _historical_ticks,
    "97": _tick_by_tick,
    "98": _bare(m.CancelTickByTick),
}
