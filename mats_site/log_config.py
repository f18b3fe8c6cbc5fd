"""Logging: readable lines on the console, one rotating file per process under ``MATS_HOME/log``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

LINE = "{asctime}.{msecs:03.0f}Z {levelname:<7} {name} {message}"


def logging_config(home: Path, level: str) -> dict[str, Any]:
    """Return the dictConfig; times are UTC."""
    folder = home / "log"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": "mats_site.log_format.UtcFormatter",
                "fmt": LINE,
                "style": "{",
                "datefmt": "%Y-%m-%dT%H:%M:%S",
            }
        },
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "line"},
            "file": {
                "class": "logging.handlers.RotatingFileHandler",
                # One file per process: rotation is not safe between processes.
                "filename": str(folder / f"{os.environ.get('MATS_PROCESS', 'mats')}.log"),
                "maxBytes": 10_000_000,
                "backupCount": 5,
                "formatter": "line",
                "delay": True,
            },
        },
        "root": {"handlers": ["console", "file"], "level": level},
        "loggers": {
            # ib_async logs every message of the wire at INFO; the engine records what matters itself.
            "ib_async": {"level": "WARNING"},
            "daphne": {"level": "WARNING"},
            "django.channels.server": {"level": "WARNING"},
        },
    }
