"""A chat request as a call of Anthropic's Messages (floor 1a, pure; openrouter.md 8.2, 8.3).

What cannot be said but would change the answer is left out and named in `Call.dropped`; what only concerns OpenAI, or
the gateway, is left out without a word. Fields that are Anthropic's own pass as they came where they are safe: those
that change the price, or run somebody else's tools, do not.
"""

from __future__ import annotations

import hashlib
import re

import orjson

from proxy.codecs.anthropic import answers, thinking, tools
from proxy.codecs.anthropic.answers import Form
from proxy.codecs.anthropic.messages import Chat, read_chat
from proxy.codecs.anthropic.sampling import read_sampling
from proxy.codecs.anthropic.thinking import Thought
from proxy.codecs.anthropic.values import object_of, objects_of, text_of
from proxy.codecs.wire import Abilities, Call, JsonObject, Thinking
from proxy.errors import ClientError

PATH = "/messages"
VERSION = "2023-06-01"
OUTPUT_TOKENS_UNKNOWN = 4_096
"""`max_tokens` where neither the client nor the catalogue names one; Anthropic demands it."""
DROPPED_MAX = 20
"""How many fields are named as left out."""
CAPS = ("max_completion_tokens", "max_tokens")

_TRANSLATED = frozenset(
    {
        *CAPS,
        *("messages", "temperature", "top_p", "top_k", "stop", "tools", "tool_choice", "parallel_tool_calls"),
        *("response_format", "reasoning", "reasoning_effort", "include_reasoning", "verbosity", "service_tier"),
        *("thinking", "cache_control", "output_config", "context_management"),
    }
)
_HARMLESS = frozenset(
    {
        *("model", "stream", "stream_options", "user", "safety_identifier", "metadata", "store", "turnpike", "usage"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
        *("models", "route", "provider", "plugins", "transforms", "preset", "session_id", "trace", "debug"),
        "stop_server_tools_when",
    }
)
"""Fields of OpenAI's, OpenRouter's and our own that say nothing to the model, or are read before the codec."""
_NEUTRAL: dict[str, object] = {
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "repetition_penalty": 1,
    "min_p": 0,
    "top_a": 0,
    "modalities": ["text"],
}
"""What asks for nothing but what Anthropic does anyway."""
_TIERS = {"auto": "auto", "default": "standard_only", "standard": "standard_only", "standard_only": "standard_only"}
_BETA = "context-management-2025-06-27"
_BETA_OF_EDIT = {"compact_20260112": "compact-2026-01-12"}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def write_call(body: JsonObject, *, model: str, output_tokens_max: int | None, abilities: Abilities) -> Call:
    """Write the call; raises `ClientError` for what has no place in it."""
    return _Draft(body, abilities).write(model, output_tokens_max)


class _Draft:
    """One request on its way from one shape to the other; gathers what is lost."""

    def __init__(self, body: JsonObject, abilities: Abilities) -> None:
        self._body = body
        self._abilities = abilities
        self._dropped: list[str] = []

    def write(self, model: str, output_tokens_max: int | None) -> Call:
        """Settle the parts in the order they depend on each other, then put them together."""
        body = self._body
        choice, lost = tools.read_choice(body)
        self._dropped += lost
        form = answers.read_form(body, self._abilities, has_forced_tool=tools.is_forced(choice))
        self._dropped += form.dropped
        output_tokens = self._output_tokens(output_tokens_max)
        chat = self._chat(form)
        thought = self._thought(chat, form, output_tokens)
        written: JsonObject = {"model": model, "max_tokens": output_tokens, "messages": chat.turns}
        if system := [*chat.system, *([{"type": "text", "text": form.instruction}] if form.instruction else [])]:
            written["system"] = system
        written |= self._tools(choice, chat, form, thought)
        written |= self._how(thought, form)
        written |= self._rest()
        is_stream = body.get("stream") is True
        if is_stream:
            written["stream"] = True
        return Call(
            path=PATH,
            body=orjson.dumps(written),
            is_stream=is_stream,
            headers=self._headers(),
            dropped=self._losses(),
            schema_tool=form.tool["name"] if form.tool else None,
        )

    def _output_tokens(self, output_tokens_max: int | None) -> int:
        """Take the client's cap, of two the higher as where it is held, within the model's ceiling and ours."""
        asked: dict[str, int] = {}
        for name in CAPS:
            cap = self._body.get(name)
            if cap is None:
                continue
            if not isinstance(cap, int) or cap < 1:
                raise ClientError(f"`{name}` is a whole number of tokens, 1 or more.", param=name)
            asked[name] = int(cap)
        ceiling = self._abilities.output_tokens_max
        if ceiling is not None:
            self._dropped += [name for name, cap in asked.items() if cap > ceiling]
        wanted = max(asked.values(), default=ceiling or output_tokens_max or OUTPUT_TOKENS_UNKNOWN)
        return min(limit for limit in (wanted, ceiling, output_tokens_max) if limit is not None)

    def _chat(self, form: Form) -> Chat:
        chat = read_chat(self._body.get("messages"), thinks=self._abilities.thinking is not Thinking.NONE)
        if chat.is_prefilled and (form.output_format is not None or not self._abilities.prefill):
            self._dropped.append("prefill")
            return chat.without_prefill()
        return chat

    def _thought(self, chat: Chat, form: Form, output_tokens: int) -> Thought:
        """Settle thinking, which gives way to what cannot go with it and was asked for in so many words."""
        native = self._own("thinking")
        wish = thinking.read_wish(self._body)
        if native is None:
            thought = thinking.tell(wish, self._abilities, output_tokens=output_tokens)
        else:
            thought = thinking.take(native, self._abilities, output_tokens=output_tokens)
        is_tool_forced = form.tool is not None and self._abilities.forced_tools
        is_in_the_way = chat.is_prefilled or is_tool_forced or (thought.is_budgeted and chat.is_unthought)
        if thought.is_on and is_in_the_way:
            thought = thought.without(wish.named if native is None else "thinking")
        self._dropped += thought.dropped
        return thought

    def _tools(self, choice: JsonObject | None, chat: Chat, form: Form, thought: Thought) -> JsonObject:
        offered, lost = tools.read_tools(self._body)
        settled = tools.choose(
            offered,
            choice,
            answer=form.tool,
            can_force=self._abilities.forced_tools and not thought.is_on,
            is_parallel=self._body.get("parallel_tool_calls") is not False,
        )
        self._dropped += [*lost, *settled.dropped]
        if not settled.tools and chat.called:
            settled = tools.declare(chat.called)
        written: JsonObject = {"tools": settled.tools} if settled.tools else {}
        return written | ({"tool_choice": settled.choice} if settled.choice else {})

    def _how(self, thought: Thought, form: Form) -> JsonObject:
        """Write how to think and how to choose words; a client's own `output_config` has the last word."""
        sampling, lost = read_sampling(self._body, takes=self._abilities.sampling, thinks=thought.is_on)
        self._dropped += lost
        config: JsonObject = {"effort": thought.effort} if thought.effort else {}
        config |= {"format": form.output_format} if form.output_format else {}
        config |= self._own("output_config") or {}
        written = {**sampling} | ({"output_config": config} if config else {})
        return written | ({"thinking": thought.thinking} if thought.thinking else {})

    def _rest(self) -> JsonObject:
        """Write what stands for itself."""
        written: JsonObject = {}
        if stops := self._stops():
            written["stop_sequences"] = stops
        if tier := self._tier():
            written["service_tier"] = tier
        for name in ("cache_control", "context_management"):
            if (own := self._own(name)) is not None:
                written[name] = own
        names = (self._body.get("user"), self._body.get("safety_identifier"))
        users = [text_of(name) for name in (*names, object_of(self._body.get("metadata")).get("user_id"))]
        if user := next(filter(None, users), None):
            # Anthropic refuses e-mail addresses and telephone numbers; a digest tells users apart as well.
            written["metadata"] = {"user_id": hashlib.sha256(user.encode()).hexdigest()}
        return written

    def _stops(self) -> list[str]:
        stop = self._body.get("stop")
        asked = [stop] if isinstance(stop, str) else stop or []
        if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
            raise ClientError("`stop` is a text or a list of texts.", param="stop")
        kept = [one for one in asked if one.strip()]
        if len(kept) < len(asked):
            self._dropped.append("stop")
        return kept

    def _tier(self) -> str | None:
        asked = self._body.get("service_tier")
        if asked is None:
            return None
        tier = _TIERS.get(text_of(asked))
        if tier is None:
            self._dropped.append("service_tier")
        return tier

    def _own(self, name: str) -> JsonObject | None:
        """Give a field of Anthropic's own that passes as it came."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, dict):
            raise ClientError(f"`{name}` is an object.", param=name)
        return value

    def _headers(self) -> dict[str, str]:
        headers = {"anthropic-version": VERSION}
        if management := object_of(self._body.get("context_management")):
            kinds = [text_of(edit.get("type")) for edit in objects_of(management.get("edits"))]
            betas = dict.fromkeys((_BETA, *(_BETA_OF_EDIT[kind] for kind in kinds if kind in _BETA_OF_EDIT)))
            headers["anthropic-beta"] = ",".join(betas)
        return headers

    def _losses(self) -> tuple[str, ...]:
        """Name every field that was lost, once; a name that fits into no header is the client's own invention."""
        known = _TRANSLATED | _HARMLESS
        unknown = [
            name
            for name, value in self._body.items()
            if name not in known and value is not None and not (name in _NEUTRAL and _NEUTRAL[name] == value)
        ]
        named = dict.fromkeys(name for name in (*self._dropped, *unknown) if _NAME.fullmatch(name))
        return tuple(named)[:DROPPED_MAX]
