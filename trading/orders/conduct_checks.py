"""Checks of who may trade what and when, and of an owner's behaviour: states, lists, hours, losses, rates. Pure.

Rule: reductions pass states that reduce, locks, lists, hours, losses and the daily count; HALTED passes nothing new.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from strategies.exceptions import LedgerError
from trading.orders.checking import RiskCheck, deny
from trading.orders.drafts import OrderDraft
from trading.orders.facts import Desk, OpenOrder, RiskFacts
from trading.orders.limits import Limit
from trading.orders.trading_state import TradingState

DISCRETIONARY = "Discretionary"  # as strategies.models has it, which needs Django
MAX_ACTIVE_PER_SIDE = 18  # IB refuses the 21st of a contract, side and account; two are left for hands


class StateAllows:
    """The trading state of the account and of the strategy."""

    name = "trading_state"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse everything while HALTED, what does not reduce while REDUCING."""
        if facts.desk is None or facts.desk.standing.state is TradingState.ACTIVE:
            return
        standing = facts.desk.standing
        if standing.state is TradingState.REDUCING and facts.is_reduction(draft):
            return
        words = "takes no orders" if standing.state is TradingState.HALTED else "takes only orders that reduce"
        code = "halted" if standing.state is TradingState.HALTED else "reducing"
        why = f": {standing.state_reason}" if standing.state_reason else "."
        raise deny(code, f"{draft.owner} {words}{why}", value=standing.state)


class OverrideAllows:
    """An override cuts what a strategy may do with its positions."""

    name = "override"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse a change of position that the override does not leave whole, saying what it leaves."""
        override = facts.desk.standing.override if facts.desk else None
        if override is None:
            return
        allowed = override.allowed_change(facts.position, draft.signed_quantity)
        if allowed != draft.signed_quantity:
            text = (
                f"An override ({override.action}{f' {override.multiplier:f}' if override.multiplier != 1 else ''}) on "
                f"{draft.owner} leaves {allowed:f} of {draft.signed_quantity:f} {draft.contract.symbol}."
            )
            raise deny(self.name, text, limit=allowed, value=draft.signed_quantity, source="override")


class NotLocked:
    """A lock lets nobody open."""

    name = "locked"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse what does not reduce while a lock stands."""
        if facts.desk and facts.desk.standing.lock and not facts.is_reduction(draft):
            raise deny(self.name, f"Locked: {facts.desk.standing.lock}", source="lock")


class ContractIsAllowed:
    """The restricted list, and the allow list where somebody keeps one."""

    name = "restricted"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse to open what is restricted or not on the list."""
        if facts.desk is None:
            return
        limit, listed = facts.desk.limit(self.name), facts.desk.standing.allow_list
        if limit is not None and limit.value and not facts.is_reduction(draft):
            raise deny(self.name, f"{draft.contract.symbol} is on the restricted list.", limit=limit, value=1)
        if listed is not None and draft.contract.con_id not in listed and not facts.is_reduction(draft):
            raise deny("not_on_allow_list", f"{draft.contract.symbol} is not on the allow list.", source="allow list")


class TradingWindow:
    """Open only in liquid hours, and not shortly before a reset."""

    name = "trading_window"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse to open outside; hours that are not known refuse too."""
        desk = facts.desk
        if desk is None or facts.is_reduction(draft):
            return
        self._not_before_reset(desk)
        limit = desk.limit("liquid_hours_only")
        if limit is None or not limit.value:
            return
        if desk.hours is None:
            raise LedgerError(f"The liquid hours of {draft.contract.symbol} are not known.", code="hours_unknown")
        if not any(opens <= desk.now < closes for opens, closes in desk.hours):
            coming = min((opens for opens, _ in desk.hours if opens > desk.now), default=None)
            when = f"; they begin {coming:%Y-%m-%d %H:%M} UTC" if coming else ""
            text = f"{draft.contract.symbol} is outside its liquid hours{when}."
            raise deny(self.name, text, limit=limit, value=f"{desk.now:%H:%M} UTC")

    def _not_before_reset(self, desk: Desk) -> None:
        quiet = desk.limit("reset_quiet_s")
        if quiet is None or desk.reset_at is None:
            return
        left = desk.reset_at - desk.now
        if timedelta(0) <= left < timedelta(seconds=float(quiet.value)):
            text = f"A reset is scheduled at {desk.reset_at:%H:%M} UTC; nothing is opened shortly before it."
            raise deny("reset_near", text, limit=quiet, value=int(left.total_seconds()))


class NotADuplicate:
    """The same order is not sent again while its twin, seconds old, still works."""

    name = "duplicate_order"
    window_s = 2.0

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse a twin: same owner, contract, side, size, type and prices."""
        limit = facts.desk.limit("duplicate_window_s") if facts.desk else None
        window_s = self.window_s if limit is None else float(limit.value)
        for other in facts.own_orders(draft):
            if _terms(other) == _draft_terms(draft) and other.age_s < window_s:
                text = (
                    f"The same {draft.side} {draft.quantity:f} {draft.contract.symbol} was sent {other.age_s:.1f} s "
                    "ago and still works."
                )
                raise deny(self.name, text, limit=limit or window_s, value=round(other.age_s, 1))


def _terms(order: OpenOrder) -> tuple[object, ...]:
    return order.side, order.ordered or order.quantity, order.order_type, order.limit_price, order.stop_price


def _draft_terms(draft: OrderDraft) -> tuple[object, ...]:
    return draft.side, draft.quantity, draft.order_type, draft.limit_price, draft.stop_price


class ActiveOrders:
    """IB takes 20 working orders per contract and side of the account."""

    name = "too_many_working_orders"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse one more than MATS leaves room for."""
        limit = facts.desk.limit("active_orders") if facts.desk else None
        most = MAX_ACTIVE_PER_SIDE if limit is None else min(int(limit.value), MAX_ACTIVE_PER_SIDE)
        con_id = draft.contract.con_id
        count = sum(1 for other in facts.open_orders if other.con_id == con_id and other.side == draft.side)
        if count >= most:
            text = f"{count} {draft.side} orders in {draft.contract.symbol} work already."
            raise deny(self.name, text, limit=limit or most, value=count)


class SelfCross:
    """Two strategies do not trade with each other through the market."""

    name = "self_cross"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Hold an order that could trade with another owner's working one."""
        limit = facts.desk.limit(self.name) if facts.desk else None
        if limit is None or not limit.value:
            return
        for other in facts.open_orders:
            opposite = other.con_id == draft.contract.con_id and other.side != draft.side
            if opposite and other.owner not in ("", draft.owner) and _could_meet(draft, other):
                text = f"{other.owner} has a {other.side} order in {draft.contract.symbol} that this one would meet."
                raise deny(self.name, text, limit=limit, value=other.owner)


def _could_meet(draft: OrderDraft, other: OpenOrder) -> bool:
    buy, sell = (draft, other) if draft.side == "BUY" else (other, draft)
    return buy.limit_price is None or sell.limit_price is None or buy.limit_price >= sell.limit_price


class DailyTrades:
    """No more orders a day than the strategy's parameters allow."""

    name = "max_daily_trades"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse the order that would be one too many, unless it reduces."""
        limit = facts.limits.get(self.name)
        if limit is None or facts.orders_today < int(limit) or facts.is_reduction(draft):
            return
        text = f"{draft.owner} sent {facts.orders_today} orders today; its limit is {limit}."
        raise deny(self.name, text, limit=limit, value=facts.orders_today, source="parameters")


class RepeatThrottle:
    """A strategy that sent very many orders is held until a person has looked at it."""

    name = "orders_per_day"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse further orders but reductions, and have the strategy held."""
        limit = facts.desk.limit(self.name) if facts.desk else None
        if facts.desk is None or limit is None or draft.owner == DISCRETIONARY:
            return
        if facts.orders_today < limit.value or facts.is_reduction(draft):
            return
        text = f"{draft.owner} sent {facts.orders_today} orders; a person must enable it again."
        facts.desk.on_throttled(text)
        raise deny(self.name, text, limit=limit, value=facts.orders_today)


class DailyLoss:
    """No new risk after a strategy lost the allowed fraction of its equity in a day."""

    name = "max_daily_loss"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse new risk past the limit, and while the loss cannot be known."""
        limit = self._limit(draft, facts)
        if limit is None:
            return
        try:
            loss = -facts.realized_today
            if loss <= 0:
                return
            start = facts.equity + loss
        except LedgerError as error:
            if facts.is_reduction(draft):
                return
            raise deny(self.name, f"Today's loss cannot be known: {error.message}", limit=limit) from error
        allowed = limit.value * start
        if loss >= allowed and not facts.is_reduction(draft):
            text = f"{draft.owner} lost {loss:.2f} today; it may lose {allowed:.2f} ({limit.value:f} of {start:.2f})."
            raise deny(self.name, text, limit=Limit(self.name, allowed, limit.source), value=loss)

    def _limit(self, draft: OrderDraft, facts: RiskFacts) -> Limit | None:
        """Return the tighter of the strategy's own parameter and the limit that was set."""
        found = []
        own = facts.limits.get(self.name)
        if own is not None:
            found.append(Limit(self.name, Decimal(str(own)), "parameters"))
        held = facts.desk.limit("daily_loss_strategy") if facts.desk and draft.owner != DISCRETIONARY else None
        if held is not None:
            found.append(held)
        return min(found, key=lambda limit: limit.value, default=None)


class AccountLoss:
    """No new risk after the account lost the allowed fraction of its equity in a day."""

    name = "daily_loss_account"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse new risk past the limit; a day without a beginning on record has no loss yet."""
        limit = facts.desk.limit(self.name) if facts.desk else None
        if facts.desk is None or limit is None or facts.is_reduction(draft):
            return
        figures = facts.desk.account
        if figures.day_start is None or figures.day_start <= 0:
            return
        loss = figures.day_start - figures.net_liquidation
        if loss >= limit.value * figures.day_start:
            text = f"The account lost {loss:.2f} today; it may lose {limit.value * figures.day_start:.2f}."
            raise deny(self.name, text, limit=limit, value=(loss / figures.day_start).quantize(Decimal("0.0001")))


class OrderRate:
    """Not too many orders of an owner within a minute, nor of the account within a second."""

    name = "orders_per_minute"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Count the order; refuse what is too fast, unless it reduces."""
        if facts.desk is None:
            return
        if facts.is_reduction(draft):
            facts.desk.take_turn(None, None)
            return
        facts.desk.take_turn(facts.desk.limit(self.name), facts.desk.limit("orders_per_second"))


PERMISSION: tuple[RiskCheck, ...] = (
    StateAllows(),
    NotLocked(),
    ContractIsAllowed(),
    OverrideAllows(),
    TradingWindow(),
)
CONDUCT: tuple[RiskCheck, ...] = (
    NotADuplicate(),
    ActiveOrders(),
    SelfCross(),
    DailyTrades(),
    RepeatThrottle(),
    DailyLoss(),
    AccountLoss(),
)
RATE: tuple[RiskCheck, ...] = (OrderRate(),)
