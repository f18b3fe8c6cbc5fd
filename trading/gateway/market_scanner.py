"""The market scanner: ranks listed stocks by what they did today.

Owns: scan codes, locations, filters, the XML of scanner parameters.
Leaves: quotes (given as a function). Rule: a stock without a price, or off the filters, is not in the list; equal
figures are ordered by symbol. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from xml.sax.saxutils import escape

from trading.gateway.instrument import Instrument
from trading.gateway.model import Quote, RequestError, Scan

MOST_ROWS = 50
ZERO = Decimal(0)
UNKNOWN = "Historical Market Data Service error message:Scanner parameter not understood: "


@dataclass(frozen=True, slots=True)
class Day:
    """What a stock did today. Units: change and gap as fractions, hot as a multiple of its usual volume."""

    instrument: Instrument
    last: Decimal
    change: Decimal
    gap: Decimal
    volume: Decimal
    hot: Decimal


Key = Callable[[Day], Decimal]
SCANS: dict[str, tuple[str, Key]] = {
    "TOP_PERC_GAIN": ("Top % Gainers", lambda day: -day.change),
    "TOP_PERC_LOSE": ("Top % Losers", lambda day: day.change),
    "MOST_ACTIVE": ("Most Active", lambda day: -day.volume),
    "MOST_ACTIVE_USD": ("Most Active ($)", lambda day: -day.volume * day.last),
    "HOT_BY_VOLUME": ("Hot Contracts by Volume", lambda day: -day.hot),
    "HIGH_OPEN_GAP": ("Top Close-to-Open % Gainers", lambda day: -day.gap),
    "LOW_OPEN_GAP": ("Top Close-to-Open % Losers", lambda day: day.gap),
}
_US = frozenset({"NYSE", "NASDAQ", "ARCA", "BATS", "AMEX"})
LOCATIONS: dict[str, frozenset[str]] = {
    "STK.US": _US,
    "STK.US.MAJOR": _US,
    "STK.NYSE": frozenset({"NYSE"}),
    "STK.NASDAQ": frozenset({"NASDAQ"}),
    "STK.AMEX": frozenset({"AMEX"}),
    "STK.ARCA": frozenset({"ARCA"}),
    "STK.EU": frozenset({"LSE"}),
    "STK.EU.LSE": frozenset({"LSE"}),
    "STK.NA": _US | {"TSE"},
    "STK.NA.CANADA": frozenset({"TSE"}),
}
_FILTERS = ("abovePrice", "belowPrice", "aboveVolume", "changePercAbove", "changePercBelow")


def run_scan(scan: Scan, listed: Iterable[Instrument], quote_of: Callable[[int], Quote]) -> list[Instrument]:
    """The best instruments of a scan, at most 50.

    Raises: RequestError 162 for a scan code or location that is not served.
    """
    for wanted, known in ((scan.code, SCANS), (scan.location, LOCATIONS)):
        if wanted not in known:
            raise RequestError(162, f"{UNKNOWN}{wanted}")
    exchanges, key = LOCATIONS[scan.location], SCANS[scan.code][1]
    chosen = (i for i in listed if i.contract.sec_type == "STK" and i.contract.primary_exchange in exchanges)
    days = (_day(i, quote_of(i.con_id)) for i in chosen)
    fitting = [day for day in days if day is not None and _passes(scan, day)]
    rows = min(scan.rows if scan.rows > 0 else MOST_ROWS, MOST_ROWS)
    ranked = sorted(fitting, key=lambda day: (key(day), day.instrument.contract.symbol))
    return [day.instrument for day in ranked[:rows]]


def _day(instrument: Instrument, quote: Quote) -> Day | None:
    if quote.last is None or not quote.close:
        return None
    opened = quote.open if quote.open is not None else quote.close
    usual = Decimal(instrument.daily_volume or 1)
    return Day(
        instrument=instrument,
        last=quote.last,
        change=quote.last / quote.close - 1,
        gap=opened / quote.close - 1,
        volume=quote.volume,
        hot=quote.volume / usual,
    )


def _passes(scan: Scan, day: Day) -> bool:
    percent = day.change * 100
    limits = (
        (scan.above_price, day.last, 1),
        (scan.below_price, day.last, -1),
        (scan.above_volume, day.volume, 1),
        (scan.above_change, percent, 1),
        (scan.below_change, percent, -1),
    )
    return all(limit is None or (value - limit) * sign >= 0 for limit, value, sign in limits)


def parameters_xml() -> str:
    """What reqScannerParameters answers: the served instruments, locations, scan codes and filters."""
    locations = "".join(
        f"<Location><displayName>{name}</displayName><locationCode>{name}</locationCode>"
        "<instruments>STK</instruments></Location>"
        for name in LOCATIONS
    )
    scans = "".join(
        f"<ScanType><displayName>{escape(title)}</displayName><scanCode>{code}</scanCode>"
        "<instruments>STK</instruments></ScanType>"
        for code, (title, _) in SCANS.items()
    )
    filters = "".join(f"<RangeFilter><id>{name}</id><category>STK</category></RangeFilter>" for name in _FILTERS)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ScanParameterResponse>'
        "<InstrumentList><Instrument><name>US Stocks</name><type>STK</type></Instrument></InstrumentList>"
        f"<LocationTree>{locations}</LocationTree><ScanTypeList>{scans}</ScanTypeList>"
        f"<FilterList>{filters}</FilterList></ScanParameterResponse>"
    )
