"""A trading day compressed into minutes: how an engine's own memory grows by the hour, beside a bare client's.

A day here: 30,000 fills in orders of 100, spread evenly over 24 hours, a snapshot of equity every hour, one nightly
reset in which the gateway closes every line and comes back, and a strategy that follows ten contracts. An hour is as
long as its fills need; ticks come at the gateway's own rate, so that they are fewer than in a real hour, and so are the
snapshots.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.performance.bench_books import _slope, _wait_for_rows
from tests.performance.engine_run import Mats, prepared_mats, running_engine
from tests.performance.figures import commit
from tests.performance.floors import SPY, bare_growth_mb
from tests.support.gateway_process import GatewayProcess
from trading.orders.refs import new_ref

HOURS = 24
RESET_HOUR = 12
FILLS_PER_ORDER = 100
FOLLOWER = '''"""Follows ten contracts and trades nothing."""

from ib_async import Stock

from strategies.base import BaseStrategy

TICKERS = ("SPY", "QQQ", "DIA", "TLT", "IWM", "GLD", "AAPL", "MSFT", "IBM", "AMD")


class FollowerStrategy(BaseStrategy):
    """Does nothing but listen."""

    async def initialize_strategy(self) -> None:
        """Follow."""
        await self.on_reconnected()

    async def on_reconnected(self) -> None:
        """Follow: the reset has ended every subscription."""
        for ticker in TICKERS:
            self.ib.reqMktData(await self.qualify(Stock(ticker, "SMART", "USD")))

    async def run_strategy(self) -> None:
        """Wait until stopped."""
        await self.until_stopped()
'''


def hour_of_fills(gateway: GatewayProcess, mats: Mats, fills: int, so_far: int) -> int:
    """Send one hour's fills and wait until they are booked; return how many there are in all."""
    for _ in range(fills // FILLS_PER_ORDER):
        gateway.inject(SPY, FILLS_PER_ORDER, new_ref("BENCH"), 1)
        so_far += FILLS_PER_ORDER
        _wait_for_rows(mats, so_far)
    return so_far


def day(folder: Path, fills: int, hour_s: float) -> str:
    """Run a day; return its report."""
    hourly = max(fills // HOURS // FILLS_PER_ORDER, 1) * FILLS_PER_ORDER
    with GatewayProcess(server={"max_messages_per_s": 0}) as gateway:
        bare = bare_growth_mb(gateway, hourly * HOURS)
    series: list[tuple[int, float]] = []
    with GatewayProcess(server={"max_messages_per_s": 0}) as gateway:
        mats = prepared_mats(folder, gateway.port)
        mats.environment["MATS_EQUITY_INTERVAL_S"] = str(max(hour_s, 1.0))
        (folder / "strategies" / "bench_idle.py").write_text(FOLLOWER)
        with running_engine(mats):
            booked, begun = 0, time.monotonic()
            for hour in range(1, HOURS + 1):
                ends = time.monotonic() + hour_s
                if hour == RESET_HOUR:
                    gateway.fault("restart 2s")
                booked = hour_of_fills(gateway, mats, hourly, booked)
                time.sleep(max(0.0, ends - time.monotonic()))
                series.append((hour, mats.anon_mb("engine")))
                print(f"hour {hour}: {booked} fills, {series[-1][1]:.0f} MB", flush=True)
            spent = time.monotonic() - begun
    settled = series[HOURS // 4 :]
    return (
        f"Commit {commit()}. {booked:,} fills in {spent:,.0f} s. Memory {series[0][1]:.0f} MB after hour 1, "
        f"{series[-1][1]:.0f} MB after the last; slope from hour {settled[0][0]} on {_slope(settled):+.2f} MB an hour. "
        f"A bare client grew by {bare:.0f} MB over the same fills ({bare / HOURS:+.2f} MB an hour). "
        f"Load {os.getloadavg()[0]:.1f}."
    )


def main() -> None:
    """Parse the options, print the report."""
    parser = argparse.ArgumentParser(prog="day_soak", description=__doc__)
    parser.add_argument("--fills", type=int, default=30_000, help="fills of the day")
    parser.add_argument("--hour", type=float, default=10.0, help="seconds that an hour lasts at least")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mats_site.settings")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that every process is ended
    with tempfile.TemporaryDirectory(prefix="mats-day-") as name:
        print(day(Path(name) / "day", options.fills, options.hour))


if __name__ == "__main__":
    main()
