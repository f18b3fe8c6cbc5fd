"""Every change of session and scanner configurations: checked down to modules and parameters, audited, in the history.

Owns: the rows of SessionConfig and ScannerConfig. Leaves: running them (``engine.sessions``, ``run_session``), what a
configuration means (``market.session_config``).
Rule: what cannot run is refused when it is saved, each mistake with its place, rather than at the open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import transaction

from portfolio.cron import check_cron
from strategies import audit
from strategies.exceptions import ConfigError, ConflictError, LoadError, MatsError, NotFoundError
from strategies.loader import load_strategy_module
from strategies.params import validate_params
from strategies.reactive import ReactiveStrategy, StrategyConfig
from trading.market.scanners.base import check_config
from trading.market.scanners.loader import load_scanner
from trading.market.session_config import Mode, SessionConfig, parse_session_config, refused
from trading.market.session_parts import ScannerConfig as ScannerPart
from trading.market.session_status import OVER
from trading.session_models import ScannerConfig, SessionRun
from trading.session_models import SessionConfig as SessionRow

RUN_SESSION = "trading.run_session"
EXCHANGE_ZONE = ZoneInfo("America/New_York")
_DATA = "session_data_config"


# -- sessions


def checked_session(name: str, raw: Any) -> SessionConfig:
    """Return the configuration under its row's name, with every module loaded and every parameter looked at.

    Raises: ConfigError (bad_session_config) with ``errors`` by place.
    """
    given = dict(raw) if isinstance(raw, Mapping) else raw
    if isinstance(given, dict):
        said = given.setdefault("session_name", name)
        if said != name:
            raise refused({"session_name": f"The session is saved as {name}; leave this out, or write the same."})
    config = parse_session_config(given)
    problems = dict(_module_problems(config))
    if problems:
        raise refused(problems)
    return config


def save_session(
    name: str, raw: Any, *, active: bool = False, actor: str, source: str, pk: int | None = None
) -> SessionRow:
    """Create or change a session's configuration.

    Raises: ConfigError (bad_session_config, bad_session) with ``errors`` by place or field; NotFoundError.
    """
    with transaction.atomic():
        row: SessionRow = _row(SessionRow, pk, name)
        before = _facts(row)
        row.name, row.active, row.updated_by = name, active, actor[:150]
        row.config = dict(raw) if isinstance(raw, Mapping) else {"config": raw}
        _full_clean(row)
        config = checked_session(name, raw)
        if active and config.mode is not Mode.LIVE:
            message = "Only a live session is run by the engine; a backtest is run by manage.py run_session."
            raise ConfigError(message, code="bad_session", errors={"active": message})
        row.save()
        _record("session.saved", name, before, _facts(row), actor, source)
    return row


def set_session_active(name: str, active: bool, *, actor: str, source: str) -> SessionRow:
    """Have the engine run a session while the market is open, or not.

    Raises: NotFoundError; ConfigError when it cannot run.
    """
    row = find_session(name)
    return save_session(name, row.config, active=active, actor=actor, source=source, pk=row.pk)


def delete_session(name: str, *, actor: str, source: str) -> None:
    """Delete a configuration; its past runs stay.

    Raises: NotFoundError; ConflictError (session_runs) while it runs.
    """
    with transaction.atomic():
        row = find_session(name)
        if SessionRun.objects.filter(name=name).exclude(phase__in=[str(phase) for phase in OVER]).exists():
            raise ConflictError(f"Session {name} runs; stop it first.", code="session_runs")
        before = _facts(row)
        row.delete()
        _record("session.deleted", name, before, None, actor, source)


def find_session(name: str) -> SessionRow:
    """Return a configuration by name.

    Raises: NotFoundError (unknown_session).
    """
    row = SessionRow.objects.filter(name=name).first()
    if row is None:
        raise NotFoundError(f"There is no session {name!r}.", code="unknown_session")
    return row


def _module_problems(config: SessionConfig) -> Iterator[tuple[str, str]]:
    for place, entry in enumerate(config.session_data_config.strategies):
        if entry.enabled:
            yield from _strategy_problems(f"{_DATA}.strategies[{place}]", entry)
    for place, scanner in enumerate(config.session_data_config.scanners):
        if scanner.enabled:
            yield from _scanner_problems(f"{_DATA}.scanners[{place}]", scanner, config.mode)


def _strategy_problems(here: str, entry: StrategyConfig) -> Iterator[tuple[str, str]]:
    try:
        loaded = load_strategy_module(entry.module)
        if not issubclass(loaded.cls, ReactiveStrategy):
            yield f"{here}.module", "It is an imperative strategy; a session runs those derived from ReactiveStrategy."
        elif loaded.params_model is not None:
            validate_params(loaded, entry.config)
    except LoadError as error:
        yield f"{here}.module", error.message
    except ConfigError as error:
        yield from _config_problems(here, error)


def _scanner_problems(here: str, part: ScannerPart, mode: Mode) -> Iterator[tuple[str, str]]:
    try:
        cls = load_scanner(part.module).cls
        check_config(cls, part.config)
        if cls.needs_ib and mode is not Mode.LIVE:
            yield f"{here}.module", "It asks IB, which has no past: use it in a live session."
    except LoadError as error:
        yield f"{here}.module", error.message
    except ConfigError as error:
        yield from _config_problems(here, error)


def _config_problems(here: str, error: MatsError) -> Iterator[tuple[str, str]]:
    for name, reason in error.fields.get("errors", {"": error.message}).items():
        yield f"{here}.config.{name}" if name else f"{here}.config", str(reason)


# -- scanners outside of sessions


def save_scanner(
    name: str,
    module: str,
    config: Any,
    *,
    schedule: str = "",
    enabled: bool = True,
    actor: str,
    source: str,
    pk: int | None = None,
) -> ScannerConfig:
    """Create or change a scanner that is run by hand or by schedule.

    Raises: ConfigError (bad_scanner, bad_scanner_config) with ``errors`` by field; LoadError; NotFoundError.
    """
    with transaction.atomic():
        row: ScannerConfig = _row(ScannerConfig, pk, name)
        before = _facts(row)
        if not isinstance(config, Mapping):
            message = 'Write an object of parameters, such as {"universe": ["SPY"]}.'
            raise ConfigError(message, code="bad_scanner", errors={"config": message})
        row.name, row.module, row.config, row.enabled = name, module, dict(config), enabled
        row.schedule = _checked_schedule(schedule)
        _full_clean(row)
        check_config(_scanner_class(module), config)
        row.save()
        _record("scanner.saved", name, before, _facts(row), actor, source)
    return row


def delete_scanner(name: str, *, actor: str, source: str) -> None:
    """Delete a scanner; its past scans stay.

    Raises: NotFoundError.
    """
    with transaction.atomic():
        row = find_scanner(name)
        before = _facts(row)
        row.delete()
        _record("scanner.deleted", name, before, None, actor, source)


def find_scanner(name: str) -> ScannerConfig:
    """Return a scanner by name.

    Raises: NotFoundError (unknown_scanner).
    """
    row = ScannerConfig.objects.filter(name=name).first()
    if row is None:
        raise NotFoundError(f"There is no scanner {name!r}.", code="unknown_scanner")
    return row


def _scanner_class(module: str) -> Any:
    try:
        return load_scanner(module).cls
    except LoadError as error:
        raise ConfigError(error.message, code="bad_scanner", errors={"module": error.message}) from error


def _checked_schedule(text: str) -> str:
    try:
        return check_cron(text) if text.strip() else ""
    except ConfigError as error:
        message = error.message.replace("in UTC", "in exchange time")
        raise ConfigError(message, code="bad_scanner", errors={"schedule": message}) from error


# -- rows


def _row(model: Any, pk: int | None, name: str) -> Any:
    rows = model.objects.select_for_update()
    if pk is None:
        return rows.filter(name=name).first() or model()
    row = rows.filter(pk=pk).first()
    if row is None:
        raise NotFoundError(f"There is no row {pk} any more.", code="unknown_row")
    return row


def _facts(row: Any) -> dict[str, Any] | None:
    if row.pk is None:
        return None
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def _full_clean(row: Any) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        errors = {name: " ".join(texts) for name, texts in error.message_dict.items()}
        listed = " ".join(text if name == NON_FIELD_ERRORS else f"{name}: {text}" for name, text in errors.items())
        raise ConfigError(f"It cannot be saved. {listed}", code="bad_session", errors=errors) from error


def _record(action: str, subject: str, before: Any, after: Any, actor: str, source: str) -> None:
    audit.record(action, subject, actor=actor, source=source, before=before, after=after)
