"""Log line format in UTC, because the host's zone means nothing to an exchange."""

import logging
import time


class UtcFormatter(logging.Formatter):
    """Formatter whose times are UTC."""

    converter = staticmethod(time.gmtime)
