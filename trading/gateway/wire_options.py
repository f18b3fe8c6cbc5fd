"""Serve option chains, calculations and early exercise."""

from __future__ import annotations

from decimal import Decimal

from . import protocol_data_messages as m
from . import protocol_data_responses as respond
from . import protocol_responses as respond_plain
from .model import Contract, OptionFigures, RequestError
from .session import Session
from .wire_context import Context
from .wire_publish import publish

CUSTOM = 53
_NO_OPTION = "Error processing request : cause - not an option, or its price and its underlying's are not above zero"


def option_parameters(context: Context, session: Session, request: m.RequestOptionParameters) -> None:
    """List the chains of an underlying, then the end; none when it has none."""
    details = context.resolve_one(Contract(con_id=request.underlying_con_id))
    chains = context.venue.option_chains(details.contract.con_id, request.exchange)
    session.send(*(respond.option_chain(request.req_id, chain) for chain in chains))
    session.send(respond_plain.option_parameters_end(request.req_id))


def implied_volatility(context: Context, session: Session, request: m.CalculateImpliedVolatility) -> None:
    """Tell which volatility explains a price."""
    con_id = context.resolve_one(request.contract).contract.con_id
    if not request.price or not request.underlying or min(request.price, request.underlying) <= 0:
        raise RequestError(322, _NO_OPTION)
    figures = context.venue.implied_volatility(con_id, request.price, request.underlying, context.now())
    _send(session, request.req_id, figures)


def option_price(context: Context, session: Session, request: m.CalculateOptionPrice) -> None:
    """Tell what an option is worth at a volatility."""
    con_id = context.resolve_one(request.contract).contract.con_id
    if not request.volatility or not request.underlying or min(request.volatility, request.underlying) <= 0:
        raise RequestError(322, _NO_OPTION)
    figures = context.venue.option_price(con_id, float(request.volatility), request.underlying, context.now())
    _send(session, request.req_id, figures)


def cancel_calculation(context: Context, session: Session, request: m.CancelCalculation) -> None:
    """Nothing to withdraw: the answer went out with the request."""


def exercise(context: Context, session: Session, request: m.ExerciseOption) -> None:
    """Exercise long options, or let them lapse."""
    context.account(request.account, "bL")
    if request.action not in (1, 2):
        raise RequestError(322, f"Error processing request : cause - exercise action {request.action} is not 1 or 2")
    events = context.venue.exercise_option(
        request.contract,
        exercise=request.action == 1,
        quantity=Decimal(request.quantity),
        override=request.override,
        now=context.now(),
    )
    publish(context, events)


def _send(session: Session, req_id: int, figures: OptionFigures | None) -> None:
    if figures is None:
        raise RequestError(322, _NO_OPTION)
    session.send(respond.option_computation(req_id, CUSTOM, figures, session.version))
