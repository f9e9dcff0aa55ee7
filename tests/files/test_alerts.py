"""The words of `alerts`: the grammar of rules, webhooks that may be called, and who is watched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.files.alerts import ALERTS_MAX, RULES_MAX
from proxy.files.rules import parse_rule
from proxy.money import Period
from proxy.policy.rules import Rule, Signal
from proxy.routing.table import Alert
from tests.files.tables import find_problems, load

MODELS = "models: {chat: openai/gpt-4o}\n"
URL = "https://hooks.example.com/T000/secrettoken"


@pytest.mark.parametrize(
    ("text", "rule", "shown"),
    [
        ("spend > 80%", Rule(Signal.SPEND, share_ppm=800_000), "spend > 80%"),
        ("spend>99.5%", Rule(Signal.SPEND, share_ppm=995_000), "spend > 99.5%"),
        ("spend > 150%", Rule(Signal.SPEND, share_ppm=1_500_000), "spend > 150%"),
        (
            "spend > $10/day",
            Rule(Signal.SPEND, amount_nano_usd=10_000_000_000, period=Period.DAY),
            "spend > $10/day",
        ),
        (" spend >$0.50 / hour ", Rule(Signal.SPEND, amount_nano_usd=500_000_000, period=Period.HOUR), None),
        (
            "spend > $100",
            Rule(Signal.SPEND, amount_nano_usd=100_000_000_000, period=Period.TOTAL),
            "spend > $100/total",
        ),
        (
            "upstream_credits < $5.00",
            Rule(Signal.UPSTREAM_CREDITS, amount_nano_usd=5_000_000_000),
            "upstream_credits < $5",
        ),
        ("provider_down", Rule(Signal.PROVIDER_DOWN), "provider_down"),
        ("error_rate > 10%", Rule(Signal.ERROR_RATE, share_ppm=100_000), "error_rate > 10%"),
        ("p95_first_token > 10s", Rule(Signal.P95_FIRST_TOKEN, limit_ms=10_000), "p95_first_token > 10s"),
        ("p95_first_token > 1500ms", Rule(Signal.P95_FIRST_TOKEN, limit_ms=1_500), "p95_first_token > 1.5s"),
        ("unknown_price", Rule(Signal.UNKNOWN_PRICE), "unknown_price"),
        ("overrun", Rule(Signal.OVERRUN), "overrun"),
        ("drift", Rule(Signal.DRIFT), "drift"),
        ("drift > 2%", Rule(Signal.DRIFT, share_ppm=20_000), "drift > 2%"),
        ("drift > $5", Rule(Signal.DRIFT, amount_nano_usd=5_000_000_000), "drift > $5"),
    ],
)
def test_rules_are_read(text: str, rule: Rule, shown: str | None) -> None:
    """Each form, and its one spelling, which is read as the same rule again."""
    assert parse_rule(text) == rule
    assert rule.text == (shown or "spend > $0.50/hour")
    assert parse_rule(rule.text) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a rule"),
        ("> 80%", "not a rule"),
        ("spend above 80%", "not a rule"),
        ("x" * 300, "not a rule"),
        ("spent > 80%", "did you mean `spend`?"),
        ("errorrate > 10%", "did you mean `error_rate`?"),
        ("qwertz", "known: spend, upstream_credits"),
        ("spend", "write it as spend > 80%"),
        ("spend < 80%", "write it as spend > 80%"),
        ("spend >= 80%", "write it as spend > 80%"),
        ("spend > 80", "write it as spend > 80%"),
        ("spend > 0%", "can never be passed"),
        ("spend > 80%/day", "write it as spend > 80%"),
        ("spend > $10/fortnight", "'fortnight' is not a period"),
        ("upstream_credits > $5", "write it as upstream_credits < $5"),
        ("upstream_credits < 5%", "write it as upstream_credits < $5"),
        ("upstream_credits < $5/day", "write it as upstream_credits < $5"),
        ("upstream_credits < $0", "is nothing"),
        ("provider_down > 3", "write it as provider_down"),
        ("error_rate > 100%", "can never be passed"),
        ("error_rate > $1", "write it as error_rate > 10%"),
        ("p95_first_token > 10", "is not a duration"),
        ("p95_first_token > 0s", "no time at all"),
        ("overrun > $1", "write it as overrun"),
        ("drift < 2%", "write it as drift (0.5% or $1)"),
        ("drift > 200%", "can never be passed"),
        ("drift > 2", "write it as drift (0.5% or $1)"),
    ],
)
def test_a_bad_rule_names_the_form_wanted(text: str, message: str) -> None:
    """The grammar is closed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_rule(text)


def load_alerts(folder: Path, alerts: str, **environ: str) -> tuple[Alert, ...]:
    """Load a table with these alerts."""
    return load(folder, f"{MODELS}tenants: {{acme: }}\nalerts:\n  - {alerts}\n", environ).alerts


def refuse(folder: Path, alerts: str, **environ: str) -> str:
    """Load a table whose alerts are bad; gives the one finding, with its place."""
    (found,) = find_problems(folder, f"{MODELS}tenants: {{acme: }}\nalerts:\n  - {alerts}\n", environ)
    assert URL not in str(found)
    assert "secrettoken" not in str(found)
    return f"{found.line}:{found.column}: {found.path}: {found.message}"


def test_an_entry_is_read_whole(tmp_path: Path) -> None:
    """Address and secret from variables, and neither shows itself."""
    (alert,) = load_alerts(
        tmp_path,
        '{webhook: "${HOOK}", format: json, secret: "${SECRET}", when: [spend > 80%, spend>80.0%, provider_down]}',
        HOOK=URL,
        SECRET="0123456789abcdef",
    )
    webhook = alert.webhook
    assert webhook is not None
    assert [rule.text for rule in alert.rules] == ["spend > 80%", "provider_down"]
    assert (webhook.url.reveal(), webhook.format, webhook.allow_private) == (URL, "json", False)
    assert webhook.secrets == (URL, "T000/secrettoken", "0123456789abcdef")
    assert len(webhook.id) == 12
    assert "secrettoken" not in repr(alert)


def test_without_a_webhook_the_log_tells(tmp_path: Path) -> None:
    """Which it does anyway."""
    (alert,) = load_alerts(tmp_path, "{when: [overrun]}")
    assert alert == Alert((Rule(Signal.OVERRUN),), None)


def test_spend_may_be_watched_of_keys_and_tenants(tmp_path: Path) -> None:
    """Only spend: the rest is about the whole gateway."""
    (alert,) = load_alerts(tmp_path, "{when: [spend > 80%, spend > $1/day], keys: [mobile, web], tenants: [acme]}")
    assert {rule.scopes for rule in alert.rules} == {("key:mobile", "key:web", "tenant:acme")}
    table = load(tmp_path, f"{MODELS}alerts: [{{when: [spend > 80%], keys: [mobil]}}]\n")
    assert any("not declared here: mobil" in note for note in table.notes)
    found = refuse(tmp_path, "{when: [spend > 80%, overrun], keys: [mobile]}")
    assert "`overrun` is about the whole gateway; put it into an entry without `keys` and `tenants`" in found


@pytest.mark.parametrize(
    ("alerts", "path", "message"),
    [
        ("{when: [¦spent > 80%]}", "when.0", "did you mean `spend`?"),
        ("{¦when: []}", "when", "name at least one thing to watch"),
        ("¦{webhook: U}", "", "`when` is missing"),
        ("{when: [overrun], ¦every: 1h}", "every", "not available yet"),
        ("{when: [overrun], webhook: U, ¦format: teams}", "format", "is not one of slack, json"),
        ("{when: [overrun], webhook: U, ¦format: json}", "format", "give it a secret"),
        ("{when: [overrun], webhook: U, ¦secret: short}", "secret", "16 to 256 visible"),
        ("{when: [overrun], ¦secret: 0123456789abcdef-}", "secret", "nothing to sign"),
        ("{when: [spend > 80%], ¦keys: []}", "keys", "name at least one"),
        ("{when: [spend > 80%], tenants: [¦acmi]}", "tenants.0", "did you mean `acme`?"),
        ("{when: [overrun], ¦webhook: V}", "webhook", "a webhook needs https"),
        ('{when: [overrun], ¦webhook: "${NONE}"}', "webhook", "NONE is not set"),
    ],
)
def test_findings_name_the_place_and_the_remedy(tmp_path: Path, alerts: str, path: str, message: str) -> None:
    """As everywhere in the file; the place is marked with a bar."""
    marked = alerts.replace("U", f'"{URL}"').replace("V", '"http://hooks.example.com/x"')
    found = refuse(tmp_path, marked.replace("¦", ""))
    assert found.startswith(f"4:{5 + marked.index('¦')}: alerts.0{path and '.'}{path}: ")
    assert message in found


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://hooks.example.com/x", "a webhook needs https"),
        ("https://127.0.0.1/x", "is not a public address"),
        ("https://[::1]/x", "is not a public address"),
        ("https://[::ffff:10.0.0.1]/x", "is not a public address"),
        ("https://localhost/x", "is a private name"),
        ("https://mattermost/x", "is a private name"),
        ("https://2130706433/x", "is a number"),
        ("https://169.254.169.254/latest", "nothing may be sent to"),
        ("https://user:pw@hooks.example.com/x", "no user, password"),
        ("https://hooks.example.com/x#y", "no user, password or fragment"),
        ("https://hooks.example.com\\\\@127.0.0.1/x", "no backslash"),
        ("https://hooks.example.com:0/x", "not an http or https URL"),
        ("https://hooks.example.com:99999/x", "not a URL"),
        ("ftp://hooks.example.com/x", "not an http or https URL"),
        ("https:///x", "not an http or https URL"),
        ("https://höoks.example/x", "ASCII"),
    ],
)
def test_a_webhook_that_may_not_be_called_is_refused_when_the_file_is_read(
    tmp_path: Path, url: str, message: str
) -> None:
    """As far as it can be told without asking a name server, and without showing the address."""
    found = refuse(tmp_path, f'{{when: [overrun], webhook: "{url}"}}')
    assert message in found
    assert "/x" not in found


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "https://mattermost/hooks/1", "http://[::1]:8065/x?y=1"])
def test_private_webhooks_are_the_operators_choice(tmp_path: Path, url: str) -> None:
    """By one word."""
    (alert,) = load_alerts(tmp_path, f'{{when: [overrun], allow_private: true, webhook: "{url}"}}')
    assert alert.webhook is not None
    assert alert.webhook.allow_private


def test_some_are_nobodys_choice(tmp_path: Path) -> None:
    """A machine's credentials are not for sending alerts to."""
    found = refuse(tmp_path, '{when: [overrun], allow_private: true, webhook: "http://169.254.169.254/x"}')
    assert "nothing may be sent to" in found
    assert "allow_private" not in found


def test_spend_follows_the_calendar_of_the_file(tmp_path: Path) -> None:
    """As its budgets do."""
    (alert,) = load(
        tmp_path, f"{MODELS}timezone: Europe/Berlin\nalerts: [{{when: [spend > $1/day, overrun]}}]\n"
    ).alerts
    assert [rule.timezone for rule in alert.rules] == ["Europe/Berlin", "UTC"]


def test_too_many_are_refused(tmp_path: Path) -> None:
    """Entries and rules have limits."""
    entries = "".join("  - {when: [overrun]}\n" for _ in range(ALERTS_MAX + 1))
    (found,) = find_problems(tmp_path, f"{MODELS}alerts:\n{entries}")
    assert f"more than {ALERTS_MAX} alerts" in found.message
    rules = ", ".join(f"spend > {number + 1}%" for number in range(RULES_MAX + 1))
    assert f"more than {RULES_MAX} rules" in refuse(tmp_path, f"{{when: [{rules}]}}")
