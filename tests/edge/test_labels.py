"""What a request says about itself: the app it comes from, and its tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.auth import RawHeaders
from proxy.edge.labels import APP_CHARS_MAX, LABELS, TAG_VALUE_CHARS_MAX, TAGS_MAX, read_app, read_tags
from proxy.errors import ClientError

KEY = (b"authorization", b"Bearer sk-test-secret")


def headers(*pairs: tuple[str, str]) -> RawHeaders:
    """Write headers as a server gives them."""
    return [KEY, *((name.encode(), value.encode("latin-1")) for name, value in pairs)]


@pytest.mark.parametrize(
    ("given_headers", "app"),
    [
        ([], None),
        ([("x-title", "Mobile")], "Mobile"),
        ([("x-openrouter-title", "Mobile")], "Mobile"),
        ([("x-title", "First"), ("x-openrouter-title", "Second")], "First"),
        ([("x-title", "Mobile"), ("http-referer", "https://site.example/a")], "Mobile"),
        ([("http-referer", "https://site.example:8443/private?user=7")], "site.example"),
        ([("referer", "https://site.example/")], "site.example"),
        ([("x-title", "  "), ("referer", "https://site.example/")], "site.example"),
        ([("referer", "site.example")], None),
        ([("referer", "https://[::bad")], None),
        ([("x-title", "a\x00b\x7fc")], "abc"),
        ([("x-title", "x" * 500)], "x" * APP_CHARS_MAX),
        ([("x-title", "caf\u00e9")], "caf\u00e9"),
        ([("x-title", "sk-test-secret")], None),
        ([("x-title", "sk-test-secret"), ("referer", "https://site.example")], "site.example"),
        ([("x-other", "Mobile")], None),
    ],
)
def test_an_apps_name(given_headers: list[tuple[str, str]], app: str | None) -> None:
    """The title, else the site's host without its path; printable, short, and never the key."""
    assert read_app(headers(*given_headers)) == app


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("job=42", (("job", "42"),)),
        ("job=42, customer=acme", (("customer", "acme"), ("job", "42"))),
        (" b = 2 ,a=1", (("a", "1"), ("b", "2"))),
        ("path=/a/b=c", (("path", "/a/b=c"),)),
        ("A.b_c-9=x y", (("A.b_c-9", "x y"),)),
        (f"job={'x' * TAG_VALUE_CHARS_MAX}", (("job", "x" * TAG_VALUE_CHARS_MAX),)),
        (",".join(f"t{number}=1" for number in range(TAGS_MAX)), tuple((f"t{n}", "1") for n in range(TAGS_MAX))),
    ],
)
def test_tags(value: str, tags: tuple[tuple[str, str], ...]) -> None:
    """Names and values, sorted by name."""
    assert read_tags(headers(("x-turnpike-tags", value))) == tags


def test_no_header_is_no_tags() -> None:
    """Nor is one that has nothing to do with them."""
    assert read_tags(headers(("x-title", "job=42"))) == ()


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["job"],
        ["job="],
        ["=42"],
        ["job=42,"],
        ["jo b=42"],
        [f"{'n' * 65}=1"],
        ["job=1,job=2"],
        ["job=caf\u00e9"],
        ["job=a\x01b"],
        [f"job={'x' * (TAG_VALUE_CHARS_MAX + 1)}"],
        [",".join(f"t{number}=1" for number in range(TAGS_MAX + 1))],
        ["job=1", "job=2"],
        ["sk-test-secret"],
    ],
)
def test_what_is_no_tag_is_refused(values: list[str]) -> None:
    """400 that names the header and the form; what was sent is not repeated."""
    with pytest.raises(ClientError) as caught:
        read_tags(headers(*(("x-turnpike-tags", value) for value in values)))
    assert caught.value.param == "x-turnpike-tags"
    assert "sk-test-secret" not in caught.value.message


@given(st.binary(max_size=300))
def test_whatever_is_sent_is_read_or_refused(value: bytes) -> None:
    """No header ends in an error of ours, and no tag is more than a line of text."""
    try:
        tags = read_tags([KEY, (b"x-turnpike-tags", value)])
    except ClientError:
        return
    assert all(text.isprintable() and text.isascii() for tag in tags for text in tag)
    read_app([KEY, (b"x-title", value), (b"referer", value)])


def test_labels_are_looked_for_by_name() -> None:
    """Every header that is read is on the list, or it would not be looked at."""
    assert {b"x-title", b"x-openrouter-title", b"http-referer", b"referer", b"x-turnpike-tags"} == LABELS
