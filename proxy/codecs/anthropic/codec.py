"""The codec itself (floor 1a, pure): which file of this package does what for a caller of `Codec`."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.codecs.anthropic import counts, refusals, reply, request
from proxy.codecs.anthropic.stream import AnthropicStream
from proxy.codecs.wire import UNKNOWN_ABILITIES, Abilities, Call, JsonObject, Reading
from proxy.errors import Failure
from proxy.usage import Usage


class AnthropicCodec:
    """The codec of a provider that speaks Anthropic's Messages; it holds no state."""

    __slots__ = ()

    def encode(
        self, body: JsonObject, *, model: str, output_tokens_max: int | None, abilities: Abilities = UNKNOWN_ABILITIES
    ) -> Call:
        """Translate a chat request; raises `ClientError` for content that no message of Anthropic's can hold."""
        return request.write_call(body, model=model, output_tokens_max=output_tokens_max, abilities=abilities)

    def stream(self, reading: Reading) -> AnthropicStream:
        """Begin to read one streamed reply."""
        return AnthropicStream(reading)

    def read_reply(self, body: bytes, reading: Reading) -> JsonObject:
        """Translate a whole message; raises `UpstreamError` when it is none, or an error."""
        return reply.read_reply(body, reading)

    def read_usage(self, reply: JsonObject) -> Usage | None:
        """Find the usage of a translated reply or chunk."""
        return counts.read_usage(reply)

    def read_failure(self, status: int, headers: Mapping[str, str], body: bytes, *, asked: bytes) -> Failure:
        """Classify a reply whose status is not 200."""
        return refusals.read_failure(status, headers, body, asked=asked)
