"""The members of config/providers.yaml, which ships with Turnpike (part of `files`, floor 2)."""

from __future__ import annotations

from pydantic import Field

from proxy.files import values
from proxy.files.options import Options
from proxy.files.schema import ProviderOptions
from proxy.routing.table import ProviderFlags

CALL_ID_CHARACTERS_MAX = 64


class FlagOptions(Options):
    """How a known provider differs from the plain OpenAI dialect (config/providers.yaml)."""

    stream_usage: bool = True
    max_tokens_field: values.Text = "max_tokens"
    billed_when_cut: bool = True
    stops_when_left: list[values.Text] = Field(default_factory=list)
    key_header: values.Text = "authorization"
    call_id_chars: int | None = Field(None, ge=1, le=CALL_ID_CHARACTERS_MAX)
    unsupported: list[values.Text] = Field(default_factory=list)
    renamed: dict[values.Text, values.Text] = Field(default_factory=dict)


class KnownProvider(ProviderOptions):
    """One entry of config/providers.yaml."""

    key_variables: list[values.Text] = Field(default_factory=list)
    flags: FlagOptions = FlagOptions()


class KnownProviders(Options):
    """config/providers.yaml."""

    providers: dict[values.ProviderName, KnownProvider]


def build_flags(known: KnownProvider | None) -> ProviderFlags:
    """Turn the `flags:` of a known provider into its differences; one that is not known has none."""
    if known is None:
        return ProviderFlags()
    return ProviderFlags(
        stream_usage=known.flags.stream_usage,
        max_tokens_field=known.flags.max_tokens_field,
        billed_when_cut=known.flags.billed_when_cut,
        stops_when_left=frozenset(name.casefold() for name in known.flags.stops_when_left),
        key_header=known.flags.key_header,
        call_id_chars=known.flags.call_id_chars,
        unsupported=frozenset(known.flags.unsupported),
        renamed=known.flags.renamed,
    )
