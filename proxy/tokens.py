"""How many tokens a request or a reply has (floor 0, pure): bounds for what is held, counts for what nobody reported.

Three figures for one request, each with its price in time:

* `input_bound`, from the length of the body: cheap enough for the event loop, because it looks at parts, never at text.
* `bound_input`, from a tokenizer with margins: tighter, for requests the first figure would refuse.
* `estimate_input`, from a tokenizer without margins: what is booked when no usage comes.

`count` and all that call it take 10 ms for 100 KB and 0.1 s the first time: **never on the event loop**, callers run
them in a thread. The tokenizer keeps Python's lock while it works, so text goes to it in slices, and the loop waits for
one slice at most. What tokens cost is not known here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    import splintr

REQUEST_TOKENS = 256
"""What a provider's own template may add to a request."""
GROK_TOKENS = 1_000
"""What xAI's own instructions add (680 seen with grok-4)."""
TOOLS_TOKENS = 1_000
"""What a provider may add to explain the use of tools or a schema (Anthropic: 346 to 530, more for its own tools)."""
SEARCH_TOKENS = 50_000
"""What plugins, web search and other tools the provider itself runs may add to the input."""
IMAGE_TOKENS = 6_000
"""One image at the highest resolution of any vendor, but for the two below."""
IMAGE_ORIGINAL_TOKENS = 12_000
"""One image with `detail: original`: 10,000 patches of 32 pixels squared."""
IMAGE_4O_MINI_TOKENS = 48_169
"""One image for gpt-4o-mini, which multiplies: 2,833 and 5,667 for each of 8 tiles."""
FILE_TOKENS = 50_000
AUDIO_TOKENS = 50_000
VIDEO_TOKENS = 50_000
"""Content in a form we do not read; past these the bill may exceed the hold and is booked as an overrun."""
LINK_TOKENS = 10_000_000
"""A link may lead to anything (an hour of film is a million tokens): all a model can read; callers cap it."""
AUDIO_BYTES_PER_TOKEN = 16
"""Base64 bytes of wav or mp3: at mp3's lowest rate, 8 kbit/s, a second is 1,333 of them and at most 32 tokens."""
LINK_CHARS = 16
"""Where the scheme of a link ends: base64 has no colon."""
CHARS_MAX = 4_000_000
"""Text beyond this is not given to the tokenizer but counted by its bytes."""
SLICE_CHARS = 8_192
"""Text given to the tokenizer at once: 2 to 4 ms of work during which no other thread runs."""
COMPOSED_GROWTH_MAX = 2
"""A slice that NFKC makes longer than by this is no language but an attack on our time: it counts by its bytes."""
MESSAGE_TOKENS = 3
REPLY_TOKENS = 3
"""OpenAI's chat template: 3 tokens a message, 1 more for a name, 3 to begin the reply."""
IMAGE_TOKENS_TYPICAL = 1_000
"""One image in an estimate: 765 to 1,600 at the usual sizes of OpenAI, Anthropic and Google."""
REFERENCE_TOKENS_TYPICAL = 3_000
"""One file, recording or film in an estimate."""

JsonObject = dict[str, Any]


class Family(StrEnum):
    """Models that share a vocabulary, or whose counts we derive from one."""

    O200K = "o200k"
    CL100K = "cl100k"
    CLAUDE = "claude"
    """Up to 4.6: measured 27 % above o200k on code."""
    CLAUDE_NEW = "claude-new"
    """Opus 4.7 and Claude 5 on: measured 64 % above o200k on code."""
    GEMMA = "gemma"
    """Gemini's own local tokenizer is Gemma's."""
    LLAMA = "llama"
    DEEPSEEK = "deepseek"
    QWEN = "qwen"
    MISTRAL = "mistral"
    KIMI = "kimi"
    GLM = "glm"
    UNKNOWN = "unknown"


class _Vocabulary(NamedTuple):
    name: str
    """As splintr calls it."""
    percent: int = 100
    """Tokens of the family for 100 of the vocabulary."""


_VOCABULARIES = {
    Family.O200K: _Vocabulary("o200k_base"),
    Family.CL100K: _Vocabulary("cl100k_base"),
    Family.CLAUDE: _Vocabulary("o200k_base", 135),
    Family.CLAUDE_NEW: _Vocabulary("o200k_base", 175),
    Family.GEMMA: _Vocabulary("gemma3"),
    Family.LLAMA: _Vocabulary("llama3"),
    Family.DEEPSEEK: _Vocabulary("deepseek_v3"),
    Family.QWEN: _Vocabulary("qwen3"),
    Family.MISTRAL: _Vocabulary("mistral_v3"),
    Family.KIMI: _Vocabulary("kimi_k2"),
    Family.GLM: _Vocabulary("glm4"),
    Family.UNKNOWN: _Vocabulary("o200k_base"),
}
_FAMILIES = (
    (re.compile(r"gpt-4(?![o.\d])|gpt-3\.?5"), Family.CL100K),
    (re.compile(r"gpt-|chatgpt|\bo[1-9]\b|codex|computer-use"), Family.O200K),
    (re.compile(r"gemini|gemma"), Family.GEMMA),
    (re.compile(r"llama"), Family.LLAMA),
    (re.compile(r"deepseek"), Family.DEEPSEEK),
    (re.compile(r"qwen|qwq"), Family.QWEN),
    (re.compile(r"\w*mi[sx]tral|codestral|devstral|pixtral|magistral|ministral"), Family.MISTRAL),
    (re.compile(r"kimi|moonshot"), Family.KIMI),
    (re.compile(r"\bglm"), Family.GLM),
)
_CLAUDE_OLD = re.compile(
    r"claude-(?:v?[12]\b|instant|3|(?:haiku|sonnet)-[34](?!\d)|opus-(?:3|4(?:[.-][0-6](?!\d)|(?![.-]\d{1,2}(?!\d)))(?!\d)))"
)


def input_bound(body: JsonObject, body_bytes: int, *, model: str = "") -> int:
    """Bound the input tokens of a request from above, given the length of its body as it is sent upstream.

    A byte-level tokenizer gives no more tokens than bytes, and the body's JSON outweighs a chat template; so only what
    is not in the body needs thought: references, and the provider's own additions. Data URLs of images and recordings
    count by what they show, not by their length. Costs O(parts). Callers cap it at the model's context.
    """
    bound = body_bytes + _additions(body, model)
    for kind, part in _parts(body):
        tokens_max, inline_bytes = _bound_part(kind, part, model)
        bound += tokens_max - inline_bytes
    return bound


def bound_input(body: JsonObject, model: str) -> int:
    """Bound the input tokens from above with a tokenizer and margins; slow, see the module.

    Not proof against every text (a vendor's tokenizer is not ours), which is why an overrun is booked truthfully.
    """
    family = family_of(model)
    text = text_of_request(body)
    tokens = count(text, family)
    if family in (Family.CLAUDE, Family.CLAUDE_NEW) and not text.isascii():
        # A vocabulary behind NFKC reads one character as up to 18 (U+FDFA).
        tokens = max(tokens, _count_composed(text, family))
    if family is Family.UNKNOWN:
        tokens = max(tokens, len(text) // 3)
    references = sum(_bound_part(kind, part, model).tokens_max for kind, part in _parts(body))
    messages = 2 * MESSAGE_TOKENS * len(_objects(body.get("messages")))
    return tokens + -(-tokens // 10) + messages + _additions(body, model) + references


def surplus_percent(model: str) -> int:
    """Tell by how many per cent a count is raised for vendors whose tokenizer is not public; 100 is not at all."""
    return _VOCABULARIES[family_of(model)].percent


def estimate_input(body: JsonObject, model: str) -> int:
    """Count the input tokens of a request as well as one can from outside; slow, see the module."""
    messages = _objects(body.get("messages"))
    names = sum(1 for message in messages if message.get("name"))
    template = MESSAGE_TOKENS * len(messages) + names + REPLY_TOKENS
    references = sum(_estimate_part(kind, part, model) for kind, part in _parts(body))
    return count(text_of_request(body), family_of(model)) + template + references


def estimate_message(message: JsonObject, model: str) -> int:
    """Count the tokens of one message, its share of the chat template included; slow, see the module."""
    references = sum(_estimate_part(kind, part, model) for kind, part in _parts({"messages": [message]}))
    text = "\n".join(_message_text(message))
    return count(text, family_of(model)) + MESSAGE_TOKENS + bool(message.get("name")) + references


def count(text: str, family: Family) -> int:
    """Count the tokens of a text in a family's vocabulary, rounding up; slow, see the module.

    Special tokens that a user has typed count as the plain text they are (`encode_ordinary`).
    """
    vocabulary = _VOCABULARIES[family]
    tokenizer = _tokenizer(vocabulary.name)
    tokens = sum(len(tokenizer.encode_ordinary(piece)) for piece in _slices(text[:CHARS_MAX]))
    if len(text) > CHARS_MAX:
        tokens += len(text[CHARS_MAX:].encode(errors="replace"))
    return -(-tokens * vocabulary.percent // 100)


def _count_composed(text: str, family: Family) -> int:
    """Bound the tokens of a text after NFKC, which keeps Python's lock as a tokenizer does: hence slices, again."""
    tokens = 0
    for piece in _slices(text):
        composed = unicodedata.normalize("NFKC", piece)
        grows = len(composed) > COMPOSED_GROWTH_MAX * len(piece)
        tokens += len(composed.encode(errors="replace")) if grows else count(composed, family)
    return tokens


def warm(models: Iterable[str] = ()) -> None:
    """Load the vocabularies these models need, and the default, before a request has to wait; slow, see the module."""
    for family in {Family.O200K, *map(family_of, models)}:
        # The accent counts: splintr builds its tables for letters beyond ASCII when it meets the first of them.
        count("Héllo.", family)


def _slices(text: str) -> Iterator[str]:
    """Cut a text at spaces or line ends, where a tokenizer cuts too, so that the slices count the same as the whole."""
    start = 0
    while start < len(text):
        end = start + SLICE_CHARS
        if end < len(text):
            cut = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = cut if cut > 0 else end
        yield text[start:end]
        start = end


def family_of(model: str) -> Family:
    """Tell a model's family by its name, whatever provider prefix and variant suffix it carries."""
    name = model.lower().rpartition("/")[2]
    if "claude" in name:
        return Family.CLAUDE if _CLAUDE_OLD.search(name) else Family.CLAUDE_NEW
    return next((family for pattern, family in _FAMILIES if pattern.search(name)), Family.UNKNOWN)


@lru_cache(maxsize=len(_VOCABULARIES))
def _tokenizer(name: str) -> splintr.AnyTokenizer:
    import splintr  # noqa: PLC0415 -- 40 MB that a gateway without budgets never needs

    return splintr.Tokenizer.from_pretrained(name)


# ---------------------------------------------------------------- text


def text_of_request(body: JsonObject) -> str:
    """Join all text of a request that reaches the model: messages, tool calls, tools and the schema of the answer."""
    pieces = [piece for message in _objects(body.get("messages")) for piece in _message_text(message)]
    pieces += (
        orjson.dumps(body[name]).decode() for name in ("tools", "functions", "response_format") if body.get(name)
    )
    return "\n".join(pieces)


def text_of_reply(reply: JsonObject) -> str:
    """Join all text of a whole reply: content, reasoning, refusals and tool calls of every choice."""
    return "".join(iterate_output_text(reply))


def iterate_output_text(reply: object) -> Iterator[str]:
    """Yield the text of a reply or of one chunk of a stream, both in OpenAI's shape; other shapes hold none."""
    for choice in _objects(reply.get("choices") if isinstance(reply, dict) else None):
        for name in ("delta", "message"):
            message = choice.get(name)
            if isinstance(message, dict):
                yield from _message_text(message)


def _message_text(message: JsonObject) -> Iterator[str]:
    """Yield what a model reads or writes as one message."""
    yield from _reasoning_text(message)
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in _objects(content):
        yield from _part_text(part)
    audio = message.get("audio")
    for value in (
        message.get("name"),
        message.get("refusal"),
        audio.get("transcript") if isinstance(audio, dict) else None,
    ):
        if isinstance(value, str):
            yield value
    for call in (*_objects(message.get("tool_calls")), {"function": message.get("function_call")}):
        yield from _call_text(call)


def _reasoning_text(message: JsonObject) -> Iterator[str]:
    """Yield the reasoning once: OpenRouter gives it as text and again as details."""
    for name in ("reasoning", "reasoning_content"):
        if isinstance(message.get(name), str) and message[name]:
            yield message[name]
            return
    for detail in _objects(message.get("reasoning_details")):
        yield from (detail[name] for name in ("text", "summary") if isinstance(detail.get(name), str))


def _part_text(part: JsonObject) -> Iterator[str]:
    """Yield a part's text; of a kind we do not know all of it, of a reference none."""
    texts = [part[name] for name in ("text", "refusal") if isinstance(part.get(name), str)]
    if texts or _is_reference(part):
        yield from texts
    else:
        yield orjson.dumps(part).decode()


def _call_text(call: JsonObject) -> Iterator[str]:
    for kind in ("function", "custom"):
        function = call.get(kind)
        if isinstance(function, dict):
            yield from (
                function[name] for name in ("name", "arguments", "input") if isinstance(function.get(name), str)
            )


# ---------------------------------------------------------------- what is not text


class _PartBound(NamedTuple):
    """The most tokens a part can be, and how many bytes of the body stand for it already."""

    tokens_max: int
    inline_bytes: int = 0


def _additions(body: JsonObject, model: str) -> int:
    """Sum what the provider may add to the input on its own."""
    tools = _objects(body.get("tools"))
    added = GROK_TOKENS if "grok" in model else REQUEST_TOKENS
    if tools or body.get("functions") or body.get("response_format"):
        added += TOOLS_TOKENS
    is_searching = any(_is_run_by_provider(tool) for tool in tools) or _may_add_content(body.get("plugins"))
    if is_searching or body.get("web_search_options"):
        added += SEARCH_TOKENS
    return added


def _may_add_content(plugins: object) -> bool:
    """Tell whether a plugin may put more into the prompt: those switched off do not, nor the one that shortens it."""
    return any(plugin.get("enabled") is not False and plugin.get("id") != _SHORTENING for plugin in _objects(plugins))


def _is_run_by_provider(tool: JsonObject) -> bool:
    return tool.get("type", "function") not in ("function", "custom")


def _parts(body: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Yield kind and part for all that is not plain text, in what an assistant once wrote too."""
    for message in _objects(body.get("messages")):
        for part in (*_objects(message.get("content")), *_objects(message.get("images"))):
            if _is_reference(part):
                yield part["type"], part
        if isinstance(message.get("audio"), dict):
            yield "audio_url", {}


def _is_reference(part: JsonObject) -> bool:
    kind = part.get("type")
    return isinstance(kind, str) and (kind in _IMAGES or kind in _BOUNDS)


def _bound_part(kind: str, part: JsonObject, model: str) -> _PartBound:
    return _bound_image(part, model) if kind in _IMAGES else _BOUNDS[kind](part)


def _estimate_part(kind: str, part: JsonObject, model: str) -> int:
    typical = IMAGE_TOKENS_TYPICAL if kind in _IMAGES else REFERENCE_TOKENS_TYPICAL
    return min(typical, _bound_part(kind, part, model).tokens_max)


def _bound_image(part: JsonObject, model: str) -> _PartBound:
    """An image counts by its resolution, which we do not know, and never by the length of its data URL."""
    image = part.get("image_url")
    url = _url(image)
    detail = (image if isinstance(image, dict) else part).get("detail")
    if "4o-mini" in model:
        tokens_max = IMAGE_4O_MINI_TOKENS
    else:
        tokens_max = IMAGE_ORIGINAL_TOKENS if detail == "original" else IMAGE_TOKENS
    if not isinstance(url, str) or not url.startswith("data:"):
        return _PartBound(tokens_max)
    if url.startswith("data:image/"):
        return _PartBound(tokens_max, len(url))
    return _bound_inline(url, FILE_TOKENS)


def _bound_audio(part: JsonObject) -> _PartBound:
    """A recording counts by its length in time, which its format bounds; an unknown format by its bytes."""
    audio = part.get("input_audio")
    data = audio.get("data") if isinstance(audio, dict) else None
    if "audio_url" in part:
        return _bound_inline(_url(part["audio_url"]), AUDIO_TOKENS)
    if not isinstance(audio, dict) or not isinstance(data, str):
        return _PartBound(AUDIO_TOKENS)
    if audio.get("format") in ("wav", "mp3", "pcm16"):
        return _PartBound(len(data) // AUDIO_BYTES_PER_TOKEN, len(data))
    return _bound_inline(data, AUDIO_TOKENS)


def _bound_file(part: JsonObject) -> _PartBound:
    file = part.get("file")
    data = file.get("file_data") if isinstance(file, dict) else part.get("file_data")
    return _bound_inline(data, FILE_TOKENS)


def _bound_video(part: JsonObject) -> _PartBound:
    return _bound_inline(_url(part.get("video_url")), VIDEO_TOKENS)


def _url(value: object) -> object:
    return value.get("url") if isinstance(value, dict) else value


def _bound_inline(data: object, flat: int) -> _PartBound:
    """Compressed content may hold more tokens than bytes, or far fewer: the larger of its bytes and the flat bound."""
    if not isinstance(data, str) or not data:
        return _PartBound(LINK_TOKENS)  # named by an id, at the provider
    if not data.startswith("data:") and "://" in data[:LINK_CHARS]:
        return _PartBound(LINK_TOKENS)
    return _PartBound(max(flat, len(data)), len(data))


_SHORTENING = "context-compression"
_IMAGES = ("image_url", "input_image")
_BOUNDS = {
    "input_audio": _bound_audio,
    "audio_url": _bound_audio,
    "file": _bound_file,
    "input_file": _bound_file,
    "video_url": _bound_video,
    "input_video": _bound_video,
}


def _objects(value: object) -> list[JsonObject]:
    """Give the objects of a JSON array, nothing of anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
