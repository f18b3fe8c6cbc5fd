"""The engine's answers to its risk desk: which price to follow, and what to store of a halt or a throttle.

Owns: nothing but the way: prices through the recorder's loop, states through the message thread, so that nobody waits.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from ib_async import Contract

from strategies.exceptions import TransientError
from trading.engine.gate import Gate
from trading.engine.halt_file import HaltFile
from trading.engine.margin_plan import MarginPlanner
from trading.engine.margin_shares import MarginShares
from trading.engine.resets import next_window
from trading.engine.risk_alerts import store_state
from trading.engine.risk_desk import RiskDesk
from trading.market.recorder import Wanted
from trading.orders.trading_state import TradingState

if TYPE_CHECKING:
    from portfolio.manager import PortfolioManager
    from trading.engine.link_watch import LinkWatch
    from trading.engine.message_queue import MessageQueue
    from trading.engine.options import EngineSettings
    from trading.engine.session import MasterSession
    from trading.market.recorder import MarketRecorder
    from trading.orders.intents import IntentWriter


class RiskSide:
    """What an engine offers its risk desk."""

    account_id: str
    link: LinkWatch
    portfolio_manager: PortfolioManager
    session: MasterSession
    message_queue: MessageQueue
    intents: IntentWriter
    recorder: MarketRecorder | None

    def _make_risk(self, settings: EngineSettings) -> None:
        self.halt_file = HaltFile(settings.mats_home)
        self.gate = Gate(self.halt_file.exists)
        self.risk = RiskDesk(self, self.halt_file)
        self.margin_shares = MarginShares(self, settings.margin_every_s)
        self.planner = MarginPlanner(cast(Any, self))

    @property
    def reset_at(self) -> datetime | None:
        """Return when the gateway's next scheduled reset is; None where none is configured."""
        coming = next_window(self.link.rules, self.link.now())
        return None if coming is None else coming.begins

    def follow_price(self, contract: Contract) -> None:
        """Have the market recorder follow a contract that somebody wants to trade; returns at once."""
        recorder = self.recorder
        if recorder is None:
            return
        wanted = Wanted(contract.conId, contract.symbol, contract.secType, contract.exchange, contract.currency)

        async def _follow() -> None:
            recorder.follow(wanted)

        with suppress(TransientError):  # no master, no line; the order is refused for that
            self.session.begin(_follow)

    def on_halted(self, owner: str, reason: str, by: str) -> None:
        """Store and show that the halt file appeared."""

        def _store() -> None:
            if self.gate.halted.get(owner):  # released meanwhile: then it is over
                store_state(owner, TradingState.HALTED, reason, by)

        self.message_queue.submit(_store, "halted")

    def note_repeats(self) -> None:
        """Have the numbers of denials that repeated written; on the message thread, so that the watch never waits."""
        over = self.intents.take_repeats()
        if over:
            self.message_queue.submit(lambda: self.intents.write_repeats(over), "denials")

    def on_throttled(self, owner: str, text: str) -> None:
        """Store and show that a strategy is held."""
        self.message_queue.submit(lambda: store_state(owner, TradingState.REDUCING, text, ""), "throttled")
