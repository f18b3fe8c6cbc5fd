"""The first step of every process: read the settings, or end with one line that says what to change.

Owns: how a start that cannot work looks to the operator. Leaves: what is wrong with a setting (``env.py``).
"""

from __future__ import annotations

import sys

EXIT_BAD_SETTINGS = 2  # the supervisor takes it for «starting again cannot help»


def require_settings() -> None:
    """Load the settings.

    Raises: SystemExit (2), after one line on stderr, when they cannot be used.
    """
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    try:
        _ = settings.INSTALLED_APPS
    except ImproperlyConfigured as error:
        sys.stderr.write(f"MATS cannot start: {error}\n")
        raise SystemExit(EXIT_BAD_SETTINGS) from None
