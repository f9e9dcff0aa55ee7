"""One candidate of an answer as it comes in (part of the Google codec, pure; openrouter.md 8.5).

Whole replies and the chunks of streams are read alike: each brings parts, and what they add becomes a `delta`. Tool
calls are always whole.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.codecs.google.endings import error_of, finish_reason
from proxy.codecs.google.fields import list_of, object_of, objects_of, text_of
from proxy.codecs.google.signatures import FORMAT, write_server
from proxy.codecs.wire import JsonObject


class Answer:
    """Keeps what must be known of earlier chunks: which calls, pictures and thoughts there were."""

    def __init__(self, index: int, *, seed: str) -> None:
        """Begin the answer of this index; `seed` makes the ids of its tool calls like no other reply's."""
        self._index = index
        self._seed = seed
        self._has_begun = False
        self._has_content = False
        self._call_ids: set[str] = set()
        self._has_audio = False
        self._pictures = 0
        self._server_steps = 0
        self._details = 0
        self._is_thinking = False
        self._cited: set[str] = set()

    def read(self, candidate: JsonObject) -> JsonObject | None:
        """Give the choice for what came, its content in `delta`; None when nothing did."""
        delta: JsonObject = {}
        for part in objects_of(object_of(candidate.get("content")).get("parts")):
            self._read_part(part, delta)
        self._cite(candidate, delta)
        native = text_of(candidate.get("finishReason"))
        if not (delta or native):
            return None
        self._has_content = self._has_content or bool(delta)
        choice: JsonObject = {"index": self._index, "delta": self._with_role(delta), "finish_reason": None}
        if isinstance(candidate.get("logprobsResult"), dict):
            choice["logprobs"] = _logprobs(candidate["logprobsResult"])
        return self._finish(choice, candidate, native) if native else choice

    def block(self, reason: str) -> JsonObject:
        """Give the choice for a prompt that was blocked before anything was said."""
        delta = self._with_role({"content": ""})
        return {
            "index": self._index,
            "delta": delta,
            "finish_reason": "content_filter",
            "native_finish_reason": reason,
        }

    @property
    def has_pictures(self) -> bool:
        """Tell whether it has shown one."""
        return self._pictures > 0

    def _with_role(self, delta: JsonObject) -> JsonObject:
        if self._has_begun:
            return delta
        self._has_begun = True
        return {"role": "assistant", **delta}

    def _finish(self, choice: JsonObject, candidate: JsonObject, native: str) -> JsonObject:
        reason = finish_reason(native, has_calls=bool(self._call_ids), has_content=self._has_content)
        choice |= {"finish_reason": reason, "native_finish_reason": native}
        if reason == "error":
            choice["error"] = error_of(candidate, native)
        return choice

    def _read_part(self, part: JsonObject, delta: JsonObject) -> None:
        signature = text_of(part.get("thoughtSignature"))
        identifier: str | None = None
        if part.get("thought") is True:
            self._think(text_of(part.get("text")), signature, delta)
            return
        if isinstance(part.get("functionCall"), dict):
            identifier = self._call(part["functionCall"], signature, delta)
        elif isinstance(part.get("inlineData"), dict):
            identifier = self._show(part["inlineData"], delta)
        elif step := write_server(part, f"server_{self._server_steps}"):
            identifier = step["id"]
            self._server_steps += 1
            self._detail(delta, **step)
        elif text := text_of(part.get("text")):
            delta["content"] = delta.get("content", "") + text
        if signature:
            self._detail(delta, type="reasoning.encrypted", data=signature, id=identifier)

    def _think(self, text: str, signature: str, delta: JsonObject) -> None:
        """Take a piece of thought; pieces that follow each other are one detail, by their index."""
        if not (text or signature):
            return
        if text:
            delta["reasoning"] = delta.get("reasoning", "") + text
        if self._is_thinking and "reasoning_details" in delta:
            detail = delta["reasoning_details"][-1]
            detail["text"] += text
        elif self._is_thinking:
            # OpenAI's SDK joins every text of the details of one index but `type`, so the format is not said again.
            detail = {"type": "reasoning.text", "text": text, "index": self._details - 1}
            delta["reasoning_details"] = [detail]
        else:
            detail = self._detail(delta, type="reasoning.text", text=text, id=None)
        if signature:
            detail["signature"] = signature
        self._is_thinking = not signature

    def _detail(self, delta: JsonObject, **fields: Any) -> JsonObject:
        detail = {**fields, "format": FORMAT, "index": self._details}
        self._details += 1
        self._is_thinking = False
        delta.setdefault("reasoning_details", []).append(detail)
        return detail

    def _call(self, call: JsonObject, signature: str, delta: JsonObject) -> str:
        """Take a function call; one without an id of its own, or with another call's, is given one."""
        number = len(self._call_ids)
        identifier = text_of(call.get("id"))
        if not identifier or identifier in self._call_ids:
            identifier = f"call_{self._seed}_{self._index}_{number}"
        self._call_ids.add(identifier)
        arguments = orjson.dumps(object_of(call.get("args"))).decode()
        written: JsonObject = {
            "index": number,
            "id": identifier,
            "type": "function",
            "function": {"name": text_of(call.get("name")), "arguments": arguments},
        }
        if signature:
            written["extra_content"] = {"google": {"thought_signature": signature}}
        delta.setdefault("tool_calls", []).append(written)
        return identifier

    def _show(self, data: JsonObject, delta: JsonObject) -> str | None:
        """Take a picture, or speech; anything else there is no place for."""
        kind, content = text_of(data.get("mimeType")), text_of(data.get("data"))
        if kind.startswith("audio/"):
            named = {} if self._has_audio else {"id": f"audio_{self._seed}_{self._index}", "transcript": ""}
            self._has_audio = True
            delta.setdefault("audio", {**named, "data": ""})["data"] += content
        if not kind.startswith("image/"):
            return None
        image = {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{content}"}, "index": self._pictures}
        delta.setdefault("images", []).append(image)
        self._pictures += 1
        return f"image_{image['index']}"

    def _cite(self, candidate: JsonObject, delta: JsonObject) -> None:
        """Name the pages a search found, each once. Where in the text they count is left open: Google counts bytes."""
        if "groundingMetadata" not in candidate:
            return
        chunks = objects_of(object_of(candidate["groundingMetadata"]).get("groundingChunks"))
        for page in (object_of(chunk.get("web")) for chunk in chunks):
            url = text_of(page.get("uri"))
            if url and url not in self._cited:
                index = len(self._cited)  # OpenAI's SDK joins lists of a stream by it and fails without one
                self._cited.add(url)
                citation = {"url": url, "title": text_of(page.get("title")), "start_index": 0, "end_index": 0}
                delta.setdefault("annotations", []).append(
                    {"index": index, "type": "url_citation", "url_citation": citation}
                )


def _logprobs(result: JsonObject) -> JsonObject:
    """Give the odds of each token, and of those that were not taken."""
    others = list_of(result.get("topCandidates"))
    content = []
    for place, chosen in enumerate(objects_of(result.get("chosenCandidates"))):
        rivals = objects_of(object_of(others[place]).get("candidates")) if place < len(others) else []
        content.append({**_odds(chosen), "top_logprobs": [_odds(rival) for rival in rivals]})
    return {"content": content, "refusal": None}


def _odds(token: JsonObject) -> JsonObject:
    text = text_of(token.get("token"))
    return {"token": text, "logprob": token.get("logProbability"), "bytes": list(text.encode())}
