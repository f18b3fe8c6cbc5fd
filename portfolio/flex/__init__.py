"""Flex statements: read IB's own record of the day and settle with it what the books lack, a day later.

Owns: the doors. ``import_statement`` runs inside a job of the engine, ``check_statement`` anywhere, ``fetch_statement``
outside of any transaction, since it waits for IB.
"""

from portfolio.flex.access import fetch_statement, is_configured
from portfolio.flex.closing import resolve_finding
from portfolio.flex.importer import check_statement, import_statement
from portfolio.flex.report import FlexReport, ReportLine

__all__ = [
    "FlexReport",
    "ReportLine",
    "check_statement",
    "fetch_statement",
    "import_statement",
    "is_configured",
    "resolve_finding",
]
