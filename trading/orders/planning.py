"""What a strategy could come to hold at a weight, and whether the account's limits bear its margin. Pure.

Owns: how much of each instrument, adding up IB's answers, the limits that a plan is measured by, its words.
Leaves: which instruments, prices and IB's answers (``engine.margin_plan``).
Rule: what nobody answered makes a plan unknown, and an unknown plan is never called good; a limit that the known part
alone breaks is broken. IB is asked for each instrument by itself, so that positions which offset each other count in
full. Units: base currency, fractions of 1; the margin of ``promised`` is what strategies that run may still come to
bind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from strategies.exceptions import OrderDeniedError
from trading.orders.checking import deny, written
from trading.orders.limits import Limit

ZERO = Decimal(0)
CENT, BASIS = Decimal("0.01"), Decimal("0.0001")
HELD, LAST_HELD, UNIVERSE, NOTHING = "holdings", "last held", "universe", "nothing"
INITIAL_MARGIN = "initial_margin"
IB = "IB"


@dataclass(frozen=True, slots=True)
class Line:
    """What IB said of one instrument. ``quantity``: the change, signed; ``value`` what it is worth, unsigned."""

    con_id: int
    symbol: str
    quantity: Decimal
    value: Decimal | None = None
    initial: Decimal | None = None
    maintenance: Decimal | None = None
    problem: str = ""

    @property
    def is_known(self) -> bool:
        """Tell whether IB said what it binds."""
        return self.initial is not None and self.maintenance is not None


@dataclass(frozen=True, slots=True)
class AccountMargin:
    """The account at one moment; None where it is not known."""

    net_liquidation: Decimal | None = None
    equity_with_loan: Decimal | None = None
    excess: Decimal | None = None
    initial: Decimal | None = None
    maintenance: Decimal | None = None
    gross: Decimal | None = None

    @property
    def cushion(self) -> Decimal | None:
        """Return excess liquidity as a fraction of net liquidation."""
        return _share(self.excess, self.net_liquidation)

    def told(self) -> dict[str, str | None]:
        """Return the figures as text."""
        figures = {
            "initial_margin": self.initial,
            "maintenance_margin": self.maintenance,
            "excess_liquidity": self.excess,
            "equity_with_loan": self.equity_with_loan,
            "net_liquidation": self.net_liquidation,
        }
        money = {name: None if value is None else written(value.quantize(CENT)) for name, value in figures.items()}
        gross = _share(self.gross, self.net_liquidation)
        return {**money, "cushion": _fraction(self.cushion), "gross_exposure": _fraction(gross)}


@dataclass(frozen=True, slots=True)
class Promised:
    """What strategies that were started may still come to bind and to hold."""

    initial: Decimal = ZERO
    maintenance: Decimal = ZERO
    gross: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Plan:
    """A strategy at a weight, with IB's answers. ``problems`` say why a part of it is not known."""

    symbol: str
    weight: Decimal
    basis: str
    currency: str
    lines: tuple[Line, ...] = ()
    before: AccountMargin = AccountMargin()
    problems: tuple[str, ...] = ()
    promised: Promised = Promised()
    gross_change: Decimal = ZERO

    @property
    def is_known(self) -> bool:
        """Tell whether IB answered for all of it."""
        return self.basis != NOTHING and not self.problems and all(line.is_known for line in self.lines)

    @property
    def adds(self) -> Promised:
        """Return what it adds by the answers there are; what would be freed counts as nothing."""
        known = [line for line in self.lines if line.initial is not None and line.maintenance is not None]
        initial = sum((max(ZERO, line.initial or ZERO) for line in known), ZERO)
        maintenance = sum((max(ZERO, line.maintenance or ZERO) for line in known), ZERO)
        return Promised(initial, maintenance, self.gross_change)

    @property
    def after(self) -> AccountMargin:
        """Return the account as it would be, what is promised to others included."""
        now, adds, others = self.before, self.adds, self.promised
        maintenance = adds.maintenance + others.maintenance
        return AccountMargin(
            net_liquidation=now.net_liquidation,
            equity_with_loan=now.equity_with_loan,
            excess=None if now.excess is None else now.excess - maintenance,
            initial=None if now.initial is None else now.initial + adds.initial + others.initial,
            maintenance=None if now.maintenance is None else now.maintenance + maintenance,
            gross=None if now.gross is None else now.gross + adds.gross + others.gross,
        )

    def refusal(self, limit_of: Callable[[str], Limit | None]) -> OrderDeniedError | None:
        """Return the first limit of the account that it would break, None when it breaks none that is known."""
        after, cushion = self.after, limit_of("margin_cushion")
        if after.initial is not None and after.equity_with_loan is not None and after.initial > after.equity_with_loan:
            text = (
                f"{self._words} would bring initial margin to {after.initial:.2f} {self.currency}, beyond the equity."
            )
            limit = written(after.equity_with_loan.quantize(CENT))
            return deny(INITIAL_MARGIN, text, limit=limit, value=after.initial.quantize(CENT), source=IB)
        left = after.cushion
        if cushion is not None and cushion.value and left is not None and left < cushion.value:
            text = f"{self._words} would leave a margin cushion of {left:.1%}; {cushion.value:.1%} is required."
            return deny("margin_cushion", text, limit=cushion, value=left.quantize(BASIS))
        gross, held = limit_of("gross_exposure"), _share(after.gross, after.net_liquidation)
        grows = self.adds.gross > 0
        if gross is not None and held is not None and grows and held > gross.value:
            text = (
                f"{self._words} would bring gross exposure to {held:.1%} of the account; {gross.value:.1%} is allowed."
            )
            return deny("gross_exposure", text, limit=gross, value=held.quantize(BASIS))
        return None

    @property
    def _words(self) -> str:
        return f"{self.symbol} at {self.weight:.1%}"

    @property
    def text(self) -> str:
        """Say in a sentence what it comes to."""
        if not self.is_known:
            reasons = [*self.problems, *(f"{line.symbol}: {line.problem}" for line in self.lines if line.problem)]
            why = " ".join(reasons) or "nothing is known that it would hold."
            return f"What {self._words} would bind was not found out: {why}"
        after, adds = self.after, self.adds
        said = f"{self._words} could bind {adds.initial:.2f} {self.currency} more initial margin"
        if after.cushion is not None:
            said += f"; the margin cushion would be {after.cushion:.1%}"
        return f"{said}."

    def told(self, refused: OrderDeniedError | None) -> dict[str, Any]:
        """Return it as JSON: decimals as text, unknown null."""
        return {
            "strategy": self.symbol,
            "weight": written(self.weight),
            "basis": self.basis,
            "currency": self.currency,
            "known": self.is_known,
            "text": self.text if refused is None else refused.message,
            "positions": [_line_told(line) for line in self.lines],
            "before": self.before.told(),
            "after": self.after.told(),
            "promised": {
                "initial_margin": written(self.promised.initial.quantize(CENT)),
                "maintenance_margin": written(self.promised.maintenance.quantize(CENT)),
            },
            "problems": list(self.problems),
            "refused": None
            if refused is None
            else {"name": refused.code, "message": refused.message, **refused.fields},
        }


def _line_told(line: Line) -> dict[str, Any]:
    return {
        "con_id": line.con_id,
        "symbol": line.symbol,
        "quantity": written(line.quantity),
        "value": None if line.value is None else written(line.value.quantize(CENT)),
        "initial_margin": None if line.initial is None else written(line.initial.quantize(CENT)),
        "maintenance_margin": None if line.maintenance is None else written(line.maintenance.quantize(CENT)),
        "problem": line.problem,
    }


def _share(value: Decimal | None, whole: Decimal | None) -> Decimal | None:
    return None if value is None or whole is None or whole <= 0 else value / whole


def _fraction(value: Decimal | None) -> str | None:
    return None if value is None else written(value.quantize(BASIS))


# quantities


def grown(
    held: Mapping[int, Decimal], worth: Mapping[int, Decimal], target: Decimal, growth: Decimal
) -> dict[int, Decimal]:
    """Return what a strategy would add to each position to come to ``target``, or to grow with its weight.

    ``worth`` is what one unit of each is worth, unsigned. Who holds more than its weight (futures) keeps that measure
    and grows by ``growth``, the new weight over the old.

    >>> grown({1: Decimal(100), 2: Decimal(-50)}, {1: Decimal(10), 2: Decimal(10)}, Decimal(3000), Decimal(1))
    {1: Decimal('100'), 2: Decimal('-50')}
    """
    gross = sum((abs(quantity) * worth[con_id] for con_id, quantity in held.items()), ZERO)
    if not gross:
        return {}
    more = max(target / gross, growth) - 1
    whole = {con_id: (quantity * more).to_integral_value(ROUND_DOWN) for con_id, quantity in held.items()}
    return {con_id: change for con_id, change in whole.items() if more > 0 and change}


def parted(target: Decimal, worth: Mapping[int, Decimal], sides: Mapping[int, int]) -> dict[int, Decimal]:
    """Return whole units of each instrument for equal parts of ``target``; what does not buy one unit is left out.

    >>> parted(Decimal(1000), {1: Decimal(90), 2: Decimal(600)}, {1: -1})
    {1: Decimal('-5')}
    """
    part = target / len(worth) if worth else ZERO
    units = {
        con_id: (part / each).to_integral_value(ROUND_DOWN) * sides.get(con_id, 1)
        for con_id, each in worth.items()
        if each > 0
    }
    return {con_id: quantity for con_id, quantity in units.items() if quantity}


def left_of(granted: Promised, begun: Decimal, now: Decimal | None) -> Promised:
    """Return what is left of a grant: it is used up as the strategy's gross value grows from ``begun`` by its gross.

    ``now`` None: not known, and all of it is left.
    """
    used = ZERO
    if now is not None and granted.gross > 0:
        used = min(Decimal(1), max(ZERO, (now - begun) / granted.gross))
    left = 1 - used
    return Promised(granted.initial * left, granted.maintenance * left, granted.gross * left)


def together(promises: Sequence[Promised]) -> Promised:
    """Add promises up."""
    return Promised(
        sum((one.initial for one in promises), ZERO),
        sum((one.maintenance for one in promises), ZERO),
        sum((one.gross for one in promises), ZERO),
    )
