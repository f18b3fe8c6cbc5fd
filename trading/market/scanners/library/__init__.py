"""The shipped scanners, one file each: ``scanners.gap``, ``scanners.momentum``, ``scanners.ib_scanner``."""
