"""Stores: one contract (`base.py`), an implementation for each database, one writer before them all."""
