"""Turn everything one connection hears about orders into queue messages, at once and exactly as it came.

Owns: execution, commission, order, status and error messages → ``QueueMessage``; the replay of the day's executions.
Leaves: duplicates (the ledger knows them by exec_id), states (``orders``), the queue (``engine``).
Rule: nothing is awaited between wire and sink, and what cannot be mapped is reported, never skipped silently.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ib_async import IB, Contract, Execution, ExecutionFilter, Order, Trade
from ib_async.objects import CommissionReport
from ib_async.order import OrderState as IbOrderState

from strategies.combos import COMBINATION
from strategies.crashpoints import reach
from strategies.events import ContractSnapshot, QueueMessage, StatusSnapshot, TradeSnapshot
from strategies.exceptions import TransientError
from strategies.sizing import ib_time
from trading.ib import mapping
from trading.ib.magnifiers import magnifier_said
from trading.ib.requests import ask
from trading.ib.tap import RawStatus, WireTap

logger = logging.getLogger(__name__)

Sink = Callable[[QueueMessage], None]
PENDING_SUBMIT = "PendingSubmit"  # ib_async's own word for «handed to the socket»
_ATTRIBUTE = "mats_capture"


class _Count:
    """Stands in for the list that ib_async collects an answer in."""

    def __init__(self) -> None:
        self.count = 0

    def append(self, _: object) -> None:
        """Count one."""
        self.count += 1


class Capture:
    """The listeners of one connection; survives its reconnects. Same loop only."""

    def __init__(
        self,
        ib: IB,
        sink: Sink,
        strategy: str = "",
        owner_of_ref: Callable[[str], str] | None = None,
        is_replay_ahead: Callable[[], bool] | None = None,
    ) -> None:
        """``is_replay_ahead`` tells that the sink's reader is behind with repeated executions."""
        self.strategy = strategy
        self.observers: list[Sink] = []
        self.unmapped = 0
        # Set by a drop copy's owner: order news of a client whose own connection brings them need no second mapping.
        self.is_heard_elsewhere: Callable[[int], bool] | None = None
        self._ib = ib
        self._sink = sink
        self._owner_of_ref = owner_of_ref
        self._contracts: dict[tuple[int, str, str], ContractSnapshot] = {}
        self._replays: set[int] = set()  # asked for and not ended, also when nobody waits for them any more
        tap = WireTap.of(ib)
        tap.executions.append(self._on_execution)
        tap.commissions.append(self._on_commission)
        tap.statuses.append(self._on_status)
        tap.open_orders.append(self._on_open_order)
        tap.order_errors.append(self._on_order_error)
        tap.replay_ends.append(self._replays.discard)
        if is_replay_ahead is not None:
            tap.reader.pause_while(lambda: self.is_replaying and is_replay_ahead())
        ib.disconnectedEvent += self._replays.clear
        ib.newOrderEvent += self._on_placed
        setattr(ib.wrapper, _ATTRIBUTE, self)

    @staticmethod
    def of(ib: IB) -> Capture | None:
        """Return the connection's capture, if it has one."""
        found: Capture | None = getattr(ib.wrapper, _ATTRIBUTE, None)
        return found

    @property
    def is_replaying(self) -> bool:
        """Tell whether IB still owes executions that were asked for, also when nobody waits for them any more."""
        return bool(self._replays)

    async def replay_executions(
        self,
        timeout: float = 30.0,  # noqa: ASYNC109
        client_id: int = 0,
        since: datetime | None = None,
    ) -> int:
        """Request the day's executions, of all clients or of one, all or ``since`` a moment; they pass as replays.

        Return how many IB sent. ``timeout`` limits the silence, not the answer: a day may have a million executions.
        Raises: TransientError when IB does not end its answer: then nothing is known to be complete.
        """
        if not self._ib.isConnected():
            raise TransientError("Not connected to IB.", code="not_connected")
        heard = _Count()
        request = asyncio.ensure_future(self._request(ExecutionFilter(clientId=client_id, time=ib_time(since)), heard))
        try:
            while True:
                before = heard.count
                try:
                    await ask(asyncio.shield(request), "the day's executions", timeout_s=timeout)
                except TransientError as error:
                    if error.code != "no_answer" or heard.count == before:
                        raise
                else:
                    return heard.count
        finally:
            request.cancel()

    async def _request(self, wanted: ExecutionFilter, heard: _Count) -> None:
        """Ask as ib_async does, but have it count the answers: a list of a day's fills may be a gigabyte."""
        client: Any = self._ib.client  # untyped methods
        req_id = client.getReqId()
        wrapper: Any = self._ib.wrapper
        answer = wrapper.startReq(req_id, container=heard)
        self._replays.add(req_id)
        client.reqExecutions(req_id, wanted)
        await answer

    def take_completed(self, trade: Trade) -> None:
        """Pass on how an order ended, from an answer to reqCompletedOrders."""
        try:
            filled = mapping.to_optional_decimal(trade.order.filledQuantity) or Decimal(0)
            snapshot = mapping.order_snapshot(
                self._contract(trade.contract), trade.order, status=trade.orderStatus.status, filled=filled
            )
        except (ValueError, ArithmeticError):
            self._report(f"completed order {trade.order.orderRef or trade.order.permId}")
            return
        status = StatusSnapshot(snapshot.status, filled, snapshot.remaining, None, datetime.now(UTC))
        self._put(
            {
                "type": "status_change",
                "strategy": self._owner(snapshot.order_ref),
                "trade": snapshot,
                "status": status,
            }
        )

    # from the tap

    def _on_execution(self, contract: Contract, execution: Execution, is_replay: bool, received_ns: int) -> None:
        reach("read")
        try:
            snapshot = mapping.execution_snapshot(
                self._contract(contract), execution, is_replay=is_replay, received_ns=received_ns
            )
        except (ValueError, ArithmeticError):
            self._report(f"execution {execution.execId}")
            return
        reach("decode")
        self._put(
            {"type": "fill", "strategy": self._owner(execution.orderRef), "trade": None, "fill": snapshot},
        )

    def _on_commission(self, report: CommissionReport) -> None:
        snapshot = mapping.commission_snapshot(report)
        if snapshot is None:
            logger.info("commission not known yet exec_id=%s", report.execId)
            return
        self._put({"type": "commission", "strategy": self.strategy, "trade": None, "commission": snapshot})

    def _on_status(self, raw: RawStatus, trade: Trade | None) -> None:
        if trade is None:
            return  # its openOrder follows and says the same
        if self.is_heard_elsewhere is not None and self.is_heard_elsewhere(raw.client_id):
            return
        try:
            filled, remaining = mapping.to_decimal(raw.filled), mapping.to_decimal(raw.remaining)
            snapshot = self._trade(trade, raw, filled, remaining)
        except (ValueError, ArithmeticError):
            self._report(f"status of order {trade.order.orderRef or raw.order_id}")
            return
        status = StatusSnapshot(
            status=raw.status,
            filled=filled,
            remaining=remaining,
            average_price=snapshot.average_price,
            at=datetime.now(UTC),
            text=raw.why_held,
        )
        self._put(
            {
                "type": "status_change",
                "strategy": self._owner(snapshot.order_ref),
                "trade": snapshot,
                "status": status,
            }
        )

    def _trade(self, trade: Trade, raw: RawStatus, filled: Decimal, remaining: Decimal) -> TradeSnapshot:
        if not trade.order.permId:
            trade.order.permId = raw.perm_id
        return mapping.order_snapshot(
            self._contract(trade.contract),
            trade.order,
            status=raw.status,
            filled=filled,
            remaining=remaining,
            average_price=mapping.positive_or_none(raw.average_price),
            message=raw.why_held,
        )

    def _on_open_order(self, contract: Contract, order: Order, state: IbOrderState) -> None:
        if self.is_heard_elsewhere is not None and self.is_heard_elsewhere(order.clientId):
            return
        try:
            snapshot = mapping.order_snapshot(
                self._contract(contract),
                order,
                status=state.status,
                filled=mapping.to_optional_decimal(order.filledQuantity) or Decimal(0),
                message=state.warningText,
            )
        except (ValueError, ArithmeticError):
            self._report(f"order {order.orderRef or order.orderId}")
            return
        self._put({"type": "order", "strategy": self._owner(order.orderRef), "trade": snapshot})

    def _on_placed(self, trade: Trade) -> None:
        """Say that an order was handed to the socket: the intent becomes «sent»."""
        try:
            snapshot = mapping.order_snapshot(self._contract(trade.contract), trade.order, status=PENDING_SUBMIT)
        except (ValueError, ArithmeticError):
            self._report(f"placed order {trade.order.orderRef}")
            return
        self._put({"type": "order", "strategy": self._owner(trade.order.orderRef), "trade": snapshot})

    def _on_order_error(self, trade: Trade, code: int, text: str) -> None:
        try:
            snapshot = mapping.trade_snapshot(trade)
        except (ValueError, ArithmeticError):
            self._report(f"error {code} of order {trade.order.orderRef}")
            return
        status = StatusSnapshot(
            status="",
            filled=snapshot.filled,
            remaining=snapshot.remaining,
            average_price=snapshot.average_price,
            at=datetime.now(UTC),
            code=code,
            text=text,
        )
        self._put(
            {
                "type": "status_change",
                "strategy": self._owner(snapshot.order_ref),
                "trade": snapshot,
                "status": status,
            }
        )

    # to the sink

    def _put(self, message: QueueMessage) -> None:
        reach("enqueue")
        self._sink(message)
        for observer in self.observers:
            observer(message)

    def _owner(self, order_ref: str) -> str:
        if self._owner_of_ref is not None and order_ref:
            return self._owner_of_ref(order_ref)
        return self.strategy

    def _contract(self, contract: Any) -> ContractSnapshot:
        if contract.secType == COMBINATION:
            return mapping.contract_snapshot(contract)  # it has no id of its own; its legs tell it apart
        # The multiplier is a part: what a caller left out of his order must not stand for what IB says of its fills.
        key = (contract.conId, contract.exchange, contract.multiplier)
        known = self._contracts.get(key)
        if known is None or (known.price_magnifier is None and magnifier_said(contract.conId) is not None):
            known = self._contracts[key] = mapping.contract_snapshot(contract)
        return known

    def _report(self, what: str) -> None:
        self.unmapped += 1
        logger.error("message could not be used strategy=%s what=%s reason=%r", self.strategy, what, sys.exception())
        for listener in WireTap.of(self._ib).decode_errors:
            listener(what)
