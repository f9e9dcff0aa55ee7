"""What is counted: exactly, for all workers, under names of which there is an end, and none that is a secret."""

from __future__ import annotations

import pytest

from proxy.telemetry import Board, Vital, expose
from proxy.telemetry import board as board_module
from proxy.telemetry.meters import CACHED_MAX, FREE_NAMES_MAX
from tests.telemetry.figures import finished, meters, values


def shown(board: Board) -> str:
    """Read the metrics."""
    return expose(board, version="0.1.0").decode()


def test_requests_are_added_up_over_workers() -> None:
    """By what they were asked, where they went and how they ended; tokens, cost and times likewise."""
    board = Board(2)
    first, second = (meters(page) for page in board.pages)
    first.request_finished(finished())
    first.request_finished(finished(status=499, cost_nano_usd=None, first_token_ms=None, overhead_us=None))
    second.request_finished(finished(first_token_ms=5_000, latency_ms=6_000))
    text = shown(board)
    assert values(text, "requests_total", route="chat", provider="sim", model="echo", status="200") == ["2"]
    assert values(text, "requests_total", status="499") == ["1"]
    assert values(text, "tokens_total", provider="sim", model="echo", kind="input") == ["30"]
    assert values(text, "tokens_total", kind="output") == ["60"]
    assert values(text, "cost_usd_total", provider="sim") == ["0.000003000"]
    assert values(text, "unknown_cost_requests_total") == ["1"]
    assert values(text, "first_token_seconds_count", model="echo") == ["2"]
    assert values(text, "first_token_seconds_sum") == ["5.12"]
    assert values(text, "first_token_seconds_bucket", le="0.2") == ["1"]
    assert values(text, "first_token_seconds_bucket", le="5") == ["2"]
    assert values(text, "request_seconds_sum", route="chat") == ["6.8"]
    assert values(text, "overhead_seconds_count") == ["2"]
    assert values(text, "overhead_seconds_bucket", le="0.0005") == ["0"]
    assert values(text, "overhead_seconds_bucket", le="0.001") == ["2"]


def test_a_worker_that_takes_a_dead_ones_place_counts_on() -> None:
    """No counter goes backwards."""
    board = Board()
    meters(board.pages[0]).request_finished(finished())
    successor = meters(board.pages[0])
    assert values(shown(board), "requests_total") == ["1"]
    successor.request_finished(finished())
    assert values(shown(board), "requests_total") == ["2"]


def test_what_is_still_being_read_is_counted_when_it_has_ended() -> None:
    """Its client has left: the request counts at once, its tokens and cost once they are known, and nothing twice."""
    board = Board()
    counting = meters(board.pages[0])
    counting.request_finished(finished(status=499, cost_nano_usd=None, is_draining=True))
    text = shown(board)
    assert values(text, "requests_total", status="499") == ["1"]
    assert values(text, "unknown_cost_requests_total") == ["0"]
    counting.request_drained(finished(status=499))
    text = shown(board)
    assert values(text, "requests_total", status="499") == ["1"]
    assert values(text, "tokens_total", kind="input") == ["10"]
    assert values(text, "cost_usd_total", provider="sim") == ["0.000001500"]
    assert values(text, "request_seconds_count", route="chat") == ["1"]


def test_attempts_are_counted_by_target_and_outcome() -> None:
    """A provider's model may have slashes; what failed is told by its kind."""
    board = Board()
    counting = meters(board.pages[0])
    for outcome in ("ok", "ok", "timeout"):
        counting.attempt_ended("sim/echo", outcome)
    counting.attempt_ended("openrouter/meta/llama", "ok")
    text = shown(board)
    assert values(text, "attempts_total", provider="sim", model="echo", outcome="ok") == ["2"]
    assert values(text, "attempts_total", outcome="timeout") == ["1"]
    assert values(text, "attempts_total", provider="openrouter", model="meta/llama") == ["1"]


def test_refusals_and_requests_under_way_are_counted() -> None:
    """Refusals by status and code."""
    board = Board()
    counting = meters(board.pages[0])
    counting.request_begun()
    counting.request_begun()
    counting.request_ended()
    counting.request_refused(401, "invalid_api_key")
    assert values(shown(board), "requests_in_flight") == ["1"]
    assert values(shown(board), "refused_requests_total", status="401", code="invalid_api_key") == ["1"]


def test_the_ledger_s_waits_are_counted_with_the_longest() -> None:
    """Until durable, and until its turn among processes."""
    board = Board(2)
    first, second = (meters(page) for page in board.pages)
    first.became_durable(0.004)
    second.became_durable(3.0)
    second.turn_came(0.0123)
    first.queue_changed(7, 2)
    text = shown(board)
    assert values(text, "ledger_commit_seconds_count") == ["2"]
    assert values(text, "ledger_commit_seconds_bucket", le="2.5") == ["1"]
    assert values(text, "ledger_commit_seconds_bucket", le="+Inf") == ["2"]
    assert values(text, "ledger_commit_seconds_max") == ["3"]
    assert values(text, "ledger_turn_seconds_max") == ["0.0123"]
    assert (values(text, "ledger_queue"), values(text, "ledger_kept")) == (["7"], ["2"])


def test_names_that_clients_choose_come_to_an_end() -> None:
    """The first of them are shown, the rest is `other`; what the table names is always shown."""
    board = Board()
    counting = meters(board.pages[0])
    for number in range(3 * CACHED_MAX):
        counting.request_finished(finished(route=f"free/{number}", provider="openrouter", model=f"m{number}"))
        counting.attempt_ended(f"openrouter/m{number}", "ok")
    counting.request_finished(finished())
    text = shown(board)
    assert len(values(text, "requests_total")) == FREE_NAMES_MAX + 2
    assert len(values(text, "attempts_total")) == FREE_NAMES_MAX + 1
    assert values(text, "requests_total", route="chat", model="echo") == ["1"]
    assert values(text, "requests_total", route="other") == [str(3 * CACHED_MAX - FREE_NAMES_MAX)]
    assert values(text, "attempts_total", model="other") == [str(3 * CACHED_MAX - FREE_NAMES_MAX)]
    assert sum(map(int, values(text, "requests_total"))) == 3 * CACHED_MAX + 1


@pytest.mark.parametrize("name", ["sk-or-v1-0123456789abcdef", "gsk_0123456789abcd", "a b", "x" * 200, 'quo"te', "é"])
def test_a_name_no_model_has_is_not_shown(name: str) -> None:
    """A credential pasted into the wrong field, or text."""
    board = Board()
    meters(board.pages[0]).request_finished(finished(route=name, provider="openrouter", model=name))
    meters(board.pages[0]).attempt_ended(f"openrouter/{name}", "ok")
    assert name not in shown(board)
    assert values(shown(board), "requests_total", route="other", model="other") == ["1"]


def test_no_client_is_named() -> None:
    """Neither its key nor its tenant."""
    board = Board()
    meters(board.pages[0]).request_finished(finished())
    assert "mobile" not in shown(board)
    assert "acme" not in shown(board)


def test_a_full_page_counts_on_under_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind under its own, so that sums stay right."""
    monkeypatch.setattr(board_module, "SERIES_MAX", 4)
    board = Board()
    counting = meters(board.pages[0])
    for status in (200, 400, 402, 499):
        counting.request_finished(finished(status=status))
    counting.attempt_ended("sim/echo", "ok")
    counting.request_refused(401, "missing_api_key")
    text = shown(board)
    assert values(text, "requests_total", status="200") == ["1"]
    assert values(text, "requests_total", status="other") == ["3"]
    assert values(text, "attempts_total", outcome="other") == ["1"]
    assert values(text, "refused_requests_total", code="other") == ["1"]


def test_what_a_worker_says_of_itself_is_shown() -> None:
    """Whether it serves, and whether its table is the file's."""
    board = Board(2)
    first, _ = (meters(page) for page in board.pages)
    first.serving_begun()
    first.table_changed(is_stale=True)
    board.pages[1].cells[Vital.DEATHS] = 2
    text = shown(board)
    assert values(text, "workers_serving") == ["1"]
    assert values(text, "workers") == ["2"]
    assert values(text, "config_stale") == ["1"]
    assert values(text, "worker_deaths_total") == ["2"]
    assert values(text, "info", version="0.1.0") == ["1"]
    first.table_changed(is_stale=False)
    assert values(shown(board), "config_stale") == ["0"]
