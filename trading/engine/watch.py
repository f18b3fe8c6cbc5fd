"""The engine's eye on working orders: unanswered ones, UNKNOWN ones, exits whose position is gone.

Owns: when to look, and what is asked of the message thread, the session and the trade manager.
Leaves: the rules (``orders.settling``, ``orders.protection``), the writing (the message thread), the sending.
Rule: it looks once a second, and at once after fills while exits work. Nothing is concluded from silence: an unanswered
order becomes UNKNOWN, IB is asked, and after a while a person is told. Units: seconds.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from portfolio.models import Position
from strategies.exceptions import MatsError
from trading import alerts
from trading.engine.message_queue import MessageQueue
from trading.engine.reconciler import write_orders
from trading.models import Alert, Order, Severity
from trading.orders import settling
from trading.orders.protection import Exit, Family, Step, steps
from trading.orders.state import FINAL, WORKING, OrderState

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
ASK_EVERY_S = 10.0
ASKED_FOR = timedelta(minutes=5)  # afterwards the session's own timer asks often enough
TOLD_AFTER = timedelta(seconds=60)
_ALERT = "order_unknown:"
_WORKING = [str(state) for state in WORKING]


class Host(Protocol):
    """What the watch needs of the engine."""

    message_queue: MessageQueue
    session: Any
    trade_manager: Any

    @property
    def active_strategies(self) -> Mapping[str, Any]:
        """Return the running strategy instances by symbol."""


class OrderWatch:
    """Looks at working orders; on a thread of its own."""

    def __init__(self, host: Host) -> None:
        self.guards_something = False
        self._host = host
        self._asked_at = float("-inf")
        self._surplus: dict[str, float] = {}  # exits that IB should have cancelled itself, since when

    def look(self) -> None:
        """Look once."""
        now = datetime.now(UTC)
        silent = settling.unacknowledged(now)
        if silent:
            self._host.message_queue.submit(lambda: write_orders(settling.doubt(silent, now), now), "doubt")
        unknown = settling.unknown_orders()
        if silent or any(now - row.updated_at < ASKED_FOR for row in unknown):
            self._ask()
        self._tell(unknown, now)
        self._conclude()
        self._protect()

    def _ask(self) -> None:
        """Have the session ask IB for open and completed orders and executions, not more often than it answers."""
        if time.monotonic() - self._asked_at >= ASK_EVERY_S:
            self._asked_at = time.monotonic()
            self._host.session.request_check()

    def _tell(self, unknown: Sequence[Order], now: datetime) -> None:
        """Have each order that stays UNKNOWN stand as an alert, and none of those that are settled."""
        late = {f"{_ALERT}{row.order_ref}": row for row in unknown if now - row.updated_at >= TOLD_AFTER}
        standing = set(Alert.objects.filter(key__startswith=_ALERT, cleared_at=None).values_list("key", flat=True))
        if late.keys() != standing:
            self._host.message_queue.submit(lambda: _write_alerts(late, standing, now), "order_alerts")

    def _conclude(self) -> None:
        """Tell tickets whose order the books have ended: IB says nothing of what never reached it."""
        for strategy in self._host.active_strategies.values():
            broker, loop = strategy.broker, strategy._loop
            if broker is None or loop is None:
                continue
            doubtful: list[str] = []
            with suppress(RuntimeError):  # the loop changed them meanwhile; the next look comes in a second
                doubtful = [one.order_ref for one in broker.open_tickets() if one.state is OrderState.UNKNOWN]
            if not doubtful:
                continue
            ended = Order.objects.filter(order_ref__in=doubtful, state__in=[str(state) for state in FINAL])
            for ref, state, reason in ended.values_list("order_ref", "state", "reason"):
                with suppress(RuntimeError):  # its loop is closed
                    loop.call_soon_threadsafe(broker.conclude, ref, OrderState(state), reason)

    # -- exits

    def _protect(self) -> None:
        families = _families()
        self.guards_something = bool(families)
        wanted = [step for (owner, con_id), group in families.items() for step in steps(_held(owner, con_id), group)]
        now = time.monotonic()
        self._surplus = {one.order_ref: self._surplus.get(one.order_ref, now) for one in wanted if one.is_surplus}
        for step in wanted:
            if not step.is_surplus or now - self._surplus[step.order_ref] >= 2 * LOOK_EVERY_S:
                self._take(step)

    def _take(self, step: Step) -> None:
        manager = self._host.trade_manager
        try:
            if step.quantity is None:
                logger.warning("position gone, cancelling its exit order_ref=%s", step.order_ref)
                manager.cancel_order(step.order_ref)
            else:
                logger.warning("position smaller, shrinking its exit order_ref=%s to=%s", step.order_ref, step.quantity)
                manager.modify_order(step.order_ref, quantity=step.quantity)
        except MatsError as error:
            logger.warning("exit not adapted order_ref=%s reason=%s", step.order_ref, error.message)


def _held(owner: str, con_id: int) -> Decimal:
    rows = Position.objects.filter(owner=owner, instrument_id=con_id).values_list("quantity", flat=True)
    return sum(rows, Decimal(0))


def _families() -> dict[tuple[str, int], list[Family]]:
    """Return the families with working exits by owner and contract, oldest first."""
    exits: dict[str, list[Order]] = defaultdict(list)
    for row in Order.objects.filter(state__in=_WORKING).exclude(parent_ref="").order_by("id"):
        exits[row.parent_ref].append(row)
    if not exits:
        return {}
    parents = {row.order_ref: row for row in Order.objects.filter(order_ref__in=list(exits))}
    exited: dict[str, Decimal] = defaultdict(Decimal)
    for ref, filled in Order.objects.filter(parent_ref__in=list(exits)).values_list("parent_ref", "filled"):
        exited[ref] += filled
    found: dict[tuple[str, int], list[Family]] = defaultdict(list)
    for ref, children in exits.items():
        if ref in parents:
            parent = parents[ref]
            found[parent.owner, parent.con_id].append(_family(parent, _opposite(parent, children), exited[ref]))
    return found


def _opposite(parent: Order, children: Iterable[Order]) -> list[Order]:
    return [child for child in children if child.side != parent.side and child.con_id == parent.con_id]


def _family(parent: Order, children: Sequence[Order], exited: Decimal) -> Family:
    return Family(
        parent_ref=parent.order_ref,
        side=parent.side,
        entered=parent.filled,
        entry_works=OrderState(parent.state) in WORKING,
        exited=exited,
        exits=tuple(Exit(child.order_ref, child.quantity, child.filled) for child in children),
    )


def _write_alerts(late: Mapping[str, Order], standing: Iterable[str], now: datetime) -> None:
    for key, row in late.items():
        if key not in standing:
            title = f"Nobody knows where the order {row.side} {row.quantity.normalize():f} {row.symbol} stands"
            text = (
                f"{row.order_ref}: {row.reason} Look it up in TWS. If it is not there any more, settle it on the "
                "Execution page; a fill that comes all the same is booked."
            )
            alerts.raise_alert(key, Severity.WARNING, title, text, row.owner, now)
    for key in set(standing) - late.keys():
        alerts.clear_alert(key, now)
