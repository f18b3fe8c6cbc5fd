"""A strategy by itself over some bars, run in a way in which no trade hangs on another, and what came of it.

Owns: the huge wallet, one such run. Leaves: which bars (``cuts``), noting (``witness``), comparing (``likeness``).
Rule: the wallet is huge, the stake fixed, and no bound or gate is applied. Every run has a class that was loaded anew,
so that nothing is left of the run before. Nothing is closed at the end of the bars, so no exit is forced. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from portfolio.arctic.horizon import reading_until
from strategies.bar_series import moment_of
from trading.backtest.contracts import BacktestOrder, BacktestResult, BacktestSpec, ShouldStop, StrategyEntry
from trading.backtest.engine import run_backtest
from trading.backtest.outside import noting
from trading.backtest.runner import Runner
from trading.backtest.witness import Number, Place, Said, Witness
from trading.market.signal_rules import Gates

IMPERATIVE = "imperative"
WALLET, STAKE = Decimal(10) ** 12, Decimal(10) ** 6
Fresh = Callable[[StrategyEntry], Callable[..., Any]]
"""Gives the class of an entry anew."""


@dataclass(slots=True)
class Notes:
    """One run as it is compared."""

    said: list[Said]
    orders: list[BacktestOrder]
    numbers: dict[Place, dict[str, Number]]
    error: str
    calls: int
    result: BacktestResult
    opened: set[str]


class Rehearsal:
    """One strategy of a spec, by itself."""

    def __init__(
        self, spec: BacktestSpec, entry: StrategyEntry, fresh: Fresh, should_stop: ShouldStop | None = None
    ) -> None:
        gates = Gates(fraction=STAKE / WALLET, allow_short=spec.models.allow_short)
        self.entry = replace(entry, cash=WALLET, gates=gates)
        models = replace(spec.models, check_cash=False, participation=None)
        self.spec = replace(spec, strategies=[self.entry], models=models)
        self._fresh, self._should_stop = fresh, should_stop

    @property
    def is_imperative(self) -> bool:
        """Tell whether it lives on a clock: then what it orders is known of it, and neither signals nor numbers."""
        return self.entry.kind == IMPERATIVE

    def make(self) -> Any:
        """Return a new instance, of a class loaded anew."""
        return self._fresh(self.entry)(self.entry.name, dict(self.entry.config))

    def wanted(self) -> list[tuple[str, str]]:
        """Return what it subscribes to; an imperative one reads what it likes of the run's bars.

        Raises: ConfigError (bad_strategy).
        """
        if self.is_imperative:
            return []
        return list(Runner(replace(self.entry, make=self._fresh(self.entry))).subscriptions)

    def run(
        self,
        spec: BacktestSpec,
        moments: Iterable[int] = (),
        until_ns: int | None = None,
        shape: Callable[[Any], Any] | None = None,
    ) -> Notes:
        """Run over the bars of a spec and note what it says, and at ``moments`` what it reckons with.

        ``until_ns`` ends what it may read of ArcticDB. ``shape`` turns an instance into the one that is run.
        """
        opened: set[str] = set()
        with reading_until(None if until_ns is None else moment_of(until_ns)):
            with noting(opened):
                make = self._fresh(self.entry)
            witness = Witness(make, list(moments), opened, shape)
            entry = replace(self.entry, make=make if self.is_imperative else witness)
            with noting(opened) if self.is_imperative else nullcontext():  # else hook by hook
                result = run_backtest(replace(spec, strategies=[entry]), should_stop=self._should_stop)
        errors = result.strategies[entry.name].errors
        return Notes(
            said=witness.said,
            orders=result.orders,
            numbers=witness.numbers,
            error=errors[0] if errors else "",
            calls=witness.calls,
            result=result,
            opened=witness.opened,
        )
