"""The memory workers share: a place outlives its worker, every reader finds every figure, and there is an end to it."""

from __future__ import annotations

import os

import pytest

from proxy.telemetry import Board, Vital
from proxy.telemetry import board as under_test


def test_a_series_is_found_again_by_its_name() -> None:
    """Also by who takes the place of a dead worker; others are told apart."""
    page = Board().pages[0]
    page.begin()
    first, second = page.open_series(b"one"), page.open_series(b"two")
    assert first is not None
    assert second is not None
    assert page.open_series(b"one") == first != second
    page.cells[first] = 5
    page.begin()
    assert page.open_series(b"one") == first
    assert page.cells[first] == 5
    assert dict(page.series()) == {b"one": first, b"two": second}


def test_what_tells_of_a_process_ends_with_it_and_what_was_counted_does_not() -> None:
    """Its requests under way are no more; the waits it saw were real."""
    board = Board(2)
    page = board.pages[1]
    for vital in (Vital.IS_SERVING, Vital.IN_FLIGHT, Vital.QUEUED, Vital.KEPT, Vital.IS_STALE, Vital.WAIT_MAX_US):
        page.cells[vital] = 3
    page.leave()
    assert [board.sum_vital(vital) for vital in (Vital.IS_SERVING, Vital.IN_FLIGHT, Vital.QUEUED)] == [0, 0, 0]
    assert (board.is_stale, board.sum_vital(Vital.WAIT_MAX_US)) == (False, 3)


def test_pages_do_not_overlap() -> None:
    """Each is written to its last byte, and the others stay empty."""
    board = Board(3)
    middle = board.pages[1]
    for at in range(len(middle.cells)):
        middle.cells[at] = -1
    assert not any(board.pages[0].cells)
    assert not any(board.pages[2].cells)


def test_a_full_page_refuses_another_series() -> None:
    """As it does a name that is too long; what is there goes on."""
    page = Board().pages[0]
    page.begin()
    assert page.open_series(b"x" * (under_test.KEY_BYTES_MAX + 1)) is None
    opened = [page.open_series(b"%d" % number) for number in range(under_test.SERIES_MAX + 1)]
    assert opened[-1] is None
    assert opened[-2] is not None
    assert page.open_series(b"0") == opened[0]
    assert len(list(page.series())) == under_test.SERIES_MAX


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_writes_where_the_others_read() -> None:
    """Without a file, and whatever becomes of that process."""
    board = Board(2)
    pid = os.fork()
    if pid == 0:
        board.pages[1].begin()
        cell = board.pages[1].open_series(b"made by the child")
        board.pages[1].cells[cell or 0] = 42
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    ((key, cell),) = board.pages[1].series()
    assert (key, board.pages[1].cells[cell]) == (b"made by the child", 42)


def test_all_workers_serve_only_when_each_says_so() -> None:
    """One who is alone has no need to."""
    board = Board(2)
    board.pages[0].cells[Vital.IS_SERVING] = 1
    assert not board.is_complete
    board.pages[1].cells[Vital.IS_SERVING] = 1
    assert board.is_complete
    assert Board().is_complete
