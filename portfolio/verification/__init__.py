"""Prove the books at rest: against their journal, against the invariants, against ArcticDB."""

from portfolio.verification.journal import Finding, Verification, verify_ledger

__all__ = ["Finding", "Verification", "verify_ledger"]
