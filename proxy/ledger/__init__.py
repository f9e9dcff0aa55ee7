"""The books (floor 2): records and Protocol, the SQLite ledger and its in-memory twin."""
