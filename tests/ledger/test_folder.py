"""The data folder and the pepper: private from the first moment, the same for all who start together."""

from __future__ import annotations

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.errors import LedgerUnavailable
from proxy.ledger.folder import (
    PEPPER_BYTES,
    digest_key,
    digest_key_sha256,
    load_pepper,
    make_data_folder,
    make_private_file,
)


def mode(path: Path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_pepper_is_made_once_and_private(tmp_path: Path) -> None:
    """32 random bytes of mode 0600 in a folder of mode 0700, the same ever after."""
    folder = tmp_path / "deep" / "data"
    pepper = load_pepper(folder)
    assert len(pepper) == PEPPER_BYTES
    assert (mode(folder), mode(folder / "owners"), mode(folder / "pepper")) == (0o700, 0o700, 0o600)
    assert load_pepper(folder) == pepper
    assert load_pepper(tmp_path / "other") != pepper
    assert sorted(path.name for path in folder.iterdir()) == ["owners", "pepper"]


def test_all_who_start_together_agree_on_the_pepper(tmp_path: Path) -> None:
    """Whoever puts it in place first is followed by the others."""
    with ThreadPoolExecutor(8) as pool:
        for attempt in range(20):
            folder = tmp_path / f"data{attempt}"
            folder.mkdir()
            assert len(set(pool.map(load_pepper, [folder] * 8))) == 1
            assert [path.name for path in folder.iterdir() if path.is_file()] == ["pepper"]


def test_the_pepper_of_others_is_kept(tmp_path: Path) -> None:
    """A file that came between the look and the making is read, not replaced."""
    folder = tmp_path / "data"
    make_data_folder(folder)
    pepper = folder / "pepper"
    pepper.symlink_to(folder / "elsewhere")  # not there to the eye, in the way of a link
    with pytest.raises(LedgerUnavailable, match="pepper cannot be used"):
        load_pepper(folder)
    (folder / "elsewhere").write_bytes(b"p" * PEPPER_BYTES)
    assert load_pepper(folder) == b"p" * PEPPER_BYTES


def test_a_damaged_pepper_is_not_used(tmp_path: Path) -> None:
    """Half a secret would lock everybody out without a word."""
    (tmp_path / "pepper").write_bytes(b"short")
    with pytest.raises(LedgerUnavailable, match="pepper in the data folder does not hold 32 bytes; restore"):
        load_pepper(tmp_path)
    assert (tmp_path / "pepper").read_bytes() == b"short"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The message says which, without its path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnavailable, match="data cannot be used") as caught:
        make_data_folder(tmp_path / "file" / "data")
    assert str(tmp_path) not in caught.value.message


def test_a_private_file_is_left_as_it_is(tmp_path: Path) -> None:
    """Making it again neither empties nor opens it."""
    path = tmp_path / "file"
    make_private_file(path)
    assert mode(path) == 0o600
    path.write_text("kept")
    make_private_file(path)
    assert path.read_text() == "kept"


def test_keys_are_digested_under_the_pepper() -> None:
    """HMAC-SHA-256 over the hex of the key's SHA-256, so that a key known by its hash alone digests the same."""
    pepper = b"p" * PEPPER_BYTES
    key_sha256 = hashlib.sha256(b"sk-tp-1").hexdigest()
    expected = hmac.new(pepper, key_sha256.encode(), "sha256").hexdigest()
    assert digest_key(pepper, "sk-tp-1") == expected
    assert digest_key_sha256(pepper, key_sha256.upper()) == expected
    assert digest_key(b"q" * PEPPER_BYTES, "sk-tp-1") != expected
