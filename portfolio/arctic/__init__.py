"""The only door to ArcticDB. What lies there is a projection of the ledger and can be built again."""
