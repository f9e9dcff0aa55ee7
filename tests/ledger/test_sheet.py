"""One transaction for many calls says and writes exactly what a transaction for each of them would."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.ledger import schema
from proxy.ledger.books import Books
from proxy.ledger.committer import Call, _run_freely, _run_guarded
from proxy.ledger.records import Admission, AttemptEnd
from proxy.ledger.shelves import SqliteStore
from proxy.money import Budget, Period
from proxy.policy.limits import NO_LIMITS, Limits, Measure, Rate
from proxy.usage import Usage
from tests.ledger.entries import HOUR_S, NOON_S, key, onward, over, posted, start, voided

RATES = (Rate(Measure.REQUESTS, 6, 60), Rate(Measure.TOKENS, 200, 60), Rate(Measure.REQUESTS, 9, 3_600))
LIMITS = {
    "key:a": Limits((Budget(300, Period.HOUR), Budget(900, Period.TOTAL)), parallel=4),
    "tenant:acme": Limits((Budget(700, Period.DAY),), rates=RATES[1:]),
    "global": Limits(users=Limits((Budget(150, Period.DAY),), parallel=2), tags=(("job", Limits(rates=RATES[:1])),)),
    "provider:b": Limits((Budget(120, Period.DAY),), rates=RATES[:1]),
}
TABLES = {
    "attempts": "SELECT seq, request_id, number, is_last, state, at_s, cost_nano_usd, charged FROM attempts",
    "balances": "SELECT * FROM balances ORDER BY 1, 2, 3",
    "rates": "SELECT * FROM rates ORDER BY 1, 2, 3",
    "attempt_tags": "SELECT * FROM attempt_tags ORDER BY 1, 2, 3",
}


class Deed(NamedTuple):
    """One call, in words a strategy can make."""

    kind: str
    which: int
    amount: int
    after_s: float


deeds = st.lists(
    st.builds(
        Deed,
        st.sampled_from(["admit"] * 5 + ["settle"] * 3 + ["advance", "void", "put", "limit"]),
        st.integers(0, 7),
        st.integers(0, 60),
        st.sampled_from([0.0] * 12 + [0.2, 1.0, 45.0, HOUR_S]),
    ),
    min_size=10,
    max_size=50,
)


def write_call(deed: Deed, books: Books, now_s: float, revision: int) -> Call[object, object]:
    """Make the call of a deed."""
    name, request_id = "ab"[deed.which % 2], f"r{deed.which}"
    work: object
    argument: object
    if deed.kind == "admit":
        begins = start(1, deed.amount, provider="ab"[deed.which // 2 % 2])._replace(tokens=deed.amount)
        work = books.admit
        argument = Admission(
            request_id, name, revision, "acme", "chat", None, False, now_s, (begins,),
            user=f"u{deed.which % 3}", tags=(("job", str(deed.which % 2)),),
        )  # fmt: skip
    elif deed.kind == "advance":
        end: AttemptEnd = voided(1) if deed.amount % 2 else posted(1, deed.amount)
        work, argument = books.advance, onward(request_id, end, start(2, deed.amount, provider="b"), at_s=now_s)
    elif deed.kind == "settle":
        usage = Usage(input_tokens=deed.amount, output_tokens=1)
        ends = [posted(number, deed.amount, usage=usage) for number in (1, 2)]
        work, argument = books.settle, over(request_id, *ends[: 1 + deed.which % 2], at_s=now_s)
    elif deed.kind == "void":
        work, argument = books.void, (request_id, (start(1, 0), start(2, 0)), now_s)
    elif deed.kind == "limit":
        place = list(LIMITS)[deed.which % len(LIMITS)]
        work, argument = change(), (place, LIMITS[place] if deed.amount % 2 else NO_LIMITS)
    else:
        work, argument = books.prune_rates, now_s
    is_shared = deed.kind not in {"void", "put", "limit"}
    return Call(work, argument, future=None, is_kept=False, is_shared=is_shared)  # type: ignore[arg-type]  # a test's


def play(
    plan: Sequence[Deed], cuts: Sequence[int], *, is_guarded: bool
) -> tuple[list[object], dict[str, list[object]]]:
    """Run the deeds in batches of these sizes; gives what each was told and what then stands in the tables."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        schema.prepare(path, 1.0)
        with closing(schema.connect(path)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            books = Books("owner")
            revision = begin(books, connection)
            now_s, told, left = NOON_S, [], list(plan)
            for size in [*cuts, len(plan) or 1]:
                batch = []
                for deed in left[:size]:
                    now_s += deed.after_s
                    batch.append(write_call(deed, books, now_s, revision))
                left = left[size:]
                told += run(batch, books, connection, is_guarded=is_guarded)
            return told, {table: connection.execute(statement).fetchall() for table, statement in TABLES.items()}


def change() -> Callable[[sqlite3.Cursor, tuple[str, Limits]], None]:
    """Let other limits hold, and the keys be as they were, so that the next admissions are no stale ones."""

    def work(cursor: sqlite3.Cursor, argument: tuple[str, Limits]) -> None:
        SqliteStore(cursor).put_limits(*argument)
        cursor.execute("UPDATE keys SET revision = 7")

    return work


def begin(books: Books, connection: sqlite3.Connection) -> int:
    """Put the keys and their limits in; gives the keys' revision."""
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    books.sheet.begin(cursor)
    store = SqliteStore(cursor)
    for name in "ab":
        store.insert_key(key(name, limit=None))
    for place, limits in LIMITS.items():
        store.put_limits(place, limits)
    cursor.execute("UPDATE keys SET revision = 7")
    cursor.execute("COMMIT")
    return 7


def run(
    batch: list[Call[object, object]], books: Books, connection: sqlite3.Connection, *, is_guarded: bool
) -> list[object]:
    """Commit one batch as the writer does; a call that fails is told its kind of mistake."""
    cursor = connection.cursor()
    if is_guarded or not _run_freely(cursor, batch, books.sheet):
        _run_guarded(cursor, batch, books.sheet)
    cursor.execute("COMMIT")
    return [type(call.error) if call.error is not None else call.outcome for call in batch]


@settings(deadline=None, max_examples=25)
@given(deeds, st.lists(st.integers(1, 20), max_size=5))
def test_a_batch_does_what_its_calls_alone_would_do(plan: list[Deed], cuts: list[int]) -> None:
    """Every refusal, every row, every balance, every piece of a rate."""
    alone = play(plan, [1] * len(plan), is_guarded=True)
    together = play(plan, cuts, is_guarded=False)
    assert together == alone
