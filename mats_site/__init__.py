"""The Django site: settings, routing, authentication, and the supervisor.

Replaces the interpreter's sqlite3 before Django imports it: every SQLite from 3.7.0 to 3.51.2 can corrupt a WAL
database that two connections share (the WAL-reset race), and Debian ships 3.40. pysqlite3 bundles a fixed one.
"""

import sys

import pysqlite3
import pysqlite3.dbapi2

sys.modules["sqlite3"] = pysqlite3
sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
