#!/usr/bin/env python
"""Run a MATS management command; `manage.py help` lists them."""

import os
import sys


def main() -> None:
    """Hand the command line to Django; say what to do when the environment is missing."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed here. Run `make env` first, then use `.venv/bin/python manage.py`.")
    from mats_site.startup import require_settings

    require_settings()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
