"""Tests of the books: one contract for every ledger, then what only SQLite must keep."""
