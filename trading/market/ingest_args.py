"""What an ingest is asked for, as JSON that a job keeps: checked once, where it is asked, and again where it is done.

Owns: names, defaults and limits of the arguments. Leaves: doing (``ingest``). Pure but for looking whether a file is.
Rule: a page or a caller of the API names no path: files that they may choose lie in ``MATS_HOME/import`` and are named
by their plain name; a path comes from the command line alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from ib_async import Contract

from strategies.exceptions import ConfigError
from strategies.timeframes import Timeframe, parse_timeframe
from trading.market.calendars import group_of

IB, FILE, ACTIONS = "ib", "file", "actions"
SOURCES = (IB, FILE, ACTIONS)
MOST_SYMBOLS = 2_000
SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.^=& -]{0,31}", re.ASCII)
_PAIR = re.compile(r"([A-Z]{3})\.([A-Z]{3})", re.ASCII)
_PLAIN_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,119}", re.ASCII)
_WORD = re.compile(r"[A-Z0-9._-]{1,24}", re.ASCII)
SEC_TYPES = ("STK", "CASH", "IND", "FUT", "CONTFUT", "CMDTY", "CRYPTO")
WHATS = ("TRADES", "MIDPOINT", "BID", "ASK")
_KNOWN = {
    "source", "symbols", "timeframe", "start", "end", "use_rth", "sec_type", "exchange", "currency", "con_id", "what",
    "calendar", "file", "path", "symbol", "zone", "prices", "on_conflict", "splits", "dividends", "fill_gaps",
    "ask_again",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class IngestArgs:
    """Checked arguments of one ingest."""

    source: str
    symbols: tuple[str, ...] = ()
    timeframe: Timeframe | None = None
    start: datetime | None = None
    end: datetime | None = None
    use_rth: bool = True
    sec_type: str = "STK"
    exchange: str = "SMART"
    currency: str = "USD"
    con_id: int = 0
    what: str = "TRADES"
    calendar: str = "XNYS"
    path: Path | None = None
    symbol: str = ""
    zone: str = ""
    prices: str = ""
    on_conflict: str = "refuse"
    splits: Mapping[date, float] = field(default_factory=dict)
    dividends: Mapping[date, float] = field(default_factory=dict)
    fill_gaps: bool = False  # only what stored series lack; without symbols or timeframe of all of them
    ask_again: bool = False  # also where IB said before that it has nothing

    def contract(self, symbol: str) -> Contract:
        """Return IB's contract of a symbol; a pair is written ``EUR.USD``."""
        pair = _PAIR.fullmatch(symbol)
        if self.sec_type == "CASH":
            base, quote = pair.groups() if pair else (symbol, self.currency)
            return Contract(secType="CASH", symbol=base, currency=quote, exchange="IDEALPRO")
        return Contract(
            secType=self.sec_type, symbol=symbol, exchange=self.exchange, currency=self.currency, conId=self.con_id
        )


def read_args(args: Mapping[str, Any], home: Path) -> IngestArgs:
    """Check arguments.

    Raises: ConfigError (bad_arguments) with ``errors`` by name.
    """
    unknown = sorted(set(args) - _KNOWN)
    errors = dict.fromkeys(unknown, "is no argument of an ingest.")
    source = str(args.get("source", IB))
    if source not in SOURCES:
        errors["source"] = f"must be one of {', '.join(SOURCES)}."
    made: dict[str, Any] = {"source": source}
    readers = {IB: _read_ib, FILE: _read_file, ACTIONS: _read_actions}
    if source in readers:
        for name, read in readers[source](args, home).items():
            try:
                made[name] = read()
            except (ConfigError, ValueError, TypeError) as error:
                errors[name] = str(error)
    if errors:
        text = " ".join(f"{name}: {words}" for name, words in errors.items())
        raise ConfigError(f"The ingest cannot be done. {text}", code="bad_arguments", errors=errors)
    return IngestArgs(**made)


def _read_ib(args: Mapping[str, Any], _: Path) -> dict[str, Any]:
    if args.get("fill_gaps"):
        return _read_gaps(args)
    sec_type = str(args.get("sec_type", "STK")).upper()
    is_pair = sec_type == "CASH"
    return {
        "symbols": lambda: _symbols(args.get("symbols", ())),
        "timeframe": lambda: parse_timeframe(str(args.get("timeframe", ""))),
        "ask_again": lambda: _never(args, "ask_again", "belongs to fill_gaps."),
        "start": lambda: moment(args.get("start", "max"), is_end=False),
        "end": lambda: moment(args.get("end", "today"), is_end=True),
        "use_rth": lambda: bool(args.get("use_rth", not is_pair)),
        "sec_type": lambda: _one_of(sec_type, SEC_TYPES),
        "exchange": lambda: _word(args.get("exchange", "SMART")),
        "currency": lambda: _word(args.get("currency", "USD")),
        "con_id": lambda: int(args.get("con_id", 0)),
        "what": lambda: _one_of(str(args.get("what", "MIDPOINT" if is_pair else "TRADES")).upper(), WHATS),
        "calendar": lambda: _calendar(args.get("calendar", "none" if is_pair else "XNYS")),
    }


def _read_gaps(args: Mapping[str, Any]) -> dict[str, Any]:
    """Read what of the stored series is to be filled: contract, hours and prices are those that they have."""
    theirs = ("use_rth", "sec_type", "exchange", "currency", "con_id", "what", "calendar")
    return {
        "symbols": lambda: _symbols(args["symbols"]) if args.get("symbols") else (),
        "timeframe": lambda: parse_timeframe(str(args["timeframe"])) if args.get("timeframe") else None,
        "start": lambda: moment(args.get("start", "max"), is_end=False),
        "end": lambda: moment(args.get("end", "today"), is_end=True),
        "fill_gaps": lambda: True,
        "ask_again": lambda: bool(args.get("ask_again")),
        **{
            name: lambda name=name: _never(args, name, "is that of the stored series; leave it out.")
            for name in theirs
            if name in args
        },
    }


def _never(args: Mapping[str, Any], name: str, why: str) -> bool:
    if args.get(name):
        raise ValueError(why)
    return False


def _read_file(args: Mapping[str, Any], home: Path) -> dict[str, Any]:
    return {
        "path": lambda: _path(args, home),
        "symbol": lambda: _symbols([args["symbol"]])[0] if args.get("symbol") else "",
        "timeframe": lambda: parse_timeframe(str(args["timeframe"])) if args.get("timeframe") else None,
        "zone": lambda: str(args.get("zone", "")),
        "prices": lambda: _one_of(str(args.get("prices", "")), ("", "raw", "split-adjusted")),
        "calendar": lambda: _calendar(args.get("calendar", "XNYS")),
        "on_conflict": lambda: _one_of(str(args.get("on_conflict", "refuse")), ("refuse", "keep", "replace")),
        "fill_gaps": lambda: bool(args.get("fill_gaps")),
    }


def _read_actions(args: Mapping[str, Any], _: Path) -> dict[str, Any]:
    return {
        "symbols": lambda: _one_symbol(args.get("symbols", ())),
        "splits": lambda: {_day(day): _ratio(value) for day, value in dict(args.get("splits") or {}).items()},
        "dividends": lambda: {_day(day): _above(value) for day, value in dict(args.get("dividends") or {}).items()},
    }


def moment(value: object, *, is_end: bool) -> datetime | None:
    """Return a written date or moment in UTC; ``max`` and ``today`` are None, a date means all of it.

    Raises: ValueError in words for a person.
    """
    text = str(value).strip()
    if text in ("max", "today", ""):
        return None
    try:
        if len(text) <= len("2020-01-01"):
            return datetime.combine(date.fromisoformat(text), time.max if is_end else time.min, UTC)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is no date; write 2020-01-31.") from None
    if found.tzinfo is None:
        raise ValueError(f"{text} names no zone; write 2020-01-31T09:30-05:00, or only the date.")
    return found.astimezone(UTC)


def _symbols(value: Any) -> tuple[str, ...]:
    parts = value.replace(",", " ").split() if isinstance(value, str) else list(value)
    names = tuple(dict.fromkeys(str(part).strip().upper() for part in parts if str(part).strip()))
    wrong = [name for name in names if not SYMBOL.fullmatch(name)]
    if wrong:
        raise ValueError(f"«{wrong[0][:40]}» is no symbol.")
    if not 0 < len(names) <= MOST_SYMBOLS:
        raise ValueError(f"name 1 to {MOST_SYMBOLS} symbols.")
    return names


def _one_symbol(value: Any) -> tuple[str, ...]:
    names = _symbols(value)
    if len(names) != 1:
        raise ValueError("splits and dividends are of one symbol.")
    return names


def _path(args: Mapping[str, Any], home: Path) -> Path:
    if args.get("path"):
        found = Path(str(args["path"])).expanduser()
    else:
        name = str(args.get("file", ""))
        if not _PLAIN_FILE.fullmatch(name) or ".." in name:
            raise ValueError("name a file of the folder import in MATS_HOME.")
        found = import_folder(home) / name
    if not found.is_file():
        raise ValueError(f"there is no file {found.name}.")
    return found


def import_folder(home: Path) -> Path:
    """Return where files lie that pages may import."""
    return home / "import"


def importable(home: Path) -> list[str]:
    """Return the files that pages may import."""
    folder = import_folder(home)
    if not folder.is_dir():
        return []
    fits = (path.name for path in folder.iterdir() if path.is_file() and _PLAIN_FILE.fullmatch(path.name))
    return sorted(name for name in fits if name.lower().endswith((".csv", ".csv.gz", ".parquet", ".pq")))


def _one_of(value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"must be one of {', '.join(one for one in known if one)}.")
    return value


def _word(value: object) -> str:
    text = str(value).strip().upper()
    if not _WORD.fullmatch(text):
        raise ValueError(f"«{text[:40]}» cannot be.")
    return text


def _calendar(value: object) -> str:
    text = str(value).strip()
    if text.lower() in ("none", ""):
        return ""
    group_of(text)
    return text


def _day(value: object) -> date:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{str(value)[:40]} is no day; write 2020-08-31.") from None


def _ratio(value: object) -> float:
    """Return new shares for one old of ``4:1``, ``4`` or 4.0."""
    new, _, old = str(value).partition(":")
    try:
        found = float(new) / float(old or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{str(value)[:40]} is no ratio; write 4:1.") from None
    return _above(found)


def _above(value: Any) -> float:
    try:
        number = float(value)
    except (ValueError, TypeError):
        raise ValueError(f"{str(value)[:40]} is no number.") from None
    if not 0 < number < float("inf"):
        raise ValueError(f"{value} must be above 0.")
    return number
