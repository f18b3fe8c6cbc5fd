"""Everything that touches IB's API: connections, codes, mapping, capture. Camel case stops in this package."""

from trading.ib import patches

patches.apply()
