"""A live day of a strategy out of ledger and store, replayed: for the command, the job and the page.

Owns: which lives, parameters, orders and bars the day had, the answer's shape, the alert.
Leaves: replaying (``shadow``), queries (``shadow_ledger``), reading bars (``shadow_bars``).
Rule: what is not known is said: code that was edited since, parameters of another revision, bars that are missing, a
start that nothing tells of. A day that differs alerts; one that is the same again ends that alert; one that cannot be
told leaves it, and says so in an alert of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from strategies.bar_series import moment_of, nanos_of
from strategies.exceptions import ConfigError, NotFoundError
from strategies.loader import LoadedStrategy, load_strategy_class
from strategies.models import Strategy
from strategies.reactive import ReactiveStrategy
from strategies.services import effective_params
from trading.alerts import clear_alert, raise_alert
from trading.backtest.check_wish import ShadowWish, parse_check
from trading.backtest.contracts import BacktestSpec, Progress, ShouldStop, StrategyEntry
from trading.backtest.shadow import DIFFERENT, SAME, Edit, Life, Row, ShadowDay, ShadowReport, edit_at, replay
from trading.backtest.shadow_bars import DayBars
from trading.backtest.shadow_ledger import lives_of, record_of
from trading.backtest.shadow_record import LiveOrder
from trading.models import Severity

ZONE = "America/New_York"
MOST_ROWS = 500
_MOST_TOLD = 10
_CASH = Decimal(1_000_000)  # nothing is bought with it


@dataclass(slots=True)
class _Facts:
    """What the day was made of."""

    strategy: str
    file: str
    loaded: LoadedStrategy
    day: ShadowDay
    versions: Mapping[str, str]
    notes: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def run_shadow_job(args: Mapping[str, Any], progress: Progress, should_stop: ShouldStop, job_id: int) -> dict[str, Any]:
    """Replay a day as a job, and alert when it differs."""
    answer = shadow(parse_check(ShadowWish, args), progress, should_stop)
    tell(answer)
    return answer


def shadow(wish: ShadowWish, progress: Progress, should_stop: ShouldStop) -> dict[str, Any]:
    """Replay a day; return the verdict and every order beside the other.

    Raises: NotFoundError (unknown_strategy, no_bars), ConfigError, LoadError.
    """
    progress(0.0, "Reading the day.")
    facts = _facts_of(wish)
    report = replay(facts.day, progress, should_stop)
    report.reasons[:0] = facts.reasons
    report.notes[:0] = facts.notes
    return _answer(wish, facts, report)


def tell(answer: Mapping[str, Any]) -> None:
    """Alert when a strategy traded otherwise than its replay, or when that could not be told; end what is over."""
    name, day = answer["strategy"], answer["day"]
    key, untold = f"shadow:{name}", f"shadow_untold:{name}"
    if answer["verdict"] not in (DIFFERENT, SAME):
        title = f"Whether {name} traded on {day} as its code says could not be told"
        raise_alert(untold, Severity.INFO, title, "\n".join(answer["reasons"]), strategy=name)
        return
    clear_alert(untold)
    if answer["verdict"] == SAME:
        clear_alert(key)
        return
    shown = answer["different"][:_MOST_TOLD]
    lines = [
        f"{row['at']} {row['symbol']} {row['what']}: live «{row['live']}», replayed «{row['replayed']}»"
        for row in shown
    ]
    more = answer["differences"] - len(lines)
    text = "\n".join([*lines, *([f"… and {more} more."] if more > 0 else []), *answer["notes"]])
    title = f"{name} traded otherwise on {day} than its code and parameters say"
    raise_alert(key, Severity.WARNING, title, text, strategy=name)


# -- the day


def _facts_of(wish: ShadowWish) -> _Facts:
    first, last = bounds_of(wish.day)
    row = Strategy.objects.filter(symbol=wish.strategy).first()
    if row is None:
        raise NotFoundError(f"There is no strategy {wish.strategy}.", code="unknown_strategy")
    history = _history(row, first, last)
    loaded = load_strategy_class(history[-1].filename)
    if not issubclass(loaded.cls, ReactiveStrategy):
        raise ConfigError(f"{wish.strategy} is no reactive strategy; only those are replayed.", code="not_reactive")
    edits = _edits(history, loaded)
    record = record_of(wish.strategy, first, last)
    lives, life_note = lives_of(wish.strategy, first, last)
    entry = StrategyEntry(wish.strategy, "reactive", loaded.cls, edits[0].config, _CASH, loaded.sha256)
    bars = DayBars(entry, loaded.cls)
    lived = _with_bars(bars, lives, edits)
    bars.look_behind(record.decided(nanos_of(first), nanos_of(last)), lived)
    day = ShadowDay(
        entry, [life for life, _ in lived], [spec for _, spec in lived], edits, record, nanos_of(first), nanos_of(last)
    )
    facts = _Facts(wish.strategy, history[-1].filename, loaded, day, bars.versions)
    facts.reasons += bars.reasons
    if not lives:
        facts.reasons.append("Nothing tells that it ran on that day: its starts are kept for a week.")
    facts.notes += [life_note] if life_note else []
    facts.notes += [*_provenance(day, loaded), *bars.notes]
    return facts


def _with_bars(bars: DayBars, lives: Sequence[Life], edits: Sequence[Edit]) -> list[tuple[Life, BacktestSpec]]:
    """The lives in which a bar ended: what ended before its first bar decided nothing."""
    specs = [(life, bars.spec_of(life, edit_at(edits, life.begin_ns).config)) for life in lives]
    return [(life, spec) for life, spec in specs if spec is not None]


def bounds_of(day: date) -> tuple[datetime, datetime]:
    """Return the first and last moment of a day in New York."""
    zone = ZoneInfo(ZONE)
    first = datetime.combine(day, time.min, zone)
    return first.astimezone(UTC), (datetime.combine(day + timedelta(days=1), time.min, zone)).astimezone(UTC)


def _history(row: Strategy, first: datetime, last: datetime) -> list[Strategy]:
    """The strategy as it stood when the day began, and after each edit in it; with ``edited_at``."""
    rows = list(row.history.filter(history_date__lt=last).order_by("history_date", "history_id"))
    before = [one for one in rows if one.history_date <= first][-1:]
    within = [one for one in rows if one.history_date > first]
    if not before and not within:
        raise NotFoundError(f"{row.symbol} was not there on that day.", code="unknown_strategy")
    found = []
    for one in [*before, *within]:
        instance: Any = one.instance
        instance.edited_at = one.history_date
        found.append(instance)
    return found


def _edits(history: Sequence[Any], loaded: LoadedStrategy) -> list[Edit]:
    """Parameters by revision: other edits change nothing for the strategy."""
    found: list[Edit] = []
    for one in history:
        if not found or found[-1].revision != one.params_revision:
            found.append(Edit(nanos_of(one.edited_at), one.params_revision, effective_params(one, loaded)))
    return found


def _provenance(day: ShadowDay, loaded: LoadedStrategy) -> list[str]:
    """What the day's orders say of the code and the parameters that decided them."""
    orders = day.record.decided(day.first_ns, day.last_ns)
    notes = []
    codes = {one.code_hash for one in orders if one.code_hash} - {loaded.sha256}
    if codes:
        shown = ", ".join(sorted(code[:12] for code in codes))
        notes.append(
            f"The code was changed: orders of the day were decided by {shown}, {loaded.path.name} is now "
            f"{loaded.sha256[:12]}. This replayed what it is now."
        )
    others = [one for one in orders if not _has_revision(day, one)]
    if others:
        notes.append(
            f"{len(others)} orders were decided with parameters of another revision than stood then, "
            f"{others[0].params_revision} instead of {edit_at(day.edits, others[0].placed_ns).revision} first."
        )
    return notes


def _has_revision(day: ShadowDay, order: LiveOrder) -> bool:
    """Tell whether an order names the revision that was in force; orders by hand name none."""
    return not order.code_hash or order.params_revision == edit_at(day.edits, order.placed_ns).revision


# -- the answer


def _answer(wish: ShadowWish, facts: _Facts, report: ShadowReport) -> dict[str, Any]:
    return {
        "verdict": report.verdict,
        "strategy": facts.strategy,
        "day": wish.day.isoformat(),
        "orders": len(report.rows),
        "differences": len(report.differences),
        "different": [_row(row) for row in report.differences[:MOST_ROWS]],
        "same": [_row(row) for row in report.rows if not row.kinds][:MOST_ROWS],
        "bars": report.bars,
        "signals": report.signals,
        "refused": dict(report.refused),
        "reasons": report.reasons,
        "notes": report.notes,
        "lives": [
            {"from": moment_of(one.begin_ns).isoformat(), "to": moment_of(one.end_ns).isoformat()}
            for one in facts.day.lives
        ],
        "files": [{"file": facts.file, "sha256": facts.loaded.sha256}],
        "data_versions": dict(facts.versions),
        "cancelled": report.cancelled,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "at": f"{moment_of(row.at_ns):%Y-%m-%d %H:%M:%S}",
        "symbol": row.symbol,
        "what": ", ".join(_WORDS[kind] for kind in row.kinds) or "the same",
        "live": row.live,
        "replayed": row.replayed,
        "ref": row.ref,
    }


_WORDS = {
    "missing": "missing: not placed live",
    "extra": "extra: placed live alone",
    "time": "other time",
    "side": "other side",
    "quantity": "other quantity",
    "type": "other type",
    "price": "other price",
    "exits": "other exits",
}
