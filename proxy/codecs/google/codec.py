"""The codec of a provider that speaks Gemini's own API (part of the Google codec, pure)."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.codecs.google import refusals, reply, usage
from proxy.codecs.google.request import write_call
from proxy.codecs.google.stream import GoogleStream
from proxy.codecs.wire import UNKNOWN_ABILITIES, Abilities, Call, JsonObject, Reading
from proxy.errors import Failure
from proxy.usage import Usage


class GoogleCodec:
    """Gemini natively: no state, one for all providers of this dialect. The base URL ends in `/v1beta`."""

    __slots__ = ()

    def encode(
        self, body: JsonObject, *, model: str, output_tokens_max: int | None, abilities: Abilities = UNKNOWN_ABILITIES
    ) -> Call:
        """Write the call for a parsed body; raises `ClientError` for what Gemini cannot be given."""
        return write_call(body, model=model, output_tokens_max=output_tokens_max, abilities=abilities)

    def stream(self, reading: Reading) -> GoogleStream:
        """Begin to read one streamed reply."""
        return GoogleStream(reading)

    def read_reply(self, body: bytes, reading: Reading) -> JsonObject:
        """Read a whole JSON reply into OpenAI's shape; raises `UpstreamError` when it is none."""
        return reply.read_reply(body, reading)

    def read_usage(self, reply: JsonObject) -> Usage | None:
        """Find the usage of a translated reply or chunk."""
        return usage.read_usage(reply)

    def read_failure(self, status: int, headers: Mapping[str, str], body: bytes, *, asked: bytes) -> Failure:
        """Classify a reply whose status is not 200."""
        return refusals.read_failure(status, headers, body, asked=asked)
