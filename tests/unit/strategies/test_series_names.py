"""The examples of names of series hold."""

from __future__ import annotations

import doctest

from strategies import series_names


def test_examples_hold() -> None:
    found = doctest.testmod(series_names)
    assert (found.failed, found.attempted) == (0, 4)
