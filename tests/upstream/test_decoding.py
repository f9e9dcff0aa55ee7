"""Compressed bodies: every form in use, torn anywhere, and the limits on what they may become."""

from __future__ import annotations

import gzip
import zlib

import pytest

from proxy.errors import UpstreamError
from proxy.upstream import decoding
from proxy.upstream.decoding import Decoder, decoder_of

TEXT = b"data: {}\n\n" * 50


def unpack(encoding: str, packed: bytes, step: int) -> bytes:
    """Unpack a body in steps."""
    decoder = decoder_of(encoding)
    assert decoder is not None
    pieces = [decoder.feed(packed[place : place + step]) for place in range(0, len(packed), step)]
    decoder.close()
    return b"".join(pieces)


def bare(data: bytes) -> bytes:
    """Deflate without zlib's envelope."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        (" GZip ", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", bare(TEXT)),
    ],
    ids=["gzip", "old name", "two members", "deflate", "bare deflate"],
)
def test_a_body_is_unpacked_however_it_is_torn(encoding: str, packed: bytes, step: int) -> None:
    """Into the same bytes."""
    assert unpack(encoding, packed, step) == TEXT


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity"])
def test_nothing_is_unpacked_that_is_not_packed(encoding: str | None) -> None:
    """Most replies."""
    assert decoder_of(encoding) is None


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x" * 40])
def test_what_nobody_here_can_unpack_is_refused(encoding: str) -> None:
    """Never handed on as text."""
    with pytest.raises(UpstreamError, match="cannot be read"):
        decoder_of(encoding)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(TEXT)[:-1]),
        ("gzip", gzip.compress(TEXT) + b"surplus"),
        ("gzip", TEXT),
        ("gzip", gzip.compress(TEXT)[:-8] + bytes(8)),
        ("deflate", zlib.compress(TEXT)[:-4] + bytes(4)),
    ],
    ids=["cut", "surplus", "not packed", "wrong sum", "wrong sum of deflate"],
)
def test_a_packed_body_that_is_not_whole_is_unreadable(encoding: str, packed: bytes) -> None:
    """By its own end, whatever the framing says."""
    with pytest.raises(UpstreamError, match="cannot be read"):
        unpack(encoding, packed, len(packed))


def test_an_empty_body_is_no_fault() -> None:
    """As servers send with 204 and a careless header."""
    assert unpack("gzip", b"", 1) == b""


@pytest.mark.parametrize(("size", "is_taken"), [(1000, True), (1001, False)])
def test_growth_has_a_ratio(size: int, monkeypatch: pytest.MonkeyPatch, *, is_taken: bool) -> None:
    """Exactly, and no more is unpacked than the limit and one byte."""
    packed = zlib.compress(bytes(size))
    monkeypatch.setattr(decoding, "DECODED_BYTES_FREE", 1000)
    monkeypatch.setattr(decoding, "DECODED_RATIO_MAX", 1)
    if is_taken:
        assert unpack("deflate", packed, len(packed)) == bytes(size)
        return
    with pytest.raises(UpstreamError, match="grows too much"):
        unpack("deflate", packed, len(packed))


def test_growth_is_counted_over_all_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small ones are one large one."""
    monkeypatch.setattr(decoding, "DECODED_BYTES_MAX", 1000)
    decoder = Decoder(zlib.MAX_WBITS | 16)
    packed = gzip.compress(bytes(400))
    assert len(decoder.feed(packed) + decoder.feed(packed)) == 800
    with pytest.raises(UpstreamError, match="grows too much"):
        decoder.feed(packed)
