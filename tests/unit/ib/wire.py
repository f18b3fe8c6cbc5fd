"""Messages of a gateway as ib_async's decoder gets them, and an unconnected IB that reads them."""

from __future__ import annotations

from typing import Any

from ib_async import IB, Contract, Order, Trade
from ib_async.order import OrderStatus

CLIENT_ID = 7


def listening_ib() -> IB:
    """Return an IB whose decoder works; nothing is connected."""
    ib = IB()
    ib.client.decoder.serverVersion = 178
    ib.wrapper.clientId = CLIENT_ID
    return ib


def stock() -> Contract:
    """Return a resolved stock."""
    return Contract(
        conId=265598, symbol="AAPL", secType="STK", exchange="SMART", currency="USD", primaryExchange="NASDAQ"
    )


def known_order(ib: IB, order_id: int = 3, status: str = "Submitted", ref: str = "T/x") -> Trade:
    """Let ib_async know a working order, as placeOrder does."""
    order = Order(orderId=order_id, clientId=CLIENT_ID, permId=900 + order_id, action="BUY", totalQuantity=100)
    order.orderType, order.orderRef = "MKT", ref
    trade = Trade(stock(), order, OrderStatus(orderId=order_id, status=status), [], [])
    ib.wrapper.trades[CLIENT_ID, order_id] = trade
    ib.wrapper.permId2Trade[order.permId] = trade
    return trade


def say(ib: IB, *fields: Any) -> None:
    """Have the decoder read one message."""
    decoder: Any = ib.client.decoder  # untyped in ib_async
    decoder.interpret([str(field) for field in fields])


def framed(*fields: Any) -> bytes:
    """Return one message as it stands on the wire."""
    body = "".join(f"{field}\0" for field in fields).encode()
    return len(body).to_bytes(4, "big") + body


def receive(ib: IB, *fields: Any) -> None:
    """Have the socket deliver one message."""
    ib.client.conn.hasData.emit(framed(*fields))


def execution(
    exec_id: str = "0001.02.03.01",
    *,
    req_id: int = -1,
    order_id: int = 3,
    shares: str = "22",
    price: str = "22.960",
    time: str = "20251104 15:13:24 MET",
    ref: str = "T/x",
    perm_id: int = 903,
) -> list[Any]:
    """Return an execDetails message in the form of a real record."""
    contract = [265598, "AAPL", "STK", "", "0.0", "", "", "NASDAQ", "USD", "AAPL", "NMS"]
    tail = [perm_id, CLIENT_ID, 0, shares, price, ref, "", "", "", 2, 0]
    return [11, req_id, order_id, *contract, exec_id, time, "DU1", "NASDAQ", "BOT", shares, price, *tail]


def commission(exec_id: str = "0001.02.03.01", amount: str = "1.05", currency: str = "USD") -> list[Any]:
    """Return a commissionReport message; realised P&L unset, as on opening fills."""
    return [59, 1, exec_id, amount, currency, "1.7976931348623157E308", "", ""]


def status(word: str, filled: str, remaining: str, *, order_id: int = 3, average: str = "0") -> list[Any]:
    """Return an orderStatus message."""
    return [3, order_id, word, filled, remaining, average, 900 + order_id, 0, 0, CLIENT_ID, "", 0]


def error(code: int, text: str, req_id: int = 3) -> list[Any]:
    """Return an error message."""
    return [4, 2, req_id, code, text, ""]
