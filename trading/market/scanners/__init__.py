"""Scanners: what finds symbols for a session; states, schedule and life here, the shipped ones in ``library``."""
