"""A process of its own whose children hand parcels over, write them and are killed at every step; prints what is left.

Usage: python -m tests.unit.portfolio.parcel_storm. Run by test_parcels_crash in a home of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")

import arcticdb  # noqa: F401 - loaded once; nothing of it is opened before the forks
import django
import pandas as pd

django.setup()

from django.conf import settings  # noqa: E402 - after the setup
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402

from portfolio.models import ArcticParcel  # noqa: E402
from strategies import crashpoints  # noqa: E402

PARCELS, ROWS = 4, 3
START = pd.Timestamp("2026-03-02T14:30Z")


def work(symbol: str, point: str, nth: int) -> None:
    """Hand over what is not handed over yet and write it, dying on the way when a point is named."""
    crashpoints._target, crashpoints._remaining = point, nth
    from portfolio.arctic.parcels import drain_if_free, submit

    for number in range(ArcticParcel.objects.filter(symbol=symbol).count(), PARCELS):
        index = pd.date_range(START + pd.Timedelta(minutes=ROWS * number), periods=ROWS, freq="1min", name="ts")
        frame = pd.DataFrame({"close": [float(number)] * ROWS}, index=index.as_unit("ns"))
        submit("storm", symbol, frame, mode="append", source="storm")
    drain_if_free()


def run(symbol: str, point: str = "", nth: int = 1) -> bool:
    """Run a child; tell whether SIGKILL ended it."""
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            work(symbol, point, nth)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def main() -> None:
    """Kill at each point, the second time that it is passed, then finish."""
    report: dict[str, Any] = {}
    for point in crashpoints.PARCEL_POINTS:
        killed = run(point, point, 2)
        again = run(point, point, 1)
        done = not run(point)
        report[point] = {"killed": killed, "again": again, "done": done}
    from portfolio.arctic.client import get_ac

    for point in crashpoints.PARCEL_POINTS:
        data = get_ac().read("storm", point).data
        report[point]["minutes"] = [int((stamp - START).total_seconds() // 60) for stamp in data.index]
    report["left"] = sorted(path.name for path in (settings.MATS.mats_home / "parcels").glob("*.parquet"))
    report["states"] = sorted(set(ArcticParcel.objects.values_list("state", flat=True)))
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    main()
