"""A live day decided again: the same code over the recorded bars, its orders beside those of the ledger.

Owns: giving the strategy its bars as the engine did, what its signals would have ordered, pairing and comparing.
Leaves: reading ledger and bars (``shadow_day``), what a signal means (``signal_rules``), the order in which things are
done (``signal_executor``), which are the live ones.
Rule: nothing is filled here. A signal is decided on the positions and working orders that the ledger had at that
moment, so that one difference does not bring others. The n-th order that a bar leads to is held against the n-th that
was placed after it. What has no partner is missing or extra, or came at another time where both are alike. Pure.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from portfolio.ledger.money import plain
from strategies.bar_series import moment_of, nanos_of
from strategies.intervals import parse_interval
from strategies.reactive import LIVE, ReactiveStrategy, Signal, StrategyContext
from trading.backtest.contracts import BacktestSpec, Progress, ShouldStop, StrategyEntry
from trading.backtest.engine import run_backtest
from trading.backtest.likeness import last_line, written
from trading.backtest.shadow_desk import DAY_LATE_NS, EARLY_NS, LATE_NS, ShadowDesk, Wished
from trading.backtest.shadow_record import LiveOrder, Record
from trading.market.signal_executor import SignalExecutor
from trading.market.signal_rules import gates_of

SAME, DIFFERENT, INCONCLUSIVE = "same", "different", "inconclusive"
MISSING, EXTRA, TIME, SIDE, QUANTITY, TYPE, PRICE, EXITS = (
    "missing", "extra", "time", "side", "quantity", "type", "price", "exits",
)  # fmt: skip
_PRICES = ("limit", "stop", "trail", "trail_percent")
_ONE_TICK = Decimal("0.01")  # prices closer than that are rounded differently, not decided differently
_SIZED = Decimal("0.05")  # of a quantity that hangs on an equity which is on record once an hour
_SECOND_NS = 1_000_000_000
_SAME_ORDER_NS = 3600 * _SECOND_NS  # further apart, two orders that are alike are two decisions


@dataclass(frozen=True, slots=True)
class Life:
    """The strategy from a start of it to its end; ``end_ns`` is the last moment that it was told of."""

    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Edit:
    """Parameters from a moment on."""

    at_ns: int
    revision: int
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ShadowDay:
    """What is replayed. ``specs`` are the bars of each life, with its start and end.

    Orders in [``first_ns``, ``last_ns``] are compared.
    """

    entry: StrategyEntry
    lives: Sequence[Life]
    specs: Sequence[BacktestSpec]
    edits: Sequence[Edit]
    record: Record
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Row:
    """One order beside the other. ``kinds`` are what differs, none when they are the same."""

    at_ns: int
    symbol: str
    live: str
    replayed: str
    kinds: tuple[str, ...]
    ref: str = ""


@dataclass(slots=True)
class ShadowReport:
    """What came of a replay. ``reasons`` say why it is inconclusive; ``notes`` what else a reader must know."""

    rows: list[Row] = field(default_factory=list)
    bars: int = 0  # that the strategy was told of in the day
    signals: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cancelled: bool = False

    @property
    def differences(self) -> list[Row]:
        """Return the rows that differ."""
        return [row for row in self.rows if row.kinds]

    @property
    def verdict(self) -> str:
        """Return inconclusive, different or same: over bars that are not whole, differences prove nothing."""
        return INCONCLUSIVE if self.reasons else DIFFERENT if self.differences else SAME


def replay(day: ShadowDay, progress: Progress | None = None, should_stop: ShouldStop | None = None) -> ShadowReport:
    """Replay a day and compare.

    Raises: ConfigError when it cannot be run.
    """
    report = ShadowReport()
    desk = ShadowDesk(day.record, day.first_ns, day.last_ns)
    for life, spec in zip(day.lives, day.specs, strict=True):
        shape = _Shape(day, life, desk, report)
        entry = replace(day.entry, make=shape, config=edit_at(day.edits, life.begin_ns).config)
        result = run_backtest(replace(spec, strategies=[entry]), progress=progress, should_stop=should_stop)
        report.cancelled = report.cancelled or result.cancelled
        errors = result.strategies[entry.name].errors
        if errors:
            report.reasons.append(f"It cannot be replayed: {last_line(errors[0])}")
    if report.cancelled:
        report.reasons.append("It was stopped before the end of the day.")
    report.rows = _compare(day, desk)
    if desk.unsized:
        report.notes.append(
            f"{desk.unsized} quantities hang on an equity that is not on record; they were not compared."
        )
    return report


def edit_at(edits: Sequence[Edit], at_ns: int) -> Edit:
    """Return the parameters of a moment; before the first edit that one."""
    found = edits[0]
    for one in edits:
        if one.at_ns <= at_ns:
            found = one
    return found


class _Shape:
    """Makes the strategy, with the desk behind it."""

    def __init__(self, day: ShadowDay, life: Life, desk: ShadowDesk, report: ShadowReport) -> None:
        self._day, self._life, self._desk, self._report = day, life, desk, report

    def __call__(self, name: str, config: Mapping[str, Any]) -> Any:
        made = self._day.entry.make(name, config)
        return Shadow(made, self._day, self._desk, self._report, self._life) if _is_reactive(made) else made


def _is_reactive(made: Any) -> bool:
    return isinstance(made, ReactiveStrategy)


class Shadow(ReactiveStrategy):
    """Stands where the engine stands live: tells the strategy of bars and carries its signals to the desk."""

    def __init__(
        self, inner: ReactiveStrategy, day: ShadowDay, desk: ShadowDesk, report: ShadowReport, life: Life
    ) -> None:
        super().__init__(inner.name, inner.config)
        self._live_context: StrategyContext
        self._inner, self._day, self._desk, self._report = inner, day, desk, report
        self._edit = edit_at(day.edits, life.begin_ns)
        self._failed = 0
        self._executor = self._make_executor()

    def _make_executor(self) -> SignalExecutor:
        config = self._edit.config
        return SignalExecutor(
            self.name,
            self._desk,
            gates_of(config, allow_short=True, trading=config),
            lambda text, level: None,
            allow_repeats=bool(config.get("allow_repeats", False)),
        )

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        """Return the strategy's own."""
        return self._inner.get_subscriptions()

    def setup(self, context: StrategyContext) -> bool:
        """Set the strategy up as live."""
        self._live_context = replace(context, mode=LIVE)
        return self._inner.setup(self._live_context)

    def on_bars(self, symbol: str, interval: str) -> None:
        """Tell the strategy of a bar; an error is counted and the day goes on, as it does live."""
        now_ns = nanos_of(self._live_context.get_current_time())
        try:
            self._take_edits(now_ns)
            signals = self._inner.on_bars(symbol, interval)
        except Exception:  # noqa: BLE001 - the border of user code
            self._note_failure(now_ns, traceback.format_exc())
            return
        if not self._day.first_ns <= now_ns <= self._day.last_ns:
            return
        self._report.bars += 1
        if signals:
            self._carry_out(list(signals), interval, now_ns)

    def _carry_out(self, signals: list[Signal], interval: str, now_ns: int) -> None:
        self._report.signals += len(signals)
        self._desk.turn(now_ns, self._live_context, parse_interval(interval).is_intraday)
        before = Counter(self._executor.figures.refused)
        finish(self._executor.execute(interval, signals))
        self._report.refused += self._executor.figures.refused - before

    def _take_edits(self, now_ns: int) -> None:
        edit = edit_at(self._day.edits, now_ns)
        if edit is not self._edit:
            self._edit = edit
            self._inner.on_config_changed(dict(edit.config))
            self._executor = self._make_executor()

    def _note_failure(self, now_ns: int, text: str) -> None:
        self._failed += 1
        if self._failed == 1:
            self._report.notes.append(f"At the bar of {written(now_ns)} its code fails: {last_line(text)}")

    def teardown(self, context: StrategyContext) -> None:
        """Tidy up."""
        self._inner.teardown(self._live_context)


def finish(work: Any) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("The desk of a replay waits for nothing.")


# -- comparing


def _compare(day: ShadowDay, desk: ShadowDesk) -> list[Row]:
    """Rows of every pair, of what is missing and of what is extra, in order of time."""
    missing = [wish for wish in desk.wishes if wish.live is None]
    used = {wish.live.ref for wish in desk.wishes if wish.live is not None}
    extra = [one for one in day.record.decided(day.first_ns, day.last_ns) if one.ref not in used]
    rows = [_pair(wish, wish.live, day.record) for wish in desk.wishes if wish.live is not None]
    for wish in missing:
        twin = _twin(wish, extra)
        if twin is None:
            rows.append(Row(wish.at_ns, wish.symbol, "", wish.text, (MISSING,)))
        else:
            extra.remove(twin)
            rows.append(_pair(wish, twin, day.record))
    rows.extend(Row(one.placed_ns, one.symbol, text_of(one, day.record), "", (EXTRA,), one.ref) for one in extra)
    return sorted(rows, key=lambda row: (row.at_ns, row.symbol))


def _twin(wish: Wished, extra: Sequence[LiveOrder]) -> LiveOrder | None:
    """The nearest order without a partner that is alike but for its time."""
    alike = [
        one
        for one in extra
        if (one.symbol, one.side) == (wish.symbol, wish.side)
        and not _differs_in_quantity(wish, one)
        and abs(one.placed_ns - wish.at_ns) <= _SAME_ORDER_NS
    ]
    return min(alike, key=lambda one: abs(one.placed_ns - wish.at_ns), default=None)


def _pair(wish: Wished, live: LiveOrder, record: Record) -> Row:
    late_ns = LATE_NS if wish.is_intraday else DAY_LATE_NS
    kinds = [
        kind
        for kind, differs in (
            (TIME, not -EARLY_NS <= live.placed_ns - wish.at_ns <= late_ns),
            (SIDE, live.side != wish.side),
            (QUANTITY, _differs_in_quantity(wish, live)),
            (TYPE, (live.order_type, live.tif) != (wish.order_type, wish.tif)),
            (PRICE, any(_is_apart(getattr(live, name), getattr(wish, name)) for name in _PRICES)),
            (EXITS, _differ_in_exits(wish, record.exits_of(live.ref), record, live)),
        )
        if differs
    ]
    return Row(live.placed_ns, live.symbol, text_of(live, record), wish.text, tuple(kinds), live.ref)


def _differs_in_quantity(wish: Wished, live: LiveOrder) -> bool:
    if wish.quantity is None:
        return False
    if wish.is_sized_here:
        return abs(live.quantity - wish.quantity) > max(_SIZED * wish.quantity, Decimal(1))
    return live.quantity != wish.quantity


def _is_apart(one: Decimal | None, other: Decimal | None) -> bool:
    if one is None or other is None:
        return one is not other
    return abs(one - other) >= _ONE_TICK


def _differ_in_exits(wish: Wished, exits: Sequence[LiveOrder], record: Record, live: LiveOrder) -> bool:
    if live.state in ("denied", "rejected"):
        return False  # what was not entered has no exits
    stops = [one.stop for one in exits if one.stop is not None]
    limits = [one.limit for one in exits if one.limit is not None and one.stop is None]
    return _is_apart(stops[0] if stops else None, wish.stop_loss) or _is_apart(
        limits[0] if limits else None, wish.take_profit
    )


def text_of(order: LiveOrder, record: Record) -> str:
    """Return an order of the ledger in words."""
    prices = [("at", order.limit), ("stop", order.stop)]
    prices += [("exit", one.stop or one.limit) for one in record.exits_of(order.ref)]
    said = "".join(f" {name} {plain(price)}" for name, price in prices if price is not None)
    ended = f" ({order.state})" if order.state in ("denied", "rejected") else ""
    return f"{moment_of(order.placed_ns):%H:%M:%S} {order.side} {plain(order.quantity)} {order.order_type}{said}{ended}"
