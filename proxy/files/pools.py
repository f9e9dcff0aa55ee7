"""Pools of upstream keys: `api_keys` of a provider (part of `files`, floor 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.files.document import Node
from proxy.files.environment import Credential
from proxy.files.limit_options import UpstreamKeyOptions
from proxy.files.problems import Problems
from proxy.routing.table import UpstreamKey


@dataclass(frozen=True, slots=True)
class Pool:
    """The keys of one provider that are set, and why the others are left out."""

    keys: tuple[UpstreamKey, ...]
    missing: tuple[str, ...]

    @property
    def credential(self) -> Credential:
        """Give its first key, or why there is none at all."""
        if self.keys:
            return Credential(self.keys[0].secret)
        return Credential(missing="no key of its pool is usable: " + ", ".join(self.missing))


def build_pool(entries: Sequence[UpstreamKeyOptions]) -> Pool:
    """Give the keys of a pool in the order of the file."""
    labelled = list(zip(_labels(entries), entries, strict=True))
    return Pool(
        tuple(
            UpstreamKey(label, entry.key.secret, tuple(dict.fromkeys(entry.rate or ())), is_free=entry.free)
            for label, entry in labelled
            if entry.key.secret is not None
        ),
        tuple(f"{label}: {entry.key.missing}" for label, entry in labelled if entry.key.missing is not None),
    )


def check_pool(entries: Sequence[UpstreamKeyOptions], node: Node, problems: Problems) -> None:
    """Note two keys of one name, and two of one value: what is one account's would be counted as two."""
    names: set[str] = set()
    values: dict[str, str] = {}
    for index, (label, entry) in enumerate(zip(_labels(entries), entries, strict=True)):
        place = node.at("api_keys", index)
        if label in names:
            problems.add(place.at("name"), f"two keys of the pool are named `{label}`; call one of them something else")
        names.add(label)
        secret = "" if entry.key.secret is None else entry.key.secret.reveal()
        if secret and (twin := values.setdefault(secret, label)) != label:
            problems.add(place.at("key"), f"the key has the same value as `{twin}`; keep one of them")


def label_places(provider: str, entries: Sequence[UpstreamKeyOptions]) -> list[tuple[str, UpstreamKeyOptions]]:
    """Give each key by the place its limits are kept at."""
    return [(f"upstream:{provider}/{label}", entry) for label, entry in zip(_labels(entries), entries, strict=True)]


def _labels(entries: Sequence[UpstreamKeyOptions]) -> list[str]:
    return [entry.name or str(position) for position, entry in enumerate(entries, start=1)]
