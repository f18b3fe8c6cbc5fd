"""What the engine does for each kind of command.

Owns: one function per kind that does not touch the books, and the list of all kinds (``bind``).
Leaves: what moves the books (``books_commands``, ``flex_commands``), claiming, acknowledging and recording the outcome
(``dispatch``), which arguments there are (``specs``). Rule: a conflict is the command's failure with a code; nothing is
half done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from strategies.exceptions import (
    ConfigError,
    ConflictError,
    MatsError,
    NotFoundError,
    StrategyError,
    TransientError,
)
from strategies.models import Strategy
from trading.engine.books_commands import BOOK_HANDLERS
from trading.engine.flex_commands import FLEX_HANDLERS
from trading.engine.lifecycle import StrategyState
from trading.engine.order_commands import ORDER_HANDLERS
from trading.engine.readiness import require_connection
from trading.engine.requests import Request, request_of
from trading.engine.risk_commands import RISK_HANDLERS, allow_resume, allow_start
from trading.engine.runner import Runner
from trading.engine.session_commands import SESSION_HANDLERS
from trading.engine.specs import SPECS, CommandSpec, check_args
from trading.engine.supervisor import ENDED, SETTLED, find_strategy
from trading.models import EngineCommand, Order
from trading.orders.state import FINAL, OrderState

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

__all__ = ["HANDLERS", "SPECS", "CommandSpec", "check_args"]

START_WAIT_S = 30.0

Args = Mapping[str, Any]
Result = dict[str, Any]


def start_strategy(engine: StrategyManager, args: Args) -> Result:
    """Start one strategy and wait until it runs or failed; ``note`` says what IB answered about its margin."""
    symbol = find_strategy(args["symbol"]).symbol
    accepted = bool(args.get("accept_margin"))
    if accepted and not args.get("reason"):
        raise ConfigError(
            "Say why it may pass a limit of the account.", code="bad_arguments", errors={"reason": "Why?"}
        )
    require_connection(engine)
    runner, margin = begin(engine, symbol, accepted=accepted)
    runner.wait_until(SETTLED, START_WAIT_S)
    return {**settled(runner), "margin": margin, "note": margin["text"]}


def begin(engine: StrategyManager, symbol: str, *, accepted: bool = False) -> tuple[Runner, Result]:
    """Start a strategy whose margin the account bears; return its runner and what IB said.

    Raises: as ``allow_start`` and ``Supervisor.start``.
    """
    engine.supervisor.check_startable(symbol)  # what cannot start is not asked about
    margin = allow_start(engine, symbol, accepted=accepted)
    try:
        return engine.supervisor.start(symbol), margin
    except MatsError:
        if all(runner.symbol != symbol for runner in engine.supervisor.alive()):  # else somebody else started it
            engine.planner.forget(symbol)
        raise


def resume(engine: StrategyManager, symbol: str) -> Runner:
    """Start a strategy that was active before the engine was.

    Raises: as ``begin``.
    """
    allow_resume(engine, symbol)
    return engine.supervisor.start(symbol)


def settled(runner: Runner) -> Result:
    """Return a started strategy's state.

    Raises: StrategyError (start_failed) when it failed.
    """
    if runner.state is StrategyState.FAILED:
        raise StrategyError(f"{runner.symbol} failed: {runner.message}", code="start_failed")
    return {"symbol": runner.symbol, "state": str(runner.state), "client_id": runner.client_id}


def stop_strategy(engine: StrategyManager, args: Args) -> Result:
    """Stop one strategy and wait until its thread ended."""
    runner = engine.supervisor.stop(args["symbol"], engine.settings.stop_timeout_s, engine.stop_grace_s)
    if runner.state not in ENDED:
        raise StrategyError(f"{runner.symbol} does not stop: {runner.message}.", code="does_not_stop")
    return {"symbol": runner.symbol, "state": str(runner.state), "message": runner.message}


def start_all(engine: StrategyManager, args: Args) -> Result:
    """Start all active strategies that do not run; tell of each."""
    require_connection(engine)
    outcomes: Result = {}
    started: list[tuple[Runner, Result]] = []
    for symbol in Strategy.objects.filter(active=True).values_list("symbol", flat=True):
        try:
            started.append(begin(engine, symbol))
        except MatsError as error:
            outcomes[symbol] = {"started": False, "error": error.message, "error_code": error.code}
    for runner, margin in started:
        runner.wait_until(SETTLED, START_WAIT_S)
        failed = runner.state is StrategyState.FAILED
        outcomes[runner.symbol] = {
            "started": not failed,
            "error": runner.message if failed else "",
            "error_code": "",
            "margin": margin["text"],
        }
    left = [f"{symbol} was not started: {row['error']}" for symbol, row in outcomes.items() if not row["started"]]
    return {"strategies": outcomes, "note": " ".join(left)}


def stop_all(engine: StrategyManager, args: Args) -> Result:
    """Stop all running strategies in parallel with one deadline."""
    return {"strategies": engine.supervisor.stop_all(engine.settings.stop_timeout_s, engine.stop_grace_s)}


def cancel_order(engine: StrategyManager, args: Args) -> Result:
    """Ask the broker to cancel one order through the client that placed it."""
    row = Order.objects.filter(order_ref=args["order_ref"]).first()
    if row is None:
        raise NotFoundError(f"There is no order {args['order_ref']}.", code="unknown_order")
    if OrderState(row.state) in FINAL:
        raise ConflictError(f"Order {row.order_ref} is {row.state} already.", code="order_done")
    engine.trade_manager.cancel_order(row.order_ref)
    return {"order_ref": row.order_ref}


def cancel_all(engine: StrategyManager, args: Args) -> Result:
    """Ask the broker to cancel the open orders of one strategy, or of all."""
    owner = find_strategy(args["strategy"]).symbol if args.get("strategy") else None
    report = engine.trade_manager.cancel_owner(owner)
    return {"asked": report.asked, "errors": report.errors}


def flatten_strategy(engine: StrategyManager, args: Args) -> Result:
    """Cancel a strategy's orders and close its positions."""
    symbol = find_strategy(args["symbol"]).symbol
    require_connection(engine)
    return {"symbol": symbol, "order_refs": engine.trade_manager.flatten(symbol)}


def update_params(engine: StrategyManager, args: Args) -> Result:
    """Hand the stored parameters to a running strategy."""
    row = find_strategy(args["symbol"])
    return {"symbol": row.symbol, "applied": engine.apply_params(row), "params_revision": row.params_revision}


def sync_strategies(engine: StrategyManager, args: Args) -> Result:
    """Write the strategy table to ArcticDB now."""
    return {"synced": engine.sync_strategies()}


def disconnect_client(engine: StrategyManager, args: Args) -> Result:
    """Disconnect the master, or stop the strategy that uses the client id."""
    client_id = int(args["client_id"])
    if client_id == 0:
        engine.session.disconnect()
        return {"client_id": 0}
    if client_id == engine.QUEUE_CLIENT_ID:
        raise ConflictError("Client 99 carries the message queue; it is not disconnected by hand.", code="refused")
    runner = engine.supervisor.by_client_id(client_id)
    if runner is None:
        raise NotFoundError(f"No strategy uses client id {client_id}.", code="not_running")
    return {"client_id": client_id, **stop_strategy(engine, {"symbol": runner.symbol})}


def connect(engine: StrategyManager, args: Args) -> Result:
    """Let the master connect; wait until the books are compared."""
    engine.session.connect()
    if not engine.gate.wait_open(START_WAIT_S):
        raise TransientError(f"Not connected yet: {engine.state_message}", code="no_connection")
    return {"connected": True}


def reconcile(engine: StrategyManager, args: Args) -> Result:
    """Replay the day's executions and compare positions now."""
    return engine.session.reconcile()


HANDLERS: dict[str, Callable[[StrategyManager, Args], Result]] = {
    "start_strategy": start_strategy,
    "stop_strategy": stop_strategy,
    "start_all": start_all,
    "stop_all": stop_all,
    "cancel_order": cancel_order,
    "cancel_all": cancel_all,
    "flatten_strategy": flatten_strategy,
    "update_params": update_params,
    "sync_strategies": sync_strategies,
    "disconnect_client": disconnect_client,
    "connect": connect,
    "reconcile": reconcile,
}


def bind(engine: StrategyManager) -> dict[str, Callable[[EngineCommand], Result]]:
    """Return what the dispatcher calls for each kind of command."""
    bound: dict[str, Callable[[EngineCommand], Result]] = {
        kind: partial(_with_args, engine, handler) for kind, handler in (HANDLERS | SESSION_HANDLERS).items()
    }
    return bound | {
        kind: partial(_with_request, engine, handler)
        for kind, handler in (BOOK_HANDLERS | FLEX_HANDLERS | ORDER_HANDLERS | RISK_HANDLERS).items()
    }


def _with_args(
    engine: StrategyManager, handler: Callable[[StrategyManager, Args], Result], command: EngineCommand
) -> Result:
    return handler(engine, command.args)


def _with_request(
    engine: StrategyManager, handler: Callable[[StrategyManager, Request], Result], command: EngineCommand
) -> Result:
    return handler(engine, request_of(command))
