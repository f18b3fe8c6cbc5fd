"""Everything that touches IB's API: connections, codes, mapping, capture. Camel case stops in this package."""

import logging

from trading.ib import patches

patches.apply()
# ib_async tells every failed try in three ERROR lines; ``connection`` tells it in one, with what to do.
logging.getLogger("ib_async.client").setLevel(logging.CRITICAL)
