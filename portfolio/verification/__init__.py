"""Prove the books at rest: against their journal, against the invariants, against ArcticDB."""

from portfolio.verification.checks import Check, Outcome, register_check
from portfolio.verification.journal import Finding, Verification, verify_ledger
from portfolio.verification.report import Report, verify_all

__all__ = ["Check", "Finding", "Outcome", "Report", "Verification", "register_check", "verify_all", "verify_ledger"]
