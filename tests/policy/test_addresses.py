"""Which hosts and addresses may be called: one table, as they are written and as a name server gives them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from proxy.policy.addresses import find_fault, find_host_fault, is_public, read_address

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "198.17.255.255",
    "198.20.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]
PRIVATE = [
    "10.0.0.1",
    "127.0.0.1",
    "127.255.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.0",
    "100.127.255.255",
    "0.1.2.3",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "::10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::10.0.0.1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "5f00::1",
    "100::1",
]
NEVER = [
    "0.0.0.0",  # noqa: S104  # an address to be refused, not to listen on
    "::",
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "224.0.0.1",
    "ff02::1",
    "fe80::1",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "::ffff:0.0.0.0",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_may_be_called(text: str) -> None:
    """Also those that wrap one of IPv4."""
    assert is_public(ip_address(text))
    assert find_fault(ip_address(text), allow_private=False) is None


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_need_the_operators_word(text: str) -> None:
    """Ranges of one's own, of documentation, of tunnels, and whatever wraps one of these."""
    assert not is_public(ip_address(text))
    assert find_fault(ip_address(text), allow_private=False) == "is not a public address"
    assert find_fault(ip_address(text), allow_private=True) is None


@pytest.mark.parametrize("text", NEVER)
def test_some_addresses_are_never_called(text: str) -> None:
    """Where clouds answer with a machine's credentials, and what is no host at all."""
    assert find_fault(ip_address(text), allow_private=True) == "is an address nothing may be sent to"
    assert find_fault(ip_address(text), allow_private=False) == "is an address nothing may be sent to"
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    ("host", "fault", "private_fault"),
    [
        ("hooks.slack.com", None, None),
        ("hooks.slack.com.", None, None),
        ("xn--bcher-kva.example", None, None),
        ("8.8.8.8", None, None),
        ("10.0.0.1", "is not a public address", None),
        ("::1", "is not a public address", None),
        ("localhost", "is a private name", None),
        ("LOCALHOST.", "is a private name", None),
        ("mattermost", "is a private name", None),
        ("hooks.internal", "is a private name", None),
        ("printer.local", "is a private name", None),
        ("a.localhost", "is a private name", None),
        ("localhost.example", None, None),
        ("2130706433", "is a number", "is a number"),
        ("0x7f000001", "is a number", "is a number"),
        ("0177.0.0.1", "is a number", "is a number"),
        ("127.1", "is a number", "is a number"),
        ("0x7f.1", "is a number", "is a number"),
        ("127.0.0.1.", "is a number", "is a number"),
        ("169.254.169.254", "nothing may be sent to", "nothing may be sent to"),
        ("fe80::1%eth0", "is not the name of a host", "is not the name of a host"),
        ("a b", "is not the name of a host", "is not the name of a host"),
        ("a\\b.example", "is not the name of a host", "is not the name of a host"),
        ("a..b", "is not the name of a host", "is not the name of a host"),
        ("x" * 254, "is not the name of a host", "is not the name of a host"),
        ("", "is not the name of a host", "is not the name of a host"),
    ],
)
def test_hosts_as_they_are_written(host: str, fault: str | None, private_fault: str | None) -> None:
    """What can be told without asking a name server is told when the file is read."""
    for allow_private, wanted in ((False, fault), (True, private_fault)):
        found = find_host_fault(host, allow_private=allow_private)
        assert found is None if wanted is None else wanted in (found or ""), (host, found)


def test_a_name_is_no_address() -> None:
    """And neither is one with a zone."""
    assert read_address("example.com") is None
    assert read_address("fe80::1%1") is None
    assert read_address("::1") == ip_address("::1")
