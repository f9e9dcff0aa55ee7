"""Anthropic's Messages, spoken natively (floor 1a, pure): requests out, replies and streams back in OpenAI's shape.

Each half is a few small files: `request` puts the call together out of `messages`, `content`, `thinking`, `tools` and
`answers`; `reply` and `stream` read what comes back, with `counts` and `refusals` for usage and errors.
"""

from proxy.codecs.anthropic.codec import AnthropicCodec

__all__ = ["AnthropicCodec"]
