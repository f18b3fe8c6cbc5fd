"""Reading a session's configuration: from JSON or a file to checked parts, every mistake with its place and a reason.

Leaves: the parts (``session_parts``), what they must agree on (``session_rules``), what modules hold (loaders), the
rows in the database (``trading.session_services``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from strategies.exceptions import ConfigError
from trading.market.session_parts import Mode, RunMode, SessionConfig, SessionDataConfig
from trading.market.session_rules import problems_of

__all__ = [
    "BAD",
    "Mode",
    "RunMode",
    "SessionConfig",
    "SessionDataConfig",
    "load_session_config",
    "parse_session_config",
]

BAD = "bad_session_config"


def parse_session_config(raw: Any) -> SessionConfig:
    """Return the checked configuration.

    Raises: ConfigError (bad_session_config) whose ``errors`` maps places such as ``session_data_config.streams[1]`` to
    reasons.
    """
    if not isinstance(raw, Mapping):
        raise refused({"": "A session's configuration is a JSON object."})
    try:
        config = SessionConfig.model_validate(dict(raw))
    except ValidationError as error:
        raise refused(_reasons(error)) from error
    problems = problems_of(config)
    if problems:
        raise refused(problems)
    return config


def load_session_config(path: Path) -> SessionConfig:
    """Read a file.

    Raises: ConfigError (bad_session_config) for a file that cannot be read, JSON that is none, and as
    ``parse_session_config``.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise refused({"": f"{path} cannot be read: {error.strerror}."}) from error
    except (ValueError, RecursionError) as error:
        raise refused({"": f"{path.name} is no JSON: {error}"}) from error
    return parse_session_config(raw)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number that can be used.")


def refused(errors: Mapping[str, str]) -> ConfigError:
    """Return the error that names every place and reason."""
    listed = " ".join(f"{place}: {reason}" if place else reason for place, reason in errors.items())
    return ConfigError(f"The session's configuration cannot be used. {listed}", code=BAD, errors=dict(errors))


def place_of(loc: Sequence[str | int]) -> str:
    """Return a place as people write it.

    >>> place_of(("session_data_config", "streams", 1))
    'session_data_config.streams[1]'
    """
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _reasons(error: ValidationError) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in error.errors(include_url=False):
        loc = [part for part in item["loc"] if not (isinstance(part, str) and part.startswith(("literal[", "list[")))]
        place = place_of(loc)
        found[place] = f"{found[place]} {_sentence(item)}" if place in found else _sentence(item)
    return found


def _sentence(item: Any) -> str:
    kind, text = item["type"], str(item["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return "There is no such key here."
    if kind == "missing":
        return "It is missing."
    given = json.dumps(item.get("input"), default=str)
    shown = "" if kind == "value_error" or len(given) > 80 else f" (given: {given})"
    return f"{text.rstrip('.')}{shown}."
