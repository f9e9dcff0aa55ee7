"""A replaying upstream: recorded provider traffic served byte for byte, torn wherever a seed says.

The recordings lie beside the repository, not in it: when absent, `recordings` gives an empty list, and callers skip.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.faults.framing import EVENT_STREAM, JSON, Framing, apart, framed, torn
from tests.faults.steps import Ask, Mode, Outcome, Send, Step

RECORDINGS: Final = Path(__file__).resolve().parents[2].parent / "shared" / "recordings"
# Written anew for the framing in use.
FRAMING_HEADERS: Final = frozenset(
    ("content-type", "content-length", "content-encoding", "transfer-encoding", "connection")
)


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded exchange."""

    id: str
    vendor: str
    dialect: str
    features: frozenset[str]
    path: str
    request: dict[str, Any]
    is_made_up: bool
    """The request is a stand-in: only the answer was recorded."""
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def is_stream(self) -> bool:
        """Whether the answer is an event stream."""
        return dict(self.headers).get("content-type", "").startswith("text/event-stream")


def recordings(dialects: Collection[str] = (), *, folder: Path = RECORDINGS) -> list[Recording]:
    """Load the recordings of these dialects (all when none is named), in the order of their ids."""
    loaded = (_load(file) for file in sorted(folder.glob("*/*.json")))
    return [recording for recording in loaded if not dialects or recording.dialect in dialects]


def _load(file: Path) -> Recording:
    data = json.loads(file.read_text(encoding="utf-8"))
    request, response = data["request"], data["response"]
    return Recording(
        id=data["id"],
        vendor=data["vendor"],
        dialect=data["dialect"],
        features=frozenset(data["features"]),
        path=request["path"],
        request=request["body"],
        is_made_up=bool(request.get("made_up")),
        status=response["status"],
        headers=tuple((name.lower(), value) for name, value in response["headers"].items()),
        body=response["body"].encode(),
    )


def replay(recording: Recording, *, seed: int | None = None, framing: Framing = Framing.CHUNKED) -> Mode:
    """Serve a recording: in one piece without a seed, else torn at that seed's positions, inside characters too."""
    outcome = Outcome.ANSWER if recording.status == 200 else Outcome.REFUSED

    def plan(_ask: Ask) -> Iterator[Step]:
        parts = [recording.body] if seed is None else torn(recording.body, seed=seed)
        kind = dict(recording.headers).get("content-type") or (EVENT_STREAM if recording.is_stream else JSON)
        kept = [pair for pair in recording.headers if pair[0] not in FRAMING_HEADERS]
        pieces: Sequence[Step] = list(apart(parts)) if seed is not None else [Send(part) for part in parts]
        return framed(pieces, framing=framing, content_type=kind, status=recording.status, headers=kept)

    return Mode(f"replay {recording.id}", plan, stream=outcome, json=outcome, status=recording.status)
