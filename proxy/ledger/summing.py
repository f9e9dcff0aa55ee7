"""The statement of a usage report (floor 2, no I/O): `sum_usage` of queries.sql with a question's parts put in."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.ledger.records import DIMENSIONS, TAG_PREFIX, UsageQuery
from proxy.ledger.sql import STATEMENTS
from proxy.money import UTC_NAME
from proxy.policy.calendar import find_offsets

Parameter = str | int | float

_OFFSETS_FROM_S = 1_577_836_800
"""2020, before there was a Turnpike: before it the first offset holds."""
_OFFSETS_TO_S = 2_366_841_600
"""2045: behind it the last offset holds."""


def check_dimensions(by: Sequence[str]) -> None:
    """Raise ValueError for what usage cannot be summed by."""
    unknown = [word for word in by if word not in DIMENSIONS and not word.startswith(TAG_PREFIX)]
    if unknown:
        raise ValueError(f"usage cannot be summed by {', '.join(unknown)}")


def write_sum(query: UsageQuery) -> tuple[str, list[Parameter]]:
    """Give the statement and its parameters; every word of it stands in `queries.sql`."""
    check_dimensions(query.by)
    wanted = {"from": query.from_s, "to": query.to_s, "key": query.key_name, "tenant": query.tenant}
    given = {word: value for word, value in wanted.items() if value is not None}
    offset = _write_offset(query.timezone)
    names = [f"d{place}" for place in range(1, len(query.by) + 1)]
    places = ", ".join(str(place) for place in range(1, len(query.by) + 1))
    has_tags = "tag" in query.by
    statement = STATEMENTS["sum_usage"].format(
        names="".join(f"{name}, " for name in names),
        dimensions=_join([_find_dimension(word).format(offset=offset) for word in query.by], names),
        day_dimensions=_join([_find_dimension(word, "day_") for word in query.by], names),
        conditions="".join(f" AND {STATEMENTS[f'condition_{word}']}" for word in given),
        day_conditions="".join(f" AND {_find('condition', word, 'day_')}" for word in given),
        tags=STATEMENTS["join_tags"] if has_tags else "",
        day_tags=STATEMENTS["join_day_tags"] if has_tags else "",
        groups=f"GROUP BY {places}" if places else "",
        batches=f"GROUP BY {places}, batch" if places else "GROUP BY batch",
        order=f"ORDER BY {places}" if places else "",
    )
    tags = [word.removeprefix(TAG_PREFIX) for word in query.by if word.startswith(TAG_PREFIX)]
    return statement, [*[*tags, *given.values()] * 3, -1 if query.groups_max is None else query.groups_max]


def _find_dimension(word: str, prefix: str = "") -> str:
    return _find("dimension", "tag_value" if word.startswith(TAG_PREFIX) else word, prefix)


def _find(kind: str, word: str, prefix: str) -> str:
    """Give a part; what is no different for days is that of attempts."""
    return STATEMENTS.get(f"{prefix}{kind}_{word}") or STATEMENTS[f"{kind}_{word}"]


def _join(expressions: Sequence[str], names: Sequence[str]) -> str:
    named = zip(expressions, names, strict=True)
    return "".join(f"coalesce({expression}, '') AS {name}, " for expression, name in named)


def _write_offset(timezone: str) -> str:
    """Say how far a zone's clock is from UTC at an attempt's moment."""
    if timezone == UTC_NAME:
        return ""
    *changes, last = find_offsets(timezone, _OFFSETS_FROM_S, _OFFSETS_TO_S)
    cases = " ".join(STATEMENTS["offset_until"].format(**change._asdict()) for change in changes)
    return f" + CASE {cases} ELSE {last.offset_s} END" if changes else f" + {last.offset_s}"
