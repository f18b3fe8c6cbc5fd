"""Typed readers for the environment: every setting is read once, here, and junk stops the start.

Owns: which variables exist, their types, defaults and meaning (``docs/settings.md`` is checked against this list).
Leaves: what Django does with them (``settings.py``).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environ

from strategies.exceptions import ConfigError

BASE_DIR = Path(__file__).resolve().parent.parent
PAPER_ACCOUNT_PREFIXES = ("D",)  # IB numbers paper accounts DU…/DF…; anything else is real money


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
    queue_size: int
    stop_timeout_s: float
    lease_ttl_s: float


def _read(name: str, reader: Callable[..., Any], default: Any) -> Any:
    try:
        return reader(name, default=default)
    except (ValueError, environ.ImproperlyConfigured) as error:
        raise ConfigError(f"{name} cannot be read: {error}", setting=name) from error


def _port(env: environ.Env, name: str, default: int) -> int:
    value = int(_read(name, env.int, default))
    if not 1 <= value <= 65535:
        raise ConfigError(f"{name}={value} is not a port; give a number from 1 to 65535.", setting=name)
    return value


def _positive(env: environ.Env, name: str, default: float) -> float:
    value = float(_read(name, env.float, default))
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name}={value} must be greater than 0.", setting=name)
    return value


def _switch(env: environ.Env, name: str, *, default: bool) -> bool:
    # environ's own bool reads every misspelling as false, which could switch a safety off without a word.
    value = env.str(name, default="true" if default else "false").strip().lower()
    if value in {"true", "1", "yes", "on"}:
        return True
    if value in {"false", "0", "no", "off"}:
        return False
    raise ConfigError(f"{name}={value!r} is neither true nor false.", setting=name)


def _path_list(env: environ.Env, name: str) -> tuple[Path, ...]:
    return tuple(Path(part).expanduser().resolve() for part in env.str(name, default="").split(os.pathsep) if part)


def read_environment() -> Environment:
    """Read and validate every variable.

    Raises: ConfigError naming the variable when its value cannot be used.
    """
    env = environ.Env()
    home = Path(env.str("MATS_HOME", default=str(BASE_DIR / "var"))).expanduser().resolve()
    return Environment(
        mats_home=home,
        database_url=env.str("DATABASE_URL", default=f"sqlite:///{home / 'mats.sqlite3'}"),
        arctic_uri=env.str("MATS_ARCTIC_URI", default=f"lmdb://{home / 'arctic'}?map_size=20GB"),
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
        max_clients=int(_positive(env, "MATS_MAX_CLIENTS", 32)),
        embedded_gateway=_switch(env, "MATS_EMBEDDED_GATEWAY", default=True),
        gateway_market=env.str("MATS_GATEWAY_MARKET", default="replay:sample"),
        gateway_speed=_positive(env, "MATS_GATEWAY_SPEED", 60.0),
        allow_live=_switch(env, "MATS_ALLOW_LIVE", default=False),
        live_account=env.str("MATS_LIVE_ACCOUNT", default=""),
        strategy_path=_path_list(env, "MATS_STRATEGY_PATH"),
        log_level=env.str("MATS_LOG_LEVEL", default="INFO").upper(),
        equity_interval_s=_positive(env, "MATS_EQUITY_INTERVAL_S", 10.0),
        queue_size=int(_positive(env, "MATS_QUEUE_SIZE", 10_000)),
        stop_timeout_s=_positive(env, "MATS_STOP_TIMEOUT_S", 300.0),
        lease_ttl_s=_positive(env, "MATS_LEASE_TTL_S", 10.0),
    )


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
