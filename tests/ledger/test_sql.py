"""Named blocks and migrations as text."""

from __future__ import annotations

import pytest

from proxy.ledger.sql import STATEMENTS, load_migrations, parse_blocks, split_statements


def test_blocks_are_found_by_name_without_their_comments() -> None:
    """What stands before the first name belongs to none."""
    text = "-- about\n\n-- name: one\n-- why\nSELECT 1\n  -- and\n  AS x\n\n-- ----\n-- name: two\nSELECT 2\n"
    assert parse_blocks(text) == {"one": "SELECT 1\n  AS x", "two": "SELECT 2"}


def test_a_name_stands_once() -> None:
    """Two blocks of one name are a mistake, not a choice."""
    with pytest.raises(ValueError, match="stands twice"):
        parse_blocks("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")


def test_every_statement_is_a_statement() -> None:
    """No block is empty, and none hides a second statement."""
    assert STATEMENTS
    assert all(text and ";" not in text for text in STATEMENTS.values())


def test_scripts_are_split_where_statements_end() -> None:
    """A semicolon inside a trigger or a text ends nothing."""
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 2; END;"
    text = f"-- first\nSELECT ';';\n{trigger}\n-- last\n"
    assert split_statements(text) == ("SELECT ';';", trigger)


def test_an_unfinished_script_is_refused() -> None:
    """A statement without its end would be left out silently."""
    with pytest.raises(ValueError, match="without its semicolon: 'SELECT 2'"):
        split_statements("SELECT 1;\nSELECT 2\n")


def test_migrations_are_numbered_without_gaps() -> None:
    """1, 2, 3: a gap would be a file that was forgotten."""
    versions = [migration.version for migration in load_migrations()]
    assert versions == list(range(1, len(versions) + 1))
    assert all(migration.statements for migration in load_migrations())
