"""The shape of a pre-trade check, and its refusal. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Protocol

from strategies.exceptions import OrderDeniedError
from trading.orders.drafts import OrderDraft
from trading.orders.facts import RiskFacts
from trading.orders.limits import Limit


class RiskCheck(Protocol):
    """One rule; ``name`` is the code of its refusal."""

    name: str

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Raise OrderDeniedError when the draft breaks the rule."""


def deny(name: str, text: str, *, limit: Any = None, value: Any = None, source: str = "") -> OrderDeniedError:
    """Return the refusal of a check; its fields hold limit, value and who set the limit."""
    held = limit.value if isinstance(limit, Limit) else limit
    source = limit.source if isinstance(limit, Limit) else source
    known = {"limit": written(held), "value": written(value), "source": source or None}
    said = "".join(f" {key}={part}" for key, part in known.items() if part is not None) if source else ""
    return OrderDeniedError(f"{text}{f' [{name}{said}]' if said else ''}", code=name, **known)


def written(value: Any) -> str | None:
    """Return a value as plain text without exponent or needless zeros; None stays None."""
    if not isinstance(value, Decimal):
        return None if value is None else str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
