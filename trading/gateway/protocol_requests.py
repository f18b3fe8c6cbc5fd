"""Read a client's message into its typed request, every field of it.

Owns: the field order of every request but placeOrder and those about data, and the table from message id to reader.
Leaves: placeOrder (``protocol_place_order``), chains, single ticks and scans (``protocol_data_requests``), answers
(``wire_*``).
Rule: each reader is followed by ``finish``: a message with a field too many or too few is refused whole.
"""

from __future__ import annotations

from collections.abc import Callable

from . import protocol_messages as m
from .model import Contract
from .protocol_data_requests import DATA_READERS
from .protocol_errors import DecodeError
from .protocol_fields import FieldReader
from .protocol_place_order import read_contract, read_place_order
from .versions import ISSUER_ID, MANUAL_ORDER_TIME

Reader = Callable[[FieldReader, int], m.Request]


def decode(fields: list[str], version: int) -> tuple[m.Request, int]:
    """Return the typed request of one frame, and the id under which its errors are reported.

    Raises: DecodeError (carrying that id where it was read) when the message cannot be read to its end.
    """
    reader = _READERS.get(fields[0])
    if reader is None:
        return _without_reader(fields)
    source = FieldReader(fields)
    request = reader(source, version)
    source.finish()
    return request, source.req_id


def _without_reader(fields: list[str]) -> tuple[m.Request, int]:
    known = _UNSUPPORTED.get(fields[0])
    if known is None:
        return m.Unknown(fields[0][:20]), -1
    req_id = -1
    if known >= 0 and len(fields) > known and fields[known].lstrip("-").isdecimal() and len(fields[known]) < 12:
        req_id = int(fields[known])
    return m.Unsupported(int(fields[0]), req_id), req_id


def _start_api(r: FieldReader, version: int) -> m.Request:
    r.skip()
    client_id = r.integer()
    if not 0 <= client_id <= 2**31 - 1:
        raise DecodeError(f"Client id {client_id} is out of range.")
    return m.StartApi(client_id, r.text())


def _contract_details(r: FieldReader, version: int) -> m.Request:
    r.skip()
    req_id = r.request_id()
    contract = read_contract(r)
    expired = r.flag()
    id_type, id_ = r.text(), r.text()
    issuer = r.text() if version >= ISSUER_ID else ""
    return m.RequestContractDetails(req_id, contract, expired, id_type, id_, issuer)


def _skip_legs(r: FieldReader, contract: Contract) -> None:
    if contract.sec_type == "BAG":
        for _ in range(r.count()):
            r.texts(4)


def _market_data(r: FieldReader, version: int) -> m.Request:
    r.skip()
    req_id = r.request_id()
    contract = read_contract(r)
    _skip_legs(r, contract)
    if r.flag():
        r.texts(3)  # delta-neutral contract: conId, delta, price
    generic = tuple(part.strip() for part in r.text().split(",") if part.strip())
    snapshot, regulatory = r.flag(), r.flag()
    r.skip()
    return m.RequestMarketData(req_id, contract, generic, snapshot, regulatory)


def _real_time_bars(r: FieldReader, version: int) -> m.Request:
    r.skip()
    req_id = r.request_id()
    contract = read_contract(r)
    request = m.RequestRealTimeBars(req_id, contract, r.integer(), r.text(), r.flag())
    r.skip()
    return request


def _historical_data(r: FieldReader, version: int) -> m.Request:
    req_id = r.request_id()
    contract = read_contract(r)
    expired = r.flag()
    end, bar_size, duration = r.text(), r.text(), r.text()
    use_rth, what, format_date = r.flag(), r.text(), r.integer(1)
    _skip_legs(r, contract)
    keep = r.flag()
    r.skip()
    return m.RequestHistoricalData(
        req_id, contract, end, bar_size, duration, use_rth, what, format_date, keep, include_expired=expired
    )


def _head_timestamp(r: FieldReader, version: int) -> m.Request:
    req_id = r.request_id()
    contract = read_contract(r)
    r.flag()
    use_rth, what, format_date = r.flag(), r.text(), r.integer(1)
    return m.RequestHeadTimestamp(req_id, contract, use_rth, what, format_date)


def _cancel_order(r: FieldReader, version: int) -> m.Request:
    r.skip()
    order_id = r.request_id()
    return m.CancelOrder(order_id, r.text() if version >= MANUAL_ORDER_TIME else "")


def _executions(r: FieldReader, version: int) -> m.Request:
    r.skip()
    return m.RequestExecutions(r.request_id(), r.integer(), r.text(), r.text(), r.text(), r.text(), r.text(), r.text())


def _account_summary(r: FieldReader, version: int) -> m.Request:
    r.skip()
    req_id, group = r.request_id(), r.text()
    return m.RequestAccountSummary(req_id, group, tuple(tag.strip() for tag in r.text().split(",") if tag.strip()))


def _account_updates(r: FieldReader, version: int) -> m.Request:
    r.skip()
    return m.RequestAccountUpdates(r.flag(), r.text())


def _account_updates_multi(r: FieldReader, version: int) -> m.Request:
    r.skip()
    return m.RequestAccountUpdatesMulti(r.request_id(), r.text(), r.text(), r.flag())


def _positions_multi(r: FieldReader, version: int) -> m.Request:
    r.skip()
    return m.RequestPositionsMulti(r.request_id(), r.text(), r.text())


def _matching_symbols(r: FieldReader, version: int) -> m.Request:
    return m.RequestMatchingSymbols(r.request_id(), r.text())


def _pnl(r: FieldReader, version: int) -> m.Request:
    return m.RequestPnl(r.request_id(), r.text(), r.text())


def _pnl_single(r: FieldReader, version: int) -> m.Request:
    return m.RequestPnlSingle(r.request_id(), r.text(), r.text(), r.integer())


def _nothing(build: Callable[[], m.Request]) -> Reader:
    """Read a message whose only field is its dead version."""

    def read(r: FieldReader, version: int) -> m.Request:
        r.skip()
        return build()

    return read


def _ids(r: FieldReader, version: int) -> m.Request:
    r.texts(2)  # dead version, and a count that TWS ignores since it has one id for all
    return m.RequestIds()


def _versioned_id(build: Callable[[int], m.Request]) -> Reader:
    """Read a dead version and one id."""

    def read(r: FieldReader, version: int) -> m.Request:
        r.skip()
        return build(r.request_id())

    return read


def _bare_id(build: Callable[[int], m.Request]) -> Reader:
    """Read one id."""

    def read(r: FieldReader, version: int) -> m.Request:
        return build(r.request_id())

    return read


def _versioned_int(build: Callable[[int], m.Request]) -> Reader:
    """Read a dead version and one number that is no request id."""

    def read(r: FieldReader, version: int) -> m.Request:
        r.skip()
        return build(r.integer())

    return read


def _market_rule(r: FieldReader, version: int) -> m.Request:
    return m.RequestMarketRule(r.integer())


def _completed_orders(r: FieldReader, version: int) -> m.Request:
    return m.RequestCompletedOrders(r.flag())


def _auto_open_orders(r: FieldReader, version: int) -> m.Request:
    r.skip()
    return m.RequestAutoOpenOrders(r.flag())


_READERS: dict[str, Reader] = {
    **DATA_READERS,
    "1": _market_data,
    "2": _versioned_id(m.CancelMarketData),
    "3": read_place_order,
    "4": _cancel_order,
    "5": _nothing(m.RequestOpenOrders),
    "6": _account_updates,
    "7": _executions,
    "8": _ids,
    "9": _contract_details,
    "14": _versioned_int(m.SetServerLogLevel),
    "15": _auto_open_orders,
    "16": _nothing(m.RequestAllOpenOrders),
    "17": _nothing(m.RequestManagedAccounts),
    "20": _historical_data,
    "25": _versioned_id(m.CancelHistoricalData),
    "49": _nothing(m.RequestCurrentTime),
    "50": _real_time_bars,
    "51": _versioned_id(m.CancelRealTimeBars),
    "58": _nothing(m.GlobalCancel),
    "59": _versioned_int(m.RequestMarketDataType),
    "61": _nothing(m.RequestPositions),
    "62": _account_summary,
    "63": _versioned_id(m.CancelAccountSummary),
    "64": _nothing(m.CancelPositions),
    "71": _start_api,
    "74": _positions_multi,
    "75": _versioned_id(m.CancelPositionsMulti),
    "76": _account_updates_multi,
    "77": _versioned_id(m.CancelAccountUpdatesMulti),
    "81": _matching_symbols,
    "87": _head_timestamp,
    "90": _bare_id(m.CancelHeadTimestamp),
    "91": _market_rule,
    "92": _pnl,
    "93": _bare_id(m.CancelPnl),
    "94": _pnl_single,
    "95": _bare_id(m.CancelPnlSingle),
    "99": _completed_orders,
}

# Requests that IB has and the gateway has no data for: message id → position of the request id, −1 if none.
_UNSUPPORTED: dict[str, int] = {
    "11": 2, "12": -1, "13": -1, "18": -1, "19": 4, "52": 2, "53": 2, "65": -1, "66": -1, "67": 2, "68": 2, "69": 2,
    "70": 2, "72": -1, "73": -1, "79": 1, "80": -1, "82": -1, "83": 1, "84": 1, "85": -1, "86": 1, "100": 1, "101": 1,
    "102": 1, "103": 1, "104": 1,
}  # fmt: skip
