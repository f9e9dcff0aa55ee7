"""Metrics as text: every sample under its type, histograms that add up, names that cannot break a line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry import Board, Meters, Names, expose
from proxy.telemetry.exposition import MS_PER_S, _decimal
from tests.telemetry.figures import finished, meters, samples, values


def test_every_sample_stands_under_its_type() -> None:
    """Each metric is declared once, before its samples, and none twice."""
    board = Board()
    meters(board.pages[0]).request_finished(finished())
    declared: list[str] = []
    seen = set()
    for line in expose(board, version="1").decode().splitlines():
        if line.startswith("# TYPE "):
            declared.append(line.split()[2])
        elif not line.startswith("#"):
            name = line.partition("{")[0].partition(" ")[0]
            assert any(name == declared[-1] + ending for ending in ("", "_bucket", "_sum", "_count"))
            assert line.rpartition(" ")[0] not in seen
            seen.add(line.rpartition(" ")[0])
    assert len(declared) == len(set(declared))


@given(st.lists(st.integers(0, 100_000), max_size=20))
def test_a_histogram_adds_up(times_ms: list[int]) -> None:
    """Buckets never fall, the last is the count, and the sum is that of the times."""
    board = Board()
    counting = meters(board.pages[0])
    for time_ms in times_ms:
        counting.request_finished(finished(latency_ms=time_ms))
    text = expose(board, version="1").decode()
    if not times_ms:
        assert values(text, "request_seconds_count") == []
        return
    buckets = [int(value) for value in values(text, "request_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert [str(buckets[-1])] == values(text, "request_seconds_count") == [str(len(times_ms))]
    assert float(*values(text, "request_seconds_sum")) == sum(times_ms) / MS_PER_S


@given(st.text(min_size=1, max_size=50))
def test_no_name_breaks_a_line(name: str) -> None:
    """What an operator calls a route may hold anything; readers get it back as it is."""
    board = Board()
    counting = Meters(board.pages[0], names=lambda: Names(routes=frozenset({name})))
    counting.request_finished(finished(route=name))
    text = expose(board, version="1").decode("utf-8", "surrogatepass").replace("\r", "?")
    rows = text.split("\n")
    assert len(rows) == len([row for row in rows if row.startswith(("turnpike_", "# "))]) + 1


def test_an_idle_server_shows_gauges_and_no_series() -> None:
    """Nothing is invented."""
    text = expose(Board(4), version="1").decode()
    assert values(text, "workers") == ["4"]
    assert values(text, "requests_total") == []
    assert not any("other" in labels.values() for _, labels, _ in samples(text))


@given(st.integers(0, 10**12))
def test_times_are_written_exactly(value: int) -> None:
    """As decimal numbers without an exponent."""
    written = _decimal(value, 1_000_000)
    whole, _, part = written.partition(".")
    assert int(whole) * 1_000_000 + int(part.ljust(6, "0") or 0) == value
