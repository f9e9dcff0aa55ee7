"""Parts of a message: text, pictures, documents, and what Anthropic cannot take in."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from proxy.codecs.wire import JsonObject
from proxy.errors import ClientError
from tests.codecs.anthropic.asking import USER, answered, called, encode, text, turns

LINK = "https://pics.example/a.png"
PDF = b64encode(b"%PDF-1.7 ...").decode()
MARK = {"type": "ephemeral"}


def image(url: Any, **more: Any) -> JsonObject:
    """Make a picture."""
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}, **more}


def file(**fields: Any) -> JsonObject:
    """Make a file."""
    return {"type": "file", "file": fields}


def inline(media_type: str, data: str) -> JsonObject:
    """Make a source with its data in it."""
    return {"type": "base64", "media_type": media_type, "data": data}


def plain(words: str) -> JsonObject:
    """Make the source of a text document."""
    return {"type": "text", "media_type": "text/plain", "data": words}


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (image(LINK), {"type": "image", "source": {"type": "url", "url": LINK}}),
        (image("http://a.example/b"), {"type": "image", "source": {"type": "url", "url": "http://a.example/b"}}),
        ({"type": "image_url", "image_url": LINK}, {"type": "image", "source": {"type": "url", "url": LINK}}),
        (image("data:image/png;base64,QUJD"), {"type": "image", "source": inline("image/png", "QUJD")}),
        (image("data:image/jpg;base64,QUJD"), {"type": "image", "source": inline("image/jpeg", "QUJD")}),
        (image("data:IMAGE/WebP;base64,QUJD"), {"type": "image", "source": inline("image/webp", "QUJD")}),
        (image("data:image/gif;x=1;base64,QUJD"), {"type": "image", "source": inline("image/gif", "QUJD")}),
        (
            image(LINK, cache_control=MARK),
            {"type": "image", "source": {"type": "url", "url": LINK}, "cache_control": MARK},
        ),
        (
            file(filename="a.pdf", file_data=f"data:application/pdf;base64,{PDF}"),
            {"type": "document", "source": inline("application/pdf", PDF), "title": "a.pdf"},
        ),
        (file(file_data=PDF), {"type": "document", "source": inline("application/pdf", PDF)}),
        (
            file(file_data="https://docs.example/a.pdf", filename=" "),
            {"type": "document", "source": {"type": "url", "url": "https://docs.example/a.pdf"}},
        ),
        (file(file_data="data:text/plain;base64,SGk="), {"type": "document", "source": plain("Hi")}),
        (file(file_data="data:text/markdown,%23%20H%C3%A9"), {"type": "document", "source": plain("# Hé")}),
        (
            file(file_data="data:application/json;charset=utf-8;base64,e30="),
            {"type": "document", "source": plain("{}")},
        ),
        (file(file_data="data:,Hi"), {"type": "document", "source": plain("Hi")}),
        (
            file(file_data="data:,Hi", filename="x" * 600),
            {"type": "document", "source": plain("Hi"), "title": "x" * 500},
        ),
        (file(file_data="data:image/png;base64,QUJD"), {"type": "image", "source": inline("image/png", "QUJD")}),
    ],
)
def test_pictures_and_documents(part: JsonObject, block: JsonObject) -> None:
    """Inline or by link, with the type Anthropic calls them by."""
    assert turns({"role": "user", "content": [text("See:"), part]}) == [("user", [text("See:"), block])]


def test_an_empty_document_says_nothing() -> None:
    """As an empty text does."""
    assert turns({"role": "user", "content": [text("A"), file(file_data="data:text/plain,%20")]}) == [
        ("user", [text("A")])
    ]


def test_a_name_goes_before_a_picture_too() -> None:
    """A user's name is a text of its own where there is none to put it in front of."""
    assert turns({"role": "user", "name": "ann", "content": [image(LINK)]})[0][1][0] == text("ann:")


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}, ""),
        ({"type": "video_url", "video_url": {"url": LINK}}, ""),
        ({"type": "tool_use"}, ""),
        ({"type": "evil\nheader"}, ""),
        ({}, ""),
        ("Hi", ""),
        (None, ""),
        ({"type": "text"}, ""),
        ({"type": "text", "text": 5}, ""),
        (image("data:image/tiff;base64,QUJD"), ".image_url"),
        (image("data:image/png,QUJD"), ".image_url"),
        (image("data:image/png;base64,"), ".image_url"),
        (image("data:image/png;base64"), ".image_url"),
        (image("ftp://pics.example/a.png"), ".image_url"),
        (image(None), ".image_url"),
        (file(file_id="file-abc"), ".file"),
        ({"type": "file"}, ".file"),
        (file(file_data="QUJD"), ".file.file_data"),
        (file(file_data="data:application/zip;base64,QUJD"), ".file.file_data"),
        (file(file_data="data:application/pdf,QUJD"), ".file.file_data"),
        (file(file_data="data:text/plain;base64,Q"), ".file.file_data"),
        (file(file_data="data:text/plain;base64,/w=="), ".file.file_data"),
        (file(file_data="data:text/plain,%ff"), ".file.file_data"),
        (file(file_data="data:image/tiff;base64,QUJD"), ".file.file_data"),
    ],
)
def test_what_no_block_can_hold_is_refused(part: Any, param: str) -> None:
    """With its place, never dropped silently: the model would answer a question nobody asked."""
    with pytest.raises(ClientError) as caught:
        encode({"role": "user", "content": [text("A"), part]})
    assert caught.value.param == f"messages[0].content[1]{param}"
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_only_users_and_tools_show_pictures(role: str) -> None:
    """Anthropic takes none from anybody else."""
    with pytest.raises(ClientError, match="image_url"):
        encode(USER, {"role": role, "content": [image(LINK)]}, USER)


def test_a_tool_s_result_is_held_to_the_same() -> None:
    """Its parts are a user's parts."""
    with pytest.raises(ClientError) as caught:
        encode(USER, called("a"), answered("a", [{"type": "input_audio"}]))
    assert caught.value.param == "messages[2].content[0]"
