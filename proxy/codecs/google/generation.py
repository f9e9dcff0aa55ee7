"""How the answer is made: `generationConfig` (part of the Google codec, pure; openrouter.md 8.5)."""

from __future__ import annotations

from proxy.codecs.google.fields import is_number, is_whole, list_of, object_of, text_of
from proxy.codecs.google.parts import refuse
from proxy.codecs.google.schema import clean_schema
from proxy.codecs.wire import Abilities, JsonObject, Thinking

STOPS_MAX = 5
SEEDS = 1 << 31
"""Gemini's seeds have 31 bits, OpenAI's may be longer: folded, equal seeds stay equal."""
_SAMPLING = {"temperature": "temperature", "top_p": "topP", "top_k": "topK"}
_PENALTIES = {"presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}
_LEAST = {"n": 1, "top_logprobs": 0}
_PICTURE = {"aspect_ratio": "aspectRatio", "image_size": "imageSize"}
RAW_AUDIO = "pcm16"
"""The one format in which Gemini speaks."""


def write_generation(body: JsonObject, abilities: Abilities, dropped: list[str]) -> JsonObject:
    """Give the settings but for the limit and thinking; raises `ClientError` for what cannot be said."""
    return {
        **_sampling(body, abilities, dropped),
        **_stops(body.get("stop")),
        **_logprobs(body),
        **_format(body, abilities, dropped),
        **_modalities(body, dropped),
    }


def read_limit(body: JsonObject, output_tokens_max: int | None, abilities: Abilities) -> int | None:
    """Give the most tokens the answer may have, None when nobody sets a limit."""
    name = next((name for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None), None)
    asked = body[name] if name else None
    if name and not (is_whole(asked) and asked >= 1):
        refuse("must be a whole number of tokens, 1 or more", name)
    limits = [limit for limit in (asked, output_tokens_max) if limit is not None]
    if not limits:
        return None
    # More than the model can write is refused by Google, so what it can is the most there is to ask for.
    return min(limits) if abilities.output_tokens_max is None else min(*limits, abilities.output_tokens_max)


def _sampling(body: JsonObject, abilities: Abilities, dropped: list[str]) -> JsonObject:
    _check_numbers(body)
    asked = {name: written for name, written in _SAMPLING.items() if body.get(name) is not None}
    if not abilities.sampling:
        dropped += asked
        asked = {}
    # A penalty of 0 is none, and some models refuse to hear of penalties at all.
    asked |= {name: written for name, written in _PENALTIES.items() if body.get(name)}
    config: JsonObject = {written: body[name] for name, written in asked.items()}
    seed, choices = body.get("seed"), body.get("n")
    if seed is not None:
        config["seed"] = seed % SEEDS
    if choices is not None and choices != 1:
        config["candidateCount"] = choices
    return config


def _check_numbers(body: JsonObject) -> None:
    """Refuse what is no number, before Google does in words about fields the client never wrote."""
    given = {name: value for name, value in body.items() if value is not None}
    for name in _SAMPLING:
        if name in given and not (is_number(given[name]) and given[name] >= 0):
            refuse("must be a number, 0 or more", name)
    for name in _PENALTIES:
        if name in given and not is_number(given[name]):
            refuse("must be a number", name)
    for name, least in _LEAST.items():
        if name in given and not (is_whole(given[name]) and given[name] >= least):
            refuse(f"must be a whole number, {least} or more", name)
    if not is_whole(given.get("seed", 0)):
        refuse("must be a whole number", "seed")


def _stops(stop: object) -> JsonObject:
    stops = [stop] if isinstance(stop, str) else list_of(stop)
    if stop is not None and not (isinstance(stop, str | list) and all(isinstance(one, str) for one in stops)):
        refuse("must be a text or a list of texts", "stop")
    stops = [one for one in stops if one]
    if len(stops) > STOPS_MAX:
        # Leaving some out would let the answer run on; OpenAI itself takes no more than four.
        refuse(f"may hold {STOPS_MAX} texts at most", "stop")
    return {"stopSequences": stops} if stops else {}


def _logprobs(body: JsonObject) -> JsonObject:
    if not isinstance(body.get("logprobs"), bool | None):
        refuse("must be true or false", "logprobs")
    if not body.get("logprobs"):
        return {}
    top = body.get("top_logprobs")
    return {"responseLogprobs": True} if top is None else {"responseLogprobs": True, "logprobs": top}


def _format(body: JsonObject, abilities: Abilities, dropped: list[str]) -> JsonObject:
    """Say which form the answer has."""
    if not isinstance(body.get("response_format"), dict | None):
        refuse("must be an object", "response_format")
    wanted = object_of(body.get("response_format"))
    kind = wanted.get("type", "text")
    if kind == "text":
        return {}
    is_old = abilities.thinking in (Thinking.NONE, Thinking.BUDGET)
    if kind not in ("json_object", "json_schema") or (is_old and body.get("tools")):
        # Grammars are unknown to Gemini; before 3 it refuses to be given functions and a form at once.
        dropped.append("response_format")
        return {}
    config: JsonObject = {"responseMimeType": "application/json"}
    schema = object_of(object_of(wanted.get("json_schema")).get("schema"))
    if schema and abilities.json_schema:
        config["responseJsonSchema"] = clean_schema(schema)
    elif schema:
        dropped.append("response_format")
    return config


def _modalities(body: JsonObject, dropped: list[str]) -> JsonObject:
    """Ask for pictures or speech; who is to speak writes no text beside it, unlike at OpenAI."""
    config: JsonObject = {}
    if not isinstance(body.get("modalities"), list | None):
        refuse("must be a list of texts", "modalities")
    wanted = [text_of(one).upper() for one in list_of(body.get("modalities"))]
    if wanted:
        config["responseModalities"] = ["AUDIO"] if "AUDIO" in wanted else wanted
    audio = object_of(body.get("audio"))
    if voice := text_of(audio.get("voice")):
        config["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}}
    if audio.get("format", RAW_AUDIO) != RAW_AUDIO:
        dropped.append("audio.format")
    picture = object_of(body.get("image_config"))
    if shape := {written: picture[name] for name, written in _PICTURE.items() if picture.get(name) is not None}:
        config["imageConfig"] = shape
    return config
