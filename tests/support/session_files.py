"""Strategy and scanner files that tests of sessions write into a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

GATES: dict[str, Callable[[Any, str, str], None]] = {}
"""What a recording strategy does at each bar, by its name in the session; cleared by the fixture."""

RECORDER = '''
"""Notes every bar it is told of, with what it could see; trades by a fixed rhythm."""
import threading
from decimal import Decimal
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy, Signal, SignalAction
from tests.support.session_files import GATES

class Params(ReactiveParams):
    pairs: list[list[str]] = []
    every: int = 0
    quantity: int = 10
    raises: bool = False
    agrees: bool = True
    sells_first: bool = False

class {name}Strategy(ReactiveStrategy):
    auto_subscribe = {auto}

    def __init__(self, name, config):
        super().__init__(name, config)
        self.told, self.seen, self.added, self.threads = [], [], [], set()
        self.ended = False

    def get_subscriptions(self):
        return [tuple(pair) for pair in self.config["pairs"]]

    def setup(self, context):
        self.gate = GATES.get(self.name)
        return super().setup(context) and self.config.get("agrees", True)

    def on_bars(self, symbol, interval):
        bars = self.context.get_bars(symbol, interval)
        now = self.context.get_current_time()
        self.threads.add(threading.current_thread().name)
        self.told.append((symbol, interval, bars[-1].start_ns))
        self.seen.append((now, len(bars), bars[-1].timestamp))
        if self.gate is not None:
            self.gate(self, symbol, interval)
        if self.config.get("raises"):
            raise RuntimeError("broken on purpose")
        every = self.config.get("every", 0)
        if not every or len(bars) % every:
            return []
        is_buy = bool((len(bars) // every) % 2) is not self.config["sells_first"]
        action = SignalAction.BUY if is_buy else SignalAction.SELL
        return [Signal(symbol, action, quantity=Decimal(self.config.get("quantity", 10)), reason="rhythm")]

    def teardown(self, context):
        self.ended = True

    def on_symbol_added(self, symbol):
        self.added.append((symbol, self.context.get_current_time(), len(self.context.get_bars(symbol, "1m"))))
'''

FINDER = '''
"""Promotes what it is told to, at the scan it is told to."""
from trading.market.scanners.base import BaseScanner, ScannerParams, ScanResult

class Params(ScannerParams):
    finds: list[str] = []
    at_scan: int = 1

class FinderScanner(BaseScanner):
    Params = Params
    made = []

    def __init__(self, config):
        super().__init__(config)
        self.scans, self.times, self.ended = 0, [], False
        self.hook = None
        FinderScanner.made.append(self)

    def setup(self, context):
        for symbol in context.universe:
            context.add_bars(symbol, "1m", 1)
        return True

    def scan(self, context):
        self.scans += 1
        self.times.append((context.get_current_time(), {s: len(context.get_bars(s, "1m")) for s in context.universe}))
        found = [s for s in self.params.finds if self.scans >= self.params.at_scan]
        for symbol in found:
            context.add_symbol(symbol)
        return ScanResult(found)

    def teardown(self, context):
        self.ended = True
'''


def recorder(name: str, *, auto: bool = False) -> str:
    """Return the source of a strategy that notes what it is told."""
    return RECORDER.replace("{name}", name).replace("{auto}", str(auto))
