"""Alerts of a table: rules, whom they are about, and webhooks that may be called (part of `files`, floor 2)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from proxy.files.alert_options import AlertOptions
from proxy.files.document import Node
from proxy.files.problems import Problems
from proxy.money import UTC_NAME
from proxy.policy.addresses import find_host_fault
from proxy.policy.rules import Signal
from proxy.routing.table import Alert, DeclaredKey, Secret, Tenant, Webhook

ALERTS_MAX = 50
RULES_MAX = 50
"""Of one entry."""
ID_HEX_DIGITS = 12
OPERATORS_CHOICE = "or say `allow_private: true` when that is your choice"


def build_alerts(
    entries: Sequence[AlertOptions],
    tenants: Mapping[str, Tenant],
    timezone: str,
    *,
    node: Node,
    problems: Problems,
) -> tuple[Alert, ...]:
    """Give every alert; findings are noted and never show an address. `timezone` is whose calendar `spend` follows."""
    if len(entries) > ALERTS_MAX:
        problems.add(node, f"more than {ALERTS_MAX} alerts; put rules for one webhook into one entry")
    alerts = []
    for index, options in enumerate(entries[:ALERTS_MAX]):
        here = node.at(index)
        scopes = _name_scopes(options, tenants, here, problems)
        rules = dict.fromkeys(
            replace(rule, scopes=scopes, timezone=timezone if rule.period else UTC_NAME) for rule in options.when
        )
        _check_rules(options, scopes, here, problems)
        alerts.append(Alert(tuple(rules), _build_webhook(options, here, problems)))
    return tuple(alerts)


def note_undeclared(alerts: Sequence[Alert], keys: Sequence[DeclaredKey]) -> list[str]:
    """Say which keys are watched that do not stand in the file: minted ones may, misspelt ones are told by this."""
    declared = {f"key:{key.name}" for key in keys}
    watched = dict.fromkeys(scope for alert in alerts for rule in alert.rules for scope in rule.scopes)
    names = [scope[len("key:") :] for scope in watched if scope.startswith("key:") and scope not in declared]
    return [f"alerts watch keys that are not declared here: {', '.join(names)}; they must be minted"] if names else []


def _name_scopes(options: AlertOptions, tenants: Collection[str], node: Node, problems: Problems) -> tuple[str, ...]:
    for word, names in (("keys", options.keys), ("tenants", options.tenants)):
        if names is not None and not names:
            problems.add(node.at(word), f"name at least one, or leave `{word}` out")
    for position, name in enumerate(options.tenants or ()):
        if name not in tenants:
            near = problems.suggest(name, tenants) or "; add it under `tenants`"
            problems.add(node.at("tenants", position), f"there is no tenant `{name}`{near}")
    return (*(f"key:{name}" for name in options.keys or ()), *(f"tenant:{name}" for name in options.tenants or ()))


def _check_rules(options: AlertOptions, scopes: tuple[str, ...], node: Node, problems: Problems) -> None:
    if not options.when and not node.at("when").is_wounded:
        problems.add(node.at("when"), "name at least one thing to watch: `when: [spend > 80%, provider_down]`")
    if len(options.when) > RULES_MAX:
        problems.add(node.at("when"), f"more than {RULES_MAX} rules in one entry")
    for position, rule in enumerate(options.when):
        if scopes and rule.signal is not Signal.SPEND:
            message = f"`{rule.signal}` is about the whole gateway; put it into an entry without `keys` and `tenants`"
            problems.add(node.at("when", position), message)


def _build_webhook(options: AlertOptions, node: Node, problems: Problems) -> Webhook | None:
    if options.format == "json" and options.secret is None and not node.is_wounded:
        problems.add(node.at("format"), '`format: json` is signed; give it a secret: `secret: "${NAME}"`')
    if options.webhook is None:
        if options.secret is not None and not node.is_wounded:
            problems.add(node.at("secret"), "there is nothing to sign without a `webhook`")
        return None
    fault = _find_fault(options.webhook, allow_private=options.allow_private)
    if fault is not None:
        problems.add(node.at("webhook"), fault)
    return Webhook(
        id=hashlib.sha256(options.webhook.encode()).hexdigest()[:ID_HEX_DIGITS],
        url=Secret(options.webhook),
        format=options.format,
        secret=None if options.secret is None else Secret(options.secret),
        allow_private=options.allow_private,
    )


def _find_fault(url: str, *, allow_private: bool) -> str | None:
    """Tell why a webhook is refused as it is written; what its name resolves to is looked at before each call."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not allow_private:
        return f"a webhook needs https; write https://, {OPERATORS_CHOICE}"
    fault = find_host_fault(parts.hostname or "", allow_private=allow_private)
    if fault is None:
        return None
    remedy = "" if allow_private else f", {OPERATORS_CHOICE}"
    return f"the webhook's host {fault}; name a public one{remedy}"
