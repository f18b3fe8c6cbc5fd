"""Reactive strategies of your own that a session names as ``strategies.production.<file>``; MATS ships none here."""
