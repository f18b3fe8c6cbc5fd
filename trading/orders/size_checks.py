"""Checks of one order's size and price: quantity, value, distance from the market. Pure.

Rule: a price that would trade at once far from the market is denied; one that waits on its own side of the market is
not, since it cannot fill there. Without a fresh price a market order is denied, and without any price every order.
"""

from __future__ import annotations

import logging
from decimal import Decimal

from strategies.exceptions import LedgerError
from trading.orders.checking import RiskCheck, deny
from trading.orders.drafts import OrderDraft
from trading.orders.facts import Desk, RiskFacts

logger = logging.getLogger(__name__)

_AT_MARKET = frozenset({"MKT", "MOC"})
_OPTIONS = frozenset({"OPT", "FOP"})


class OrderQuantity:
    """No order of more units than allowed."""

    name = "order_quantity"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse more units, unless they reduce."""
        limit = facts.desk.limit(self.name) if facts.desk else None
        if limit is not None and draft.quantity > limit.value and not facts.is_reduction(draft):
            text = f"{draft.quantity:f} {draft.contract.symbol} in one order; {limit.value:f} are allowed."
            raise deny(self.name, text, limit=limit, value=draft.quantity)


class PriceCollar:
    """No order that would trade far from the market; none at market without a fresh price."""

    name = "price_collar"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse what lies beyond the collar; tell what lies beyond the first one."""
        has_price = facts.desk is not None and facts.desk.quote is not None
        if facts.desk is None or ((draft.limit_price is None or not has_price) and facts.is_reduction(draft)):
            return
        self._fresh(draft, facts.desk)
        if draft.limit_price is None or facts.desk.quote is None:
            return
        away = _beyond(draft, _reference(draft, facts.desk.quote.price))
        limit = facts.desk.limit("price_collar_option" if draft.contract.sec_type in _OPTIONS else self.name)
        if limit is not None and away > limit.value:
            text = (
                f"{draft.side} {draft.contract.symbol} at {draft.limit_price:f} is {away:.1%} beyond the market "
                f"({facts.desk.quote.price:f}); {limit.value:.1%} is allowed."
            )
            raise deny(self.name, text, limit=limit, value=away.quantize(Decimal("0.0001")))
        warn = facts.desk.value_of("price_collar_warn")
        if warn is not None and away > warn:
            logger.warning(
                "%s %s at %s is %.1f %% beyond the market",
                draft.side,
                draft.contract.symbol,
                draft.limit_price,
                away * 100,
                extra={"strategy": draft.owner},
            )

    def _fresh(self, draft: OrderDraft, desk: Desk) -> None:
        symbol = draft.contract.symbol
        if desk.quote is None:
            raise deny(self.name, f"No price of {symbol} is known, so nothing can be checked against the market.")
        limit = desk.limit("quote_age_s")
        if draft.order_type in _AT_MARKET and limit is not None and desk.quote.age_s > limit.value:
            text = f"The latest price of {symbol} is {desk.quote.age_s:.0f} s old; a market order needs a fresh one."
            raise deny("quote_stale", text, limit=limit, value=round(desk.quote.age_s, 1))


def _reference(draft: OrderDraft, market: Decimal) -> Decimal:
    """Return the price that the limit is measured by: one that waits for a trigger beyond the market trades there."""
    if draft.stop_price is None or draft.stop_price <= 0:
        return market
    return max(market, draft.stop_price) if draft.side == "BUY" else min(market, draft.stop_price)


def _beyond(draft: OrderDraft, market: Decimal) -> Decimal:
    """Return by which fraction of the market's price the limit gives more than the market asks."""
    if draft.limit_price is None or market <= 0:
        return Decimal(0)
    over = draft.limit_price - market if draft.side == "BUY" else market - draft.limit_price
    return max(Decimal(0), over) / market


class OrderNotional:
    """No order worth more than allowed, in money and by the account's equity."""

    name = "order_notional"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse what is worth more, unless it reduces."""
        if facts.desk is None or facts.is_reduction(draft):
            return
        value = draft.quantity * abs(facts.desk.unit_value(draft.contract.con_id, _price_of(draft, facts.desk)))
        limit = facts.desk.limit(self.name)
        if limit is not None and value > limit.value:
            text = f"The order is worth {value:.2f}; {limit.value:.2f} is allowed."
            raise deny(self.name, text, limit=limit, value=value.quantize(Decimal("0.01")))
        share = facts.desk.limit("order_notional_fraction")
        if share is None:
            return
        equity = facts.desk.account.net_liquidation
        if value > share.value * equity:
            text = f"The order is worth {value:.2f}, {value / equity:.1%} of the account; {share.value:.1%} is allowed."
            raise deny("order_notional_fraction", text, limit=share, value=(value / equity).quantize(Decimal("0.0001")))


def _price_of(draft: OrderDraft, desk: Desk) -> Decimal:
    """Return the dearest price that the order may trade at, as far as it is known."""
    known = [price for price in (draft.limit_price, draft.stop_price) if price is not None]
    buys_no_dearer = draft.side == "BUY" and draft.order_type in ("LMT", "LOC") and draft.limit_price is not None
    if desk.quote is not None and not buys_no_dearer:
        known.append(desk.quote.price)
    if not known:
        raise LedgerError(f"No price of {draft.contract.symbol} is known.", code="price_unknown")
    return max(known)


CHECKS: tuple[RiskCheck, ...] = (OrderQuantity(), PriceCollar(), OrderNotional())
