"""The pure ledger: what a fill, a fee, an opening balance and a comparison mean. No Django, no I/O, no clock."""
