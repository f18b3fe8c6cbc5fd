"""Download by the settings: the door to ``download`` for the engine and the command line."""

from __future__ import annotations

import threading

from django.conf import settings

from portfolio.flex import store
from portfolio.flex.download import FlexAccess, download


def is_configured() -> bool:
    """Tell whether token and query are set."""
    return bool(settings.MATS.flex_token and settings.MATS.flex_query)


def fetch_statement(stop: threading.Event | None = None) -> str:
    """Download the statement, keep it and return its SHA-256; takes up to five minutes and touches no books.

    Raises: ConfigError when the download is not set up or refused; TransientError when it may succeed later.
    """
    mats = settings.MATS
    return store.keep(download(FlexAccess(mats.flex_token, mats.flex_query, mats.flex_url), stop))
