"""Move the books by hand: ``manage.py book …``."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from strategies.exceptions import MatsError
from trading.models import CommandState, EngineCommand
from trading.queries import engine_state
from trading.services import enqueue, wait_for

HELP = """
Move the books by hand. The running engine does it; this command waits and prints what came of it.

  book deposit    --owner MA1 --currency USD --amount 10000 --reason "from savings"
  book withdrawal --owner MA1 --currency USD --amount 500 --reason "rent"
  book transfer_cash --from Discretionary --to MA1 --currency USD --amount 2500 --reason "more for MA1"
  book transfer_position --from Discretionary --to MA1 --con-id 265598 --quantity 10 --reason "hand over"
  book receipt    --owner MA1 --con-id 265598 --quantity 10 --price 150 --reason "moved here from another broker"
  book delivery   --owner MA1 --con-id 265598 --quantity 10 --reason "moved to another broker"
  book dividend   --con-id 265598 --currency USD --amount 24.00 --reason "paid today"
  book tax        --con-id 265598 --currency USD --amount -3.60 --reason "withheld"
  book interest   --currency USD --amount 1.23 --reason "March"
  book fee        --currency USD --amount 4.50 --reason "market data"
  book split      --con-id 265598 --numerator 4 --denominator 1 --reason "4 for 1"
  book symbol_change --con-id 1 --new-con-id 2 --reason "renamed"
  book expiry     --con-id 7 --settlement-price 0 --reason "expired worthless"
  book exercise   --con-id 7 --underlying-con-id 265598 --reason "exercised"
  book assign     --exec-id 0000e0d5.65f4a1b2.01.01 --owner MA1 --quantity 50 --reason "it was MA1's"
  book divide     --exec-id 0000e0d5.65f4a1b2.01.01 --owners '{"MA1": "50", "MA2": "30"}' --reason "one order for both"
  book undo       --adjustment 12 --reason "wrong amount"
  book approve    --adjustment 12         book reject --adjustment 12 --reason "not ours"
  book rebalance  [--symbol MA1] [--force]
  book settle     --parked 3 --action retry|discard --reason "contract is known now"
  book resolve    --finding 5 --reason "IB corrected it the day after"

Every booking leaves an entry in the audit trail. --key makes repeating safe: the same key books once.
--propose stores an event without booking it; approve books it. Amounts are plain decimals with a point.

Exit codes: 0 done, 1 refused or failed (the line says why), 2 the options do not fit.
"""

_EVENTS = {
    "deposit": ("owner", "currency", "amount"),
    "withdrawal": ("owner", "currency", "amount"),
    "transfer_cash": ("from", "to", "currency", "amount"),
    "transfer_position": ("from", "to", "con_id", "quantity", "price"),
    "receipt": ("owner", "con_id", "quantity", "price"),
    "delivery": ("owner", "con_id", "quantity"),
    "dividend": ("con_id", "currency", "amount", "owners"),
    "tax": ("con_id", "currency", "amount", "owners"),
    "interest": ("currency", "amount", "owner"),
    "fee": ("currency", "amount", "owner", "con_id", "exec_id"),
    "split": ("con_id", "numerator", "denominator", "cash_in_lieu"),
    "symbol_change": ("con_id", "new_con_id", "numerator", "denominator"),
    "expiry": ("con_id", "settlement_price"),
    "exercise": ("con_id", "underlying_con_id", "quantity", "owners"),
}
_OTHERS = {
    "assign": ("assign_execution", ("exec_id", "owner", "quantity", "from_owner", "reason", "key")),
    "divide": ("divide_execution", ("exec_id", "owners", "from_owner", "reason", "key")),
    "undo": ("undo_adjustment", ("adjustment", "reason")),
    "approve": ("approve_adjustment", ("adjustment", "reason")),
    "reject": ("reject_adjustment", ("adjustment", "reason")),
    "rebalance": ("rebalance", ("symbol", "force", "reason")),
    "settle": ("settle_parked", ("parked", "action", "reason")),
    "resolve": ("resolve_finding", ("finding", "reason")),
}
_TEXTS = {
    "owner": "a strategy or Discretionary",
    "from": "who gives",
    "to": "who gets",
    "from_owner": "whose execution it is now (default Discretionary)",
    "currency": "three capital letters",
    "amount": "decimal, in the currency",
    "quantity": "decimal, unsigned; of a receipt negative for a short position",
    "price": "per unit; of a transfer without it the giver's average cost",
    "settlement_price": "what the contract settled at",
    "exec_id": "IB's execution id",
    "effective_at": "when it happened, with zone: 2026-03-02T15:00:00Z (default now)",
    "symbol": "one strategy (default all)",
    "action": "retry or discard",
    "reason": "why, at most 400 characters",
    "key": "the same key books once",
}
_WHOLE = ("con_id", "new_con_id", "underlying_con_id", "adjustment", "parked", "finding")
_JSON = {"owners": '{"MA1": "10.00", "Discretionary": "2.50"}', "cash_in_lieu": "a JSON object"}


class Command(BaseCommand):
    """Enqueue, wait, print the outcome."""

    help = HELP

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        """Keep the line breaks of the help text."""
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options; which of them belong to which deed is checked when it is known."""
        parser.add_argument("what", choices=[*_EVENTS, *_OTHERS], metavar="what", help="see the examples above")
        for name, text in _TEXTS.items():
            parser.add_argument(_option(name), dest=name, help=text)
        for name in ("numerator", "denominator"):
            parser.add_argument(_option(name), dest=name, help="of the ratio, new for old")
        for name in _WHOLE:
            parser.add_argument(_option(name), dest=name, type=int, help="number")
        for name, text in _JSON.items():
            parser.add_argument(_option(name), dest=name, type=_object, help=f"JSON: {text}")
        parser.add_argument("--propose", action="store_true", default=None, help="store it without booking it")
        parser.add_argument("--force", action="store_true", default=None, help="rebalance also within the bounds")
        parser.add_argument("--user", metavar="NAME", help="in whose name (default: cli)")
        parser.add_argument("--wait", type=float, default=60.0, metavar="SECONDS", help="default %(default)g")

    def handle(self, *args: Any, **options: Any) -> None:
        """Build the command, hand it over, tell how it ended."""
        kind, arguments = _command(options)
        outcome = run(kind, arguments, options["user"], options["wait"])
        self.stdout.write(told(outcome))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ArgumentTypeError("an object is needed")
    return found


def _command(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    what = options["what"]
    given = {
        name: options[name]
        for name in (*_TEXTS, *_WHOLE, *_JSON, "numerator", "denominator", "propose", "force")
        if options[name] is not None
    }
    if what in _EVENTS:
        fields, common = _EVENTS[what], ("reason", "key", "effective_at", "propose")
        _refuse_others(what, given, (*fields, *common))
        details = {name: given[name] for name in fields if name in given}
        return "book_adjustment", {
            "kind": what,
            "details": details,
            **{name: given[name] for name in common if name in given},
        }
    kind, names = _OTHERS[what]
    _refuse_others(what, given, names)
    return kind, given


def _refuse_others(what: str, given: dict[str, Any], allowed: tuple[str, ...]) -> None:
    surplus = [_option(name) for name in given if name not in allowed]
    if surplus:
        takes = ", ".join(_option(name) for name in allowed)
        raise CommandError(f"{what} takes no {', '.join(surplus)}. It takes {takes}.", returncode=2)


def run(
    kind: str,
    arguments: dict[str, Any],
    username: str | None,
    wait_s: float,
    seen: Callable[[EngineCommand], object] = lambda _: None,
) -> EngineCommand:
    """Hand a command to the running engine and wait for its outcome; ``seen`` is called with it while it runs.

    Raises: CommandError when there is no engine or user, when it is refused, fails or takes too long.
    """
    user = User.objects.filter(username=username).first() if username else None
    if username and user is None:
        raise CommandError(f"There is no user {username}.", returncode=2)
    if not engine_state()["running"]:
        raise CommandError("No engine runs, so nothing was queued. Start one with manage.py run_engine.")
    try:
        command = enqueue(kind, arguments, user=user, source="cli")
    except MatsError as error:
        raise CommandError(error.message, returncode=2) from error
    outcome = wait_for(command.id, wait_s, seen)
    if outcome.state == CommandState.DONE:
        return outcome
    if outcome.state in (CommandState.FAILED, CommandState.EXPIRED):
        raise CommandError(f"{kind} {outcome.state}: {outcome.error} ({outcome.error_code})")
    raise CommandError(
        f"{kind} is {outcome.state} after {wait_s:g} s; its outcome will stand under command {outcome.id}."
    )


def told(outcome: EngineCommand) -> str:
    """Return the outcome for a person: its sentence when it has one, else its figures."""
    result = outcome.result if isinstance(outcome.result, dict) else {}
    text = result.get("text")
    if text:
        number = result.get("adjustment")
        return f"{result.get('state', 'done')}: {text}" + (f" (adjustment {number})" if number else "")
    return json.dumps(result, indent=2, ensure_ascii=False)
