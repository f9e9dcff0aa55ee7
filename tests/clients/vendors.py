"""The vendors' own request types at work: run by an environment of its own, which has their SDKs and nothing of ours.

It reads one check a line from stdin (the check's name is the vendor, its `ask` the body) and writes one line about each
to stdout: what the vendor's types find wrong with the body, nothing when it is sound. SDKs give their types to type
checkers and never hold a request against them, so that is done here: strictly, and unknown members count as errors.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import anthropic  # type: ignore[import-not-found]  # these stand in .clients/, not in .venv/
import openai  # type: ignore[import-not-found]
from anthropic.types import message_create_params  # type: ignore[import-not-found]
from google import genai  # type: ignore[import-not-found]
from google.genai import types  # type: ignore[import-not-found]
from openai.types.chat import completion_create_params  # type: ignore[import-not-found]
from openrouter import VERSION, components  # type: ignore[import-not-found]
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, alias_generators
from pydantic_core import SchemaValidator

FINDINGS_MAX: Final = 50
TAGS: Final = frozenset({"type", "role"})
"""Members that tell the kinds of a union apart."""
URL_SAFE: Final = str.maketrans("+/", "-_")

Check = Callable[[str], list[str]]


class GenerateContent(BaseModel):
    """The body of Gemini's generateContent as the SDK writes it for Google AI; its members are the SDK's own types."""

    model_config = ConfigDict(
        extra="forbid",
        alias_generator=alias_generators.to_camel,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    contents: list[types.Content]
    system_instruction: types.Content | None = None
    tools: list[types.Tool] | None = None
    tool_config: types.ToolConfig | None = None
    safety_settings: list[types.SafetySetting] | None = None
    generation_config: types.GenerationConfig | None = None
    cached_content: str | None = None


def check_typed_dict(whole: Any, streamed: Any) -> Check:
    """Make a check of an SDK's TypedDicts: one for a whole answer, one for a streamed one."""
    # An embedded model would bring its own validator, which knows nothing of what `tighten` did.
    validators = [
        SchemaValidator(tighten(TypeAdapter(each).core_schema), _use_prebuilt=False) for each in (whole, streamed)
    ]

    def check(body: str) -> list[str]:
        try:
            validators[json.loads(body).get("stream") is True].validate_json(body, strict=True)
        except ValidationError as error:
            return describe(error)
        return []

    return check


def tighten(schema: Any) -> Any:
    """Forbid unknown members in a schema, look into every list, and take no object of the SDK's for a JSON one."""
    if isinstance(schema, list | tuple):
        return [tighten(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "model":
        # The parsed block of an earlier answer may be put into a request; on the wire there are no such objects.
        refused = {"type": "is-instance", "cls": schema["cls"]}
        return refused | ({"ref": schema["ref"]} if "ref" in schema else {})
    tight = {name: value if name == "metadata" else tighten(value) for name, value in schema.items()}
    if schema.get("type") == "generator":
        return tight | {"type": "list"}
    return tight | {"extra_behavior": "forbid"} if schema.get("type") == "typed-dict" else tight


def check_model(model: type[BaseModel]) -> Check:
    """Make a check of an SDK's pydantic model: what it would not write again as it stands was not understood."""

    def check(body: str) -> list[str]:
        try:
            parsed = model.model_validate_json(body, strict=True, by_alias=True, by_name=False)
        except ValidationError as error:
            return describe(error)
        except UserWarning as warning:
            return [str(warning)]
        again = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return list(differences(json.loads(body), again, "body"))[:FINDINGS_MAX]

    return check


def differences(sent: Any, again: Any, place: str) -> Sequence[str]:
    """Tell where two JSON values differ, members left out being null."""
    if isinstance(sent, dict) and isinstance(again, dict):
        names = sorted(sent.keys() | again.keys())
        return [each for name in names for each in differences(sent.get(name), again.get(name), f"{place}.{name}")]
    if isinstance(sent, list) and isinstance(again, list) and len(sent) == len(again):
        pairs = enumerate(zip(sent, again, strict=True))
        return [each for index, (one, other) in pairs for each in differences(one, other, f"{place}.{index}")]
    return [] if sent == again or is_same(sent, again, place) else [f"{place}: {sent!r} is read as {again!r}"]


def is_same(sent: Any, again: Any, place: str) -> bool:
    """Tell whether two texts mean one: base64 in either alphabet, or a level, which Google's pages write small."""
    if not (isinstance(sent, str) and isinstance(again, str)):
        return False
    if place.endswith(".thinkingLevel"):
        return sent.upper() == again
    return sent.translate(URL_SAFE).rstrip("=") == again.translate(URL_SAFE).rstrip("=")


def describe(error: ValidationError) -> list[str]:
    """Write the findings that matter: of a union, those of the members that the body's `type` or `role` means."""
    found = error.errors(include_url=False, include_input=False)
    meant = [finding for finding in found if not any(is_below(finding["loc"], other) for other in strangers(found))]
    lines = [f"{'.'.join(map(str, finding['loc']))}: {finding['msg']}" for finding in meant or found]
    return list(dict.fromkeys(lines))[:FINDINGS_MAX]


def strangers(found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Give the places of union members that the body is none of."""
    return [
        finding["loc"][:-1] for finding in found if finding["type"] == "literal_error" and finding["loc"][-1] in TAGS
    ] + [finding["loc"] for finding in found if finding["type"] == "needs_python_object"]


def is_below(loc: tuple[Any, ...], place: tuple[Any, ...]) -> bool:
    """Tell whether a finding stands at a place or below it."""
    return loc[: len(place)] == place


CHECKS: Final[Mapping[str, Check]] = {
    "openai": check_typed_dict(
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    ),
    "openrouter": check_model(components.ChatRequest),
    "anthropic": check_typed_dict(
        message_create_params.MessageCreateParamsNonStreaming, message_create_params.MessageCreateParamsStreaming
    ),
    "google": check_model(GenerateContent),
}
VERSIONS: Final = {
    "openai": openai.__version__,
    "openrouter": VERSION,
    "anthropic": anthropic.__version__,
    "google": genai.__version__,
}


def main() -> None:
    """Say which SDKs these are, then check line by line until stdin ends."""
    # An enum of Gemini's takes any word and only warns.
    warnings.simplefilter("error", UserWarning)
    say(VERSIONS)
    for line in sys.stdin:
        order = json.loads(line)
        say({"found": CHECKS[order["check"]](json.dumps(order["ask"]))})


def say(facts: Mapping[str, object]) -> None:
    """Write one line at once."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
