"""The ledger's database: several connections at once, exact values, servers that go away; on SQLite and PostgreSQL."""
