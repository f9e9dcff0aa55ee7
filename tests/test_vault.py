"""Secrets at rest: encrypted under the variable's keys, or not kept."""

from __future__ import annotations

import pytest

from proxy.vault import SecretKeyError, Vault, VaultClosed, make_secret_key

OLD, NEW = make_secret_key(), make_secret_key()


def test_what_is_sealed_is_read_again() -> None:
    """And shows nothing of itself."""
    vault = Vault(OLD)
    sealed = vault.seal("sk-secret")
    assert "sk-secret" not in sealed
    assert vault.unseal(sealed) == "sk-secret"


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    """So a new one is put in front, everything is sealed anew, and the old one may go."""
    sealed = Vault(OLD).seal("sk-secret")
    both = Vault(f" {NEW} , {OLD},")
    assert both.unseal(sealed) == "sk-secret"
    again = both.seal_again(sealed)
    assert Vault(NEW).unseal(again) == "sk-secret"
    assert Vault(NEW).unseal(sealed) is None
    with pytest.raises(VaultClosed, match="no longer holds"):
        Vault(NEW).seal_again(sealed)


@pytest.mark.parametrize("text", [None, "", " , "])
def test_without_a_key_nothing_is_kept(text: str | None) -> None:
    """The refusal says what to do."""
    vault = Vault(text)
    with pytest.raises(VaultClosed, match="turnpike secrets key"):
        vault.seal("sk-secret")
    assert vault.unseal(Vault(OLD).seal("sk-secret")) is None


@pytest.mark.parametrize("text", ["short", f"{OLD},nonsense", "ü" * 44], ids=["short", "second", "letters"])
def test_a_text_that_is_no_key_is_refused_and_not_shown(text: str) -> None:
    """At the start, before anything is sealed under it."""
    with pytest.raises(SecretKeyError) as refused:
        Vault(text)
    assert "nonsense" not in str(refused.value)
    assert "short" not in str(refused.value)
