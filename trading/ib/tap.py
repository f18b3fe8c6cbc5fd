"""Hooks below ib_async's events: everything the broker says on one connection, as it came.

ib_async raises no event for executions of orders it does not know, for replays, for early commissions; and it infers
Cancelled or ValidationError from error messages while the order lives. The tap stands at the wrapper, where the decoder
delivers, hands each message on before ib_async digests it, and keeps ib_async from inferring.
Owns: the four order messages, errors of orders and requests, decoding failures.
Leaves: what they mean (``capture``, ``codes``, ``orders``).
Rule: one tap a connection; it survives reconnects because the wrapper object does. Same loop only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

from ib_async import IB, Contract, ContractDetails, Execution, Order, Trade
from ib_async.objects import CommissionReport, TradeLogEntry
from ib_async.order import OrderState as IbOrderState
from ib_async.order import OrderStatus
from ib_async.wrapper import RequestError

from trading.ib import codes, magnifiers
from trading.ib.memory import Forgetting
from trading.ib.reader import FrameReader, Repeats

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RawStatus:
    """An orderStatus message as it came; floats are IB's."""

    order_id: int
    client_id: int
    perm_id: int
    status: str
    filled: float
    remaining: float
    average_price: float
    why_held: str


ExecutionListener = Callable[[Contract, Execution, bool, int], None]  # contract, execution, is_replay, received_ns
CommissionListener = Callable[[CommissionReport], None]
StatusListener = Callable[[RawStatus, Trade | None], None]
OpenOrderListener = Callable[[Contract, Order, IbOrderState], None]
OrderErrorListener = Callable[[Trade, int, str], None]
DecodeErrorListener = Callable[[str], None]
ReplayEndListener = Callable[[int], None]  # id of the request that was answered whole

# ib_async keeps these of a known order as they were when it was placed; the next change would send them back to IB.
_KEPT_STALE = ("trailingPercent", "trailStopPrice", "lmtPriceOffset")
_ATTRIBUTE = "mats_tap"  # on the wrapper, so that tap and connection live equally long


class _DecoderLog:
    """Stands in for the decoder's logger: ib_async only logs a message that it cannot read, and goes on without it."""

    def __init__(self, tap: WireTap, original: logging.Logger) -> None:
        self._tap = tap
        self._original = original

    def exception(self, text: str, *args: Any) -> None:
        self._original.exception(text, *args)
        for listener in self._tap.decode_errors:
            listener(text[:400])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class WireTap:
    """Listeners of one connection, called in the order of the wire."""

    def __init__(self, ib: IB) -> None:
        self.executions: list[ExecutionListener] = []
        self.commissions: list[CommissionListener] = []
        self.statuses: list[StatusListener] = []
        self.open_orders: list[OpenOrderListener] = []
        self.order_errors: list[OrderErrorListener] = []
        self.decode_errors: list[DecodeErrorListener] = []
        self.replay_ends: list[ReplayEndListener] = []
        self._wrapper = ib.wrapper
        self._wrapper_any: Any = ib.wrapper  # for ib_async's untyped methods
        self._client = ib.client
        self.reader = FrameReader(ib)
        self._repeats = Repeats(ib, self.reader)
        self._memory = Forgetting(ib)
        self._originals = {
            name: getattr(ib.wrapper, name)
            for name in (
                "execDetails",
                "execDetailsEnd",
                "commissionReport",
                "orderStatus",
                "openOrder",
                "contractDetails",
                "error",
            )
        }
        self._install()

    @classmethod
    def of(cls, ib: IB) -> WireTap:
        """Return the connection's tap; make it on first use."""
        tap: WireTap | None = getattr(ib.wrapper, _ATTRIBUTE, None)
        if tap is None:
            tap = cls(ib)
            setattr(ib.wrapper, _ATTRIBUTE, tap)
        return tap

    def _install(self) -> None:
        wrapper: Any = self._wrapper  # instance attributes over methods: the decoder looks them up by name each time
        wrapper.execDetails = self._exec_details
        wrapper.execDetailsEnd = self._exec_details_end
        wrapper.commissionReport = self._commission_report
        wrapper.orderStatus = self._order_status
        wrapper.openOrder = self._open_order
        wrapper.contractDetails = self._contract_details
        wrapper.error = self._error
        decoder: Any = self._client.decoder
        decoder.logger = _DecoderLog(self, decoder.logger)

    def _exec_details(self, req_id: int, contract: Contract, execution: Execution) -> None:
        received_ns = perf_counter_ns()
        is_replay = req_id >= 0  # −1 marks live ones
        for listener in self.executions:
            listener(contract, execution, is_replay, received_ns)
        self._originals["execDetails"](req_id, contract, execution)
        self._memory.trim_log(self.find_trade(execution.clientId, execution.orderId, execution.permId))
        self._memory.look()

    def _exec_details_end(self, req_id: int) -> None:
        for listener in self.replay_ends:
            listener(req_id)
        self._originals["execDetailsEnd"](req_id)

    def _commission_report(self, report: CommissionReport) -> None:
        for listener in self.commissions:
            listener(report)
        self._originals["commissionReport"](report)

    def _order_status(
        self,
        order_id: int,
        status: str,
        filled: float,
        remaining: float,
        average_price: float,
        perm_id: int,
        parent_id: int,
        last_price: float,
        client_id: int,
        why_held: str,
        market_cap_price: float = 0.0,
    ) -> None:
        raw = RawStatus(order_id, client_id, perm_id, status, filled, remaining, average_price, why_held)
        trade = self.find_trade(client_id, order_id, perm_id)
        for listener in self.statuses:
            listener(raw, trade)
        if trade is None:
            logger.debug("status of an order not seen yet order_id=%s client_id=%s", order_id, client_id)
            return
        self._originals["orderStatus"](
            order_id,
            status,
            filled,
            remaining,
            average_price,
            perm_id,
            parent_id,
            last_price,
            client_id,
            why_held,
            market_cap_price,
        )
        self._memory.trim_log(trade)

    def _open_order(self, order_id: int, contract: Contract, order: Order, state: IbOrderState) -> None:
        if not order.whatIf:
            for listener in self.open_orders:
                listener(contract, order, state)
        self._originals["openOrder"](order_id, contract, order, state)
        trade = self.find_trade(order.clientId, order_id, order.permId)
        if trade is not None and not order.whatIf:
            for name in _KEPT_STALE:
                setattr(trade.order, name, getattr(order, name))
        self._memory.look()

    def _contract_details(self, req_id: int, details: ContractDetails) -> None:
        magnifiers.note(details)
        self._originals["contractDetails"](req_id, details)

    def _error(self, req_id: int, code: int, text: str, reject_json: str) -> None:
        is_request = req_id in self._wrapper._futures
        trade = None if is_request or req_id == -1 else self._wrapper.trades.get((self._wrapper.clientId, req_id))
        if trade is not None:
            self._order_error(trade, req_id, code, text, reject_json)
            return
        self._originals["error"](req_id, code, text, reject_json)
        if is_request and req_id in self._wrapper._futures and codes.fails_request(code):
            # ib_async takes these for warnings and lets the request wait for ever
            self._wrapper_any._endReq(req_id, RequestError(req_id, code, text), success=False)

    def _order_error(self, trade: Trade, req_id: int, code: int, text: str, reject_json: str) -> None:
        """Note an order's error without touching its status, unless our own table says that IB refused it."""
        verdict = codes.order_verdict(code)
        at = trade.orderStatus
        never_accepted = at.status in (OrderStatus.PendingSubmit, "") and not trade.fills
        refused = verdict is codes.OrderVerdict.REJECTED and never_accepted
        if refused:
            at.status = OrderStatus.Cancelled  # so that Trade.isDone() agrees with us
        if reject_json:
            trade.advancedError = reject_json
        trade.log.append(TradeLogEntry(datetime.now(UTC), at.status, f"{code}: {text}", code))
        expected = (codes.OrderVerdict.NOTICE, codes.OrderVerdict.CANCELLED)
        log = logger.info if verdict in expected else logger.warning
        log("order message order_ref=%s code=%s text=%s", trade.order.orderRef, code, text)
        self._repeats.forget(trade)
        for listener in self.order_errors:
            listener(trade, code, text)
        trade.statusEvent.emit(trade)
        if refused:
            trade.cancelledEvent.emit(trade)
        self._wrapper.ib.errorEvent.emit(req_id, code, text, trade.contract)

    def find_trade(self, client_id: int, order_id: int, perm_id: int) -> Trade | None:
        """Return ib_async's trade for an order, if it knows it."""
        key: int | tuple[int, int] = perm_id if order_id <= 0 else (client_id, order_id)
        found: Trade | None = self._wrapper.trades.get(key)
        return found
