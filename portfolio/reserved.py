"""Money that working orders will need, as an app above this one tells it.

Owns: the registration, and the sums by owner. Leaves: which orders work and what they may cost
(``trading.orders.reserves``).
Rule: what an order needs and nobody can tell makes its owner's free money unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO
from strategies.exceptions import LedgerError


@dataclass(frozen=True, slots=True)
class Need:
    """What one working order may still cost its owner, in ``currency``; None is unknown, and ``text`` says why."""

    owner: str
    currency: str
    amount: Decimal | None
    text: str = ""


Provider = Callable[[str], Iterable[Need]]
_providers: list[Provider] = []


def register_needs(provider: Provider) -> None:
    """Set how to learn the needs of an account's working orders: ``provider(account_id)``.

    Orders belong to an app above this one; it registers itself when it is ready.
    """
    _providers[:] = [provider]


class Reserved:
    """What the working orders of one account need, read once."""

    def __init__(self, account_id: str) -> None:
        self._needs: dict[str, list[Need]] = {}
        for provider in _providers:
            for need in provider(account_id):
                self._needs.setdefault(need.owner, []).append(need)

    def of(self, owner: str, currency: str, rates: Rates) -> Decimal:
        """Return what an owner's working orders need together.

        Raises: LedgerError code order_cost_unknown when one of them cannot be priced; fx_unknown without a rate.
        """
        total = ZERO
        for need in self._needs.get(owner, []):
            if need.amount is None:
                raise LedgerError(need.text, code="order_cost_unknown", owner=owner)
            total += rates.convert(need.amount, need.currency, currency)
        return total
