"""Which limits there are, what holds where nobody set one, and which of several holds. Pure.

Rule: rows are set for the account, a strategy, an instrument or a strategy in an instrument. Of the rows that apply to
an order the tightest holds; the default holds only where no row applies. A limit knows its source, so that a refusal
says who set what broke it. Source: docs/risk.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

UNITS, MONEY, FRACTION, COUNT, SECONDS, SWITCH = "units", "base currency", "fraction", "count", "seconds", "0 or 1"
DEFAULT, ACCOUNT, STRATEGY, INSTRUMENT, PAIR = "default", "account", "strategy", "instrument", "strategy in instrument"


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One kind of limit. ``lower_is_tighter`` tells which of two values holds; ``scopes`` where it may be set."""

    name: str
    summary: str
    unit: str
    default: str | None = None
    lower_is_tighter: bool = True
    scopes: frozenset[str] = frozenset({ACCOUNT, STRATEGY, INSTRUMENT, PAIR})

    @property
    def default_value(self) -> Decimal | None:
        """Return what holds where nobody set a limit; None: nothing does."""
        return None if self.default is None else Decimal(self.default)


_EVERYWHERE = frozenset({ACCOUNT, STRATEGY, INSTRUMENT, PAIR})
_ACCOUNT = frozenset({ACCOUNT})
_OWNERS = frozenset({ACCOUNT, STRATEGY})
_LISTED = frozenset({INSTRUMENT, PAIR})
_SPECS = (
    LimitSpec("order_quantity", "Units of one order", UNITS, "500"),
    LimitSpec("order_notional", "Value of one order", MONEY, "50000"),
    LimitSpec("order_notional_fraction", "Value of one order by the account's equity", FRACTION, "0.05"),
    LimitSpec("price_collar_warn", "Distance of a price from the market that is told", FRACTION, "0.03"),
    LimitSpec("price_collar", "Distance of a price from the market that is denied", FRACTION, "0.10"),
    LimitSpec("price_collar_option", "The same for options", FRACTION, "0.20"),
    LimitSpec("quote_age_s", "Age of the price that a market order needs", SECONDS, "60"),
    LimitSpec("position_fraction", "Position in one contract by the account's equity", FRACTION, "0.10"),
    LimitSpec("gross_exposure", "Gross exposure by the account's equity", FRACTION, "1.5", scopes=_OWNERS),
    LimitSpec("net_exposure", "Net exposure by the account's equity", FRACTION, "1.0", scopes=_OWNERS),
    LimitSpec("daily_loss_strategy", "Loss of the day by the strategy's equity", FRACTION, "0.02", scopes=_OWNERS),
    LimitSpec("daily_loss_account", "Loss of the day by the account's equity", FRACTION, "0.03", scopes=_ACCOUNT),
    LimitSpec("orders_per_minute", "Orders of one owner within a minute", COUNT, "10", scopes=_OWNERS),
    LimitSpec("orders_per_second", "Orders of the account within a second", COUNT, "5", scopes=_ACCOUNT),
    LimitSpec("orders_per_day", "Orders of one strategy a day, then a person enables it", COUNT, "200", scopes=_OWNERS),
    LimitSpec("active_orders", "Working orders of one owner in a contract and side", COUNT, "18"),
    LimitSpec("duplicate_window_s", "Time within which the same order is a duplicate", SECONDS, "2"),
    LimitSpec("liquid_hours_only", "Open only in liquid hours", SWITCH, "1", lower_is_tighter=False),
    LimitSpec("reset_quiet_s", "No opening so long before a reset", SECONDS, "300", False, _ACCOUNT),
    LimitSpec("self_cross", "Hold orders that could trade with another strategy's", SWITCH, "1", False),
    LimitSpec("allow_short", "Sell short", SWITCH, "1"),
    LimitSpec("margin_cushion", "Excess liquidity by the account's equity", FRACTION, "0.05", False, _ACCOUNT),
    LimitSpec("what_if_margin", "Ask IB for the margin of every opening order", SWITCH, "0", False, _OWNERS),
    LimitSpec("restricted", "May not be opened", SWITCH, None, False, _LISTED),
    LimitSpec("allowed", "On the allow list: with one such row others may not be opened", SWITCH, None, False, _LISTED),
)
SPECS = {spec.name: spec for spec in _SPECS}


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit as somebody set it; empty ``strategy`` and ``con_id`` 0 mean all."""

    name: str
    value: Decimal
    strategy: str = ""
    con_id: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that holds, and who set it."""

    name: str
    value: Decimal
    source: str


def scope_of(strategy: str, con_id: int) -> str:
    """Name the scope of a row."""
    if strategy:
        return PAIR if con_id else STRATEGY
    return INSTRUMENT if con_id else ACCOUNT


def problem_with(name: str, value: Decimal, scope: str) -> str:
    """Return in one sentence why a limit cannot be set so; empty when it can."""
    spec = SPECS.get(name)
    if spec is None:
        return f"There is no limit {name!r}."
    if scope not in spec.scopes:
        return f"{name} is set for {', '.join(sorted(spec.scopes))}, not for {scope}."
    if not value.is_finite() or value < 0:
        return f"{name} is a number from 0 up."
    if spec.unit == SWITCH and value not in (0, 1):
        return f"{name} is 0 or 1."
    if spec.unit == FRACTION and value > 100:
        return f"{name} is a fraction: 0.05 means 5 %."
    if spec.unit == COUNT and value != value.to_integral_value():
        return f"{name} is a whole number."
    return ""


class LimitBook:
    """All rows, and which of them holds for an order. Immutable, so that any thread may read it."""

    def __init__(self, rows: Iterable[LimitRow] = ()) -> None:
        self._rows: dict[str, list[LimitRow]] = {}
        for row in rows:
            self._rows.setdefault(row.name, []).append(row)

    def find(self, name: str, strategy: str, con_id: int) -> Limit | None:
        """Return the limit that holds for a strategy in a contract; None when there is neither row nor default."""
        spec = SPECS[name]
        rows = [row for row in self._rows.get(name, ()) if _applies(row, strategy, con_id)]
        if not rows:
            return None if spec.default_value is None else Limit(name, spec.default_value, DEFAULT)
        choose = min if spec.lower_is_tighter else max
        held = choose(rows, key=lambda row: row.value)
        return Limit(name, held.value, scope_of(held.strategy, held.con_id))

    def allow_list(self, strategy: str) -> frozenset[int] | None:
        """Return the contracts that a strategy may open; None when nobody keeps a list."""
        rows = [row for row in self._rows.get("allowed", ()) if row.value and row.strategy in ("", strategy)]
        return frozenset(row.con_id for row in rows) if rows else None


def _applies(row: LimitRow, strategy: str, con_id: int) -> bool:
    return row.strategy in ("", strategy) and row.con_id in (0, con_id)
