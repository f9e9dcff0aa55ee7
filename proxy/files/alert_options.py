"""The members of `alerts` in routes.yaml (part of `files`, floor 2)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from proxy.files import values
from proxy.files.options import Options


class AlertOptions(Options):
    """What is watched, and who is told."""

    later: ClassVar[tuple[str, ...]] = ("every",)

    when: list[values.AlertRule] = Field(
        description="What is told, once when it begins and once when it ends.",
        examples=[["spend > 80%", "provider_down", "error_rate > 10%"]],
    )
    webhook: values.WebhookUrl | None = Field(
        None, description="Where it is told, best as ${VAR}: https and a public address. The log always tells."
    )
    format: Literal["slack", "json"] = Field(
        "slack", description="`slack` for Slack, Mattermost, Discord's /slack; `json` is signed with `secret`."
    )
    secret: values.WebhookSecret | None = Field(
        None, description="Messages are signed with it (x-turnpike-signature); `format: json` needs one."
    )
    allow_private: bool = Field(default=False, description="The webhook may be plain http or a private address.")
    keys: list[values.Name] | None = Field(
        None, description="`spend` is watched of each of these keys, not of the whole gateway.", examples=[["mobile"]]
    )
    tenants: list[values.Name] | None = Field(
        None, description="`spend` is watched of each of these tenants.", examples=[["acme"]]
    )
