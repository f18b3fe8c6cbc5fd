"""Typed readers for the environment: every setting is read once, here, and junk stops the start.

Owns: which variables exist, their types, defaults and meaning (``docs/settings.md`` is checked against this list).
Leaves: what Django does with them (``settings.py``).
"""

from __future__ import annotations

import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import environ

from strategies.exceptions import ConfigError
from trading.alert_rules import Channel, QuietHours, parse_channels, parse_quiet
from trading.engine.resets import NIGHTLY_DEFAULT, OFF, WEEKLY_DEFAULT, ResetKind, ResetRule, parse_reset

BASE_DIR = Path(__file__).resolve().parent.parent
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DATABASES = ("sqlite://", "postgres://", "postgresql://")
ARCTIC_STORES = ("lmdb://", "s3://", "s3s://", "azure://", "mem://")
MOST_QUEUED = 1_000_000
FLEX_URL = "https://ndcdyn.interactivebrokers.com/AccountManagement/FlexWebService"
QUERY_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything MATS reads from the environment; names are the variables in lower case.

    Units: ``*_s`` seconds, ports 1–65535, paths absolute.
    """

    mats_home: Path
    database_url: str
    arctic_uri: str
    debug: bool
    allowed_hosts: tuple[str, ...]
    secret_key_file: Path
    web_host: str
    web_port: int
    https: bool
    ib_host: str
    ib_port: int
    ib_account: str
    ib_connect_timeout_s: float
    max_clients: int
    embedded_gateway: bool
    gateway_market: str
    gateway_speed: float
    allow_live: bool
    live_account: str
    strategy_path: tuple[Path, ...]
    log_level: str
    equity_interval_s: float
    fx_stale_limit_s: float
    queue_size: int
    stop_timeout_s: float
    lease_ttl_s: float
    deadman_after_s: float
    deadman_action: str
    deadman_client_id: int
    ingest_client_ids: tuple[int, ...]
    flex_token: str = field(repr=False)  # a secret: in no log, page or error
    flex_query: str
    flex_url: str
    resets: tuple[ResetRule, ...]  # nightly, weekly, restart: those that are not switched off
    link_patience_s: float
    messages_per_s: int
    market_lines: int
    strategies_per_connection: int
    margin_every_s: int
    notification_queue: int
    job_time_limit_s: float
    job_memory_mb: int
    alert_channels: tuple[Channel, ...]  # their addresses are secrets, which a channel never shows
    alert_quiet: QuietHours
    alert_repeat_s: float
    alerts_per_hour: int


def _resets(env: environ.Env, *, embedded: bool) -> tuple[ResetRule, ...]:
    # The paper gateway has no nights: an hour without orders there would only be a riddle.
    nightly, weekly = (OFF, OFF) if embedded else (NIGHTLY_DEFAULT, WEEKLY_DEFAULT)
    asked = (
        ("MATS_IB_RESET_WINDOW", nightly, ResetKind.NIGHTLY),
        ("MATS_IB_WEEKLY_RESET", weekly, ResetKind.WEEKLY),
        ("MATS_GATEWAY_RESTART_AT", OFF, ResetKind.RESTART),
    )
    read = (parse_reset(str(env.str(name, default=default)) or default, kind, name) for name, default, kind in asked)
    return tuple(rule for rule in read if rule is not None)


def _number(env: environ.Env, name: str, default: float) -> float:
    # environ's own reader drops what is no digit: «1x0» would pass as ten.
    text = str(env.str(name, default=str(default))).strip()
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{name}={text!r} is not a number.", setting=name) from error


def _whole(env: environ.Env, name: str, default: int, lowest: int, highest: int, what: str) -> int:
    value = _number(env, name, default)
    if not (lowest <= value <= highest and value == int(value)):
        raise ConfigError(
            f"{name}={value:g} is not {what}; give a whole number from {lowest} to {highest}.", setting=name
        )
    return int(value)


def _port(env: environ.Env, name: str, default: int) -> int:
    return _whole(env, name, default, 1, 65535, "a port")


def _positive(env: environ.Env, name: str, default: float) -> float:
    value = _number(env, name, default)
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name}={value:g} must be greater than 0 and finite.", setting=name)
    return value


def _log_level(env: environ.Env, name: str) -> str:
    level = str(env.str(name, default="INFO")).strip().upper()
    if level not in LOG_LEVELS:
        raise ConfigError(f"{name}={level} is no level; give one of {', '.join(LOG_LEVELS)}.", setting=name)
    return level


def _address(env: environ.Env, name: str, default: str, schemes: tuple[str, ...]) -> str:
    address = str(env.str(name, default=default)).strip()
    if not address.startswith(schemes):
        # The value is not repeated: such an address may carry a password.
        raise ConfigError(f"{name} must begin with one of {', '.join(schemes)}.", setting=name)
    return address


def _switch(env: environ.Env, name: str, *, default: bool) -> bool:
    # environ's own bool reads every misspelling as false, which could switch a safety off without a word.
    value = env.str(name, default="true" if default else "false").strip().lower()
    if value in {"true", "1", "yes", "on"}:
        return True
    if value in {"false", "0", "no", "off"}:
        return False
    raise ConfigError(f"{name}={value!r} is neither true nor false.", setting=name)


def _one_of(env: environ.Env, name: str, default: str, known: tuple[str, ...]) -> str:
    value = str(env.str(name, default=default)).strip().lower()
    if value not in known:
        raise ConfigError(f"{name}={value!r} is none of {', '.join(known)}.", setting=name)
    return value


def _flex_token(env: environ.Env, name: str) -> str:
    token = str(env.str(name, default="")).strip()
    if token and not (token.isascii() and token.isalnum()):
        # The value is not repeated: it is a secret.
        raise ConfigError(f"{name} is no token of IB's Flex Web Service: it has only digits and letters.", setting=name)
    return token


def _flex_query(env: environ.Env, name: str) -> str:
    query = str(env.str(name, default="")).strip()
    if query and not (query.isascii() and query.isdigit() and len(query) <= QUERY_DIGITS):
        # Not repeated either: the token may stand here by mistake.
        raise ConfigError(f"{name} is no query id; IB shows it beside the Flex query, digits only.", setting=name)
    return query


def _flex_url(env: environ.Env, name: str) -> str:
    address = str(env.str(name, default=FLEX_URL)).strip().rstrip("/")
    if not address.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise ConfigError(f"{name} must begin with https://: the token travels in it.", setting=name)
    return address


def _id_range(env: environ.Env, name: str, default: str) -> tuple[int, ...]:
    text = str(env.str(name, default=default)).strip()
    first, _, last = text.partition("-")
    is_range = all(part.isascii() and part.isdigit() and len(part) < 10 for part in (first, last or first))
    found = tuple(range(int(first), int(last or first) + 1)) if is_range else ()
    if not found or found[0] < 100 or len(found) > 100:
        raise ConfigError(
            f"{name}={text!r} is no range of client ids; give one such as {default}, from 100 on (0 to 99 are the "
            "engine's), of 100 ids at most.",
            setting=name,
        )
    return found


def _path_list(env: environ.Env, name: str) -> tuple[Path, ...]:
    return tuple(Path(part).expanduser().resolve() for part in env.str(name, default="").split(os.pathsep) if part)


def read_environment() -> Environment:
    """Read and validate every variable.

    Raises: ConfigError naming the variable when its value cannot be used.
    """
    env = environ.Env()
    home = Path(env.str("MATS_HOME", default=str(BASE_DIR / "var"))).expanduser().resolve()
    embedded = _switch(env, "MATS_EMBEDDED_GATEWAY", default=True)
    return Environment(
        mats_home=home,
        database_url=_address(env, "DATABASE_URL", f"sqlite:///{home / 'mats.sqlite3'}", DATABASES),
        arctic_uri=_address(env, "MATS_ARCTIC_URI", f"lmdb://{home / 'arctic'}?map_size=20GB", ARCTIC_STORES),
        debug=_switch(env, "MATS_DEBUG", default=False),
        allowed_hosts=tuple(env.list("MATS_ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])),
        secret_key_file=Path(env.str("MATS_SECRET_KEY_FILE", default=str(home / "secret_key"))),
        web_host=env.str("MATS_WEB_HOST", default="127.0.0.1"),
        web_port=_port(env, "MATS_WEB_PORT", 8000),
        https=_switch(env, "MATS_HTTPS", default=False),
        ib_host=env.str("MATS_IB_HOST", default="127.0.0.1"),
        ib_port=_port(env, "MATS_IB_PORT", 7497),
        ib_account=env.str("MATS_IB_ACCOUNT", default=""),
        ib_connect_timeout_s=_positive(env, "MATS_IB_CONNECT_TIMEOUT_S", 15.0),
        max_clients=_whole(env, "MATS_MAX_CLIENTS", 32, 3, 100, "a number of connections, two of them MATS' own"),
        embedded_gateway=embedded,
        gateway_market=env.str("MATS_GATEWAY_MARKET", default="replay:sample"),
        gateway_speed=_positive(env, "MATS_GATEWAY_SPEED", 60.0),
        allow_live=_switch(env, "MATS_ALLOW_LIVE", default=False),
        live_account=env.str("MATS_LIVE_ACCOUNT", default=""),
        strategy_path=_path_list(env, "MATS_STRATEGY_PATH"),
        log_level=_log_level(env, "MATS_LOG_LEVEL"),
        equity_interval_s=_positive(env, "MATS_EQUITY_INTERVAL_S", 10.0),
        fx_stale_limit_s=_positive(env, "MATS_FX_STALE_LIMIT_S", 86_400.0),
        queue_size=_whole(env, "MATS_QUEUE_SIZE", 10_000, 1, MOST_QUEUED, "a number of messages"),
        stop_timeout_s=_positive(env, "MATS_STOP_TIMEOUT_S", 300.0),
        lease_ttl_s=_positive(env, "MATS_LEASE_TTL_S", 10.0),
        deadman_after_s=_positive(env, "MATS_DEADMAN_AFTER_S", 30.0),
        deadman_action=_one_of(env, "MATS_DEADMAN_ACTION", "alert", ("alert", "cancel", "flatten")),
        deadman_client_id=_whole(env, "MATS_DEADMAN_CLIENT_ID", 900, 100, 2_000_000_000, "an id outside the engine's"),
        ingest_client_ids=_id_range(env, "MATS_INGEST_CLIENT_IDS", "800-809"),
        flex_token=_flex_token(env, "MATS_FLEX_TOKEN"),
        flex_query=_flex_query(env, "MATS_FLEX_QUERY"),
        flex_url=_flex_url(env, "MATS_FLEX_URL"),
        resets=_resets(env, embedded=embedded),
        link_patience_s=_positive(env, "MATS_LINK_PATIENCE_S", 900.0),
        messages_per_s=_whole(env, "MATS_IB_MESSAGES_PER_S", 45, 10, 1000, "a number of messages a second"),
        market_lines=_whole(env, "MATS_IB_MARKET_LINES", 100, 1, 10_000, "a number of market data lines"),
        strategies_per_connection=_whole(
            env, "MATS_STRATEGIES_PER_CONNECTION", 8, 1, 98, "a number of strategies that share a connection"
        ),
        margin_every_s=_whole(env, "MATS_MARGIN_EVERY_S", 300, 0, 86_400, "a number of seconds; 0 switches it off"),
        notification_queue=_whole(env, "MATS_NOTIFICATION_QUEUE", 1_000, 1, MOST_QUEUED, "a number of notifications"),
        job_time_limit_s=float(_whole(env, "MATS_JOB_TIME_LIMIT_S", 86_400, 1, 30 * 86_400, "seconds")),
        job_memory_mb=_whole(env, "MATS_JOB_MEMORY_MB", 4_096, 128, 1_048_576, "megabytes"),
        alert_channels=parse_channels(env.str("MATS_ALERT_URLS", default="").split(), "MATS_ALERT_URLS"),
        alert_quiet=parse_quiet(env.str("MATS_ALERT_QUIET", default=""), "MATS_ALERT_QUIET"),
        alert_repeat_s=_positive(env, "MATS_ALERT_REPEAT_H", 4.0) * 3600.0,
        alerts_per_hour=_whole(env, "MATS_ALERTS_PER_HOUR", 20, 1, 1000, "a number of messages an hour"),
    )


def prepare_home(home: Path) -> None:
    """Make the folders that every process writes to, and try whether it may.

    Raises: ConfigError naming the folder.
    """
    try:
        for folder in (home / "log", home / "static"):  # whitenoise complains when static is missing
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise ConfigError(
            f"{home} cannot be written ({error.strerror}). Set MATS_HOME to a folder that you may write.",
            setting="MATS_HOME",
        ) from error


def secret_key(path: Path) -> str:
    """Return the site's secret key, made on first use with mode 0600.

    Raises: ConfigError when the file can be neither read nor made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "w", encoding="ascii") as handle:
                handle.write(secrets.token_urlsafe(64))
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(
            f"The secret key file cannot be used: {error}. Set MATS_HOME to a writable folder."
        ) from error
    if len(key) < 50:
        raise ConfigError(f"The secret key in {path.name} is too short; delete the file and start again.")
    return key
