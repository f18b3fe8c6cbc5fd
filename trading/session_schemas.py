"""Wire types of sessions and scanners; rows are those of ``session_queries``, already in wire form."""

from __future__ import annotations

from typing import Annotated, Any

from ninja import Schema
from pydantic import ConfigDict, Field

from trading.market.session_parts import ModulePath

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Ticker = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9. ]{0,11}$")]


class _Asked(Schema):
    """What a caller sends; unknown names are refused."""

    model_config = ConfigDict(extra="forbid")


class RunOut(Schema):
    """A session under way or past; ``metrics`` are its latest figures."""

    id: int
    name: str
    mode: str
    phase: str
    is_over: bool
    is_silent: bool
    day: str | None
    clock_at: str | None
    message: str
    error: str
    process: str
    started_at: str
    beat_at: str
    ended_at: str | None
    seconds: float
    metrics: dict[str, Any]


class SessionOut(Schema):
    """A session's configuration in short, and its run under way."""

    name: str
    mode: str
    active: bool
    symbols: list[str]
    streams: list[str]
    strategies: list[str]
    scanners: list[str]
    days: str
    updated_by: str
    updated_at: str
    run: RunOut | None


class SessionConfigOut(Schema):
    """A session's configuration as it was saved."""

    name: str
    active: bool
    config: dict[str, Any]


class SessionIn(_Asked):
    """A session to create or change."""

    name: Name
    config: dict[str, Any]
    active: bool = False


class SavedOut(Schema):
    """What was saved or deleted."""

    name: str


class PromoteIn(_Asked):
    """A symbol for a running session."""

    symbol: Ticker


class FoundOut(Schema):
    """A symbol that a scan found, with the scanner's figures."""

    symbol: str
    figures: dict[str, Any]


class ScanOut(Schema):
    """One scan."""

    id: int
    scanner: str
    session: int | None
    session_name: str
    at: str
    symbols: list[FoundOut]
    promoted: list[str]
    universe: int
    ms: float
    skipped: bool
    error: str


class ScannerOut(Schema):
    """A scanner that is run by hand or by schedule."""

    name: str
    module: str
    config: dict[str, Any]
    universe: int
    schedule: str
    enabled: bool
    problem: str
    last: ScanOut | None


class ScannerFileOut(Schema):
    """A scanner file; ``parameters`` is the JSON schema of its parameters."""

    module: str
    needs_ib: bool | None
    summary: str
    parameters: dict[str, Any]
    problem: str


class OptionsOut(Schema):
    """What can be scanned with: scanners by name, and the files that one can make scanners of."""

    scanners: list[ScannerOut]
    files: list[ScannerFileOut]


class ScanIn(_Asked):
    """Which scanner to run now."""

    scanner: Name


class ScannerIn(_Asked):
    """A scanner to create or change."""

    name: Name
    module: ModulePath
    config: dict[str, Any] = {}
    schedule: Annotated[str, Field(max_length=80)] = ""
    enabled: bool = True


class ScannerStatesOut(Schema):
    """The scanners of the sessions under way."""

    items: list[dict[str, Any]]
