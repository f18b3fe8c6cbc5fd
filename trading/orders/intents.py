"""Write an order down before it is sent: a crash between the two can then be told, and nothing is sent twice.

Owns: Order rows in state INTENT and DENIED, with their events. Leaves: everything after the wire (``services``).
Rule: nothing that can wait stands between a commit and the wire; pages are told of an intent with what follows it.
One reference is sent at most once in its life. A reference is «in flight» from before its commit until some time
after its order was handed to the socket: a recovery running meanwhile must not take it for lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from django.db import transaction

from strategies.crashpoints import reach
from trading.engine import doorbell, events
from trading.engine.events import EventKind
from trading.models import Order, OrderEvent
from trading.orders.combos import legs_text
from trading.orders.denials import Denials
from trading.orders.drafts import OrderDraft
from trading.orders.inflight import in_flight
from trading.orders.refs import new_ref
from trading.orders.rows import insert_new, terms_of
from trading.orders.state import OrderState

EpochCheck = Callable[[], None]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class IntentWriter:
    """Commits intents. Thread-safe; every call is one transaction of its own on the calling thread's connection."""

    def __init__(self, epoch_check: EpochCheck, now: Callable[[], datetime] = _utc_now) -> None:
        self._epoch_check = epoch_check
        self._now = now
        self._denials = Denials()

    def commit(self, draft: OrderDraft) -> str:
        """Commit the intent; return its reference.

        Raises: StaleEpochError when another engine holds the lease: then nothing is written.
        """
        order_ref = new_ref(draft.owner)
        in_flight.add(order_ref)
        try:
            reach("intent_before")
            self._write(order_ref, draft, OrderState.INTENT, "")
        except BaseException:
            in_flight.settle(order_ref)
            raise
        reach("intent_after")
        return order_ref

    def commit_family(self, drafts: Sequence[OrderDraft], *, is_bracket: bool) -> list[str]:
        """Commit the intents of a family in one transaction; return their references in order.

        The children of a bracket remember their parent. Raises: as ``commit``; then none is written.
        """
        refs = [new_ref(draft.owner) for draft in drafts]
        for ref in refs:
            in_flight.add(ref)
        now = self._now()
        try:
            reach("intent_before")
            with transaction.atomic():
                self._epoch_check()
                for place, (ref, draft) in enumerate(zip(refs, drafts, strict=True)):
                    child = replace(draft, parent_ref=refs[0]) if is_bracket and place else draft
                    self._create(ref, child, OrderState.INTENT, "", now)
        except BaseException:
            for ref in refs:
                in_flight.settle(ref)
            raise
        reach("intent_after")
        return refs

    def deny(self, draft: OrderDraft, reason: str, code: str) -> tuple[str, bool]:
        """Record an order that MATS refused to send; return its reference, and whether it has a row of its own.

        The same refused again within a second is counted on the first one's row (``write_repeats``).
        """
        repeated = self._denials.repeated(draft, code, time.monotonic())
        if repeated:
            return repeated, False
        order_ref = new_ref(draft.owner)
        self._write(order_ref, draft, OrderState.DENIED, f"{code}: {reason}"[:400])
        self._denials.begin(draft, code, order_ref, time.monotonic())
        return order_ref, True

    def take_repeats(self) -> list[tuple[str, int]]:
        """Return the denied orders whose second is over with how often they were tried again, each once."""
        return self._denials.take_over(time.monotonic())

    def write_repeats(self, over: Sequence[tuple[str, int]]) -> None:
        """Put on record how often denials were repeated."""
        now = self._now()
        with transaction.atomic():
            self._epoch_check()
            for order_ref, count in over:
                row = Order.objects.get(order_ref=order_ref)
                told = f" [{count} more within a second]"
                row.reason, row.updated_at = f"{row.reason[: 400 - len(told)]}{told}", now
                row.save(update_fields=["reason", "updated_at"])
                self._report(row, now)
        doorbell.ring(doorbell.EVENTS)

    def give_up(self, order_ref: str, reason: str, code: str) -> None:
        """Turn an intent that will not be sent into a denied order."""
        now = self._now()
        with transaction.atomic():
            self._epoch_check()
            row = Order.objects.get(order_ref=order_ref)
            if row.state == OrderState.INTENT:
                row.state, row.reason, row.updated_at = OrderState.DENIED, f"{code}: {reason}"[:400], now
                row.save(update_fields=["state", "reason", "updated_at"])
                self._report(row, now)
        doorbell.ring(doorbell.EVENTS)
        in_flight.settle(order_ref)

    def mark_sent(self, order_ref: str, client_id: int, order_id: int) -> None:
        """Record that the order was handed to the socket, where no capture reports it."""
        now = self._now()
        with transaction.atomic():
            self._epoch_check()
            row = Order.objects.get(order_ref=order_ref)
            if row.state == OrderState.INTENT:
                row.state, row.sent_at, row.updated_at = OrderState.SENT, now, now
                row.client_id, row.order_id = client_id, order_id
                row.save(update_fields=["state", "sent_at", "updated_at", "client_id", "order_id"])
                self._report(row, now)
        in_flight.settle(order_ref)

    def _write(self, order_ref: str, draft: OrderDraft, state: OrderState, reason: str) -> None:
        now = self._now()
        with transaction.atomic():
            self._epoch_check()
            self._create(order_ref, draft, state, reason, now)
        if state is OrderState.DENIED:
            doorbell.ring(doorbell.EVENTS)

    def _create(self, order_ref: str, draft: OrderDraft, state: OrderState, reason: str, now: datetime) -> None:
        row = Order(
            order_ref=order_ref,
            owner=draft.owner,
            state=state,
            account_id=draft.account,
            con_id=draft.contract.con_id,
            symbol=draft.contract.symbol,
            sec_type=draft.contract.sec_type,
            currency=draft.contract.currency,
            side=draft.side,
            quantity=draft.quantity,
            order_type=draft.order_type,
            limit_price=draft.limit_price,
            stop_price=draft.stop_price,
            tif=draft.tif,
            trail_amount=draft.trail_amount,
            trail_percent=draft.trail_percent,
            limit_offset=draft.limit_offset,
            good_till=draft.good_till,
            good_after=draft.good_after,
            outside_rth=draft.outside_rth,
            algo=draft.algo,
            oca_group=draft.oca_group,
            parent_ref=draft.parent_ref,
            transmitted=draft.transmitted,
            legs=legs_text(draft.contract.legs),
            client_id=draft.client_id,
            code_hash=draft.code_hash,
            params_revision=draft.params_revision,
            reason=reason,
            created_at=now,
            updated_at=now,
        )
        insert_new(row, now)
        events.emit(EventKind.ORDER, events.order_payload(row), row.owner)

    @staticmethod
    def _report(row: Order, now: datetime) -> None:
        OrderEvent.objects.create(
            order=row,
            at=now,
            state=row.state,
            filled=Decimal(0),
            remaining=row.quantity,
            message=row.reason,
            **terms_of(row),
        )
        events.emit(EventKind.ORDER, events.order_payload(row), row.owner)
