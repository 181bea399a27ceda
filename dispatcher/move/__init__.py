"""Moving a live queue from its SQLite file into a PostgreSQL database (docs/moving.md is the operator's page)."""
