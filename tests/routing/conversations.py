"""Conversations for the tests of middle-out: short ones spelled as letters, any shape by hypothesis, a long one."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from proxy.routing.middle_out import Cut, middle_out
from proxy.routing.transforms import PromptTokens, count_prompt

Message = dict[str, Any]

MODEL = "openai/gpt-4o"
ROLES = {"s": "system", "d": "developer", "u": "user", "a": "assistant", "c": "assistant", "t": "tool", "f": "function"}


def spell(letters: str) -> list[Message]:
    """Make a message of each letter: `c` calls a tool, `t` answers the call before it, `m` is a marked assistant."""
    messages: list[Message] = []
    calls = 0
    for index, letter in enumerate(letters):
        message: Message = {"role": ROLES.get(letter, "assistant"), "content": f"{letter}{index}"}
        if letter == "c":
            calls += 1
            message["tool_calls"] = [call(f"call_{calls}")]
        if letter == "t":
            message["tool_call_id"] = f"call_{calls}"
        if letter == "m":
            message["content"] = [{"type": "text", "text": f"m{index}", "cache_control": {"type": "ephemeral"}}]
        messages.append(message)
    return messages


def call(call_id: str) -> Message:
    """Make a tool call."""
    return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": '{"where": "under the bed"}'}}


def weigh(messages: list[Message], tokens: list[int] | None = None) -> PromptTokens:
    """Say how long these messages are: 10 tokens each unless told otherwise."""
    return PromptTokens(MODEL, tuple(tokens or [10] * len(messages)), tools=0, rest=0)


def cut(messages: list[Message], *, room: int, messages_max: int | None = None) -> Cut:
    """Cut a conversation by real counts."""
    prompt = count_prompt({"messages": messages}, MODEL)
    return middle_out(messages, prompt, room_tokens=room, messages_max=messages_max)


def tokens_of(messages: list[Message]) -> int:
    """Count messages."""
    return sum(count_prompt({"messages": messages}, MODEL).messages)


words = st.integers(0, 120).map(lambda size: "word " * size)
texts = words | words | words | st.integers(100, 1_000).map(lambda size: "héllo, " * size)
images = st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}})


@st.composite
def parts(draw: st.DrawFn) -> list[Message]:
    """Make the parts of a content."""
    made = draw(st.lists(texts.map(lambda text: {"type": "text", "text": text}) | images, min_size=1, max_size=3))
    if draw(st.integers(0, 9)) == 0:
        made[0] = {**made[0], "cache_control": {"type": "ephemeral"}}
    return made


@st.composite
def tool_rounds(draw: st.DrawFn) -> list[Message]:
    """Make a call or several at once and all replies; ids repeat from turn to turn, as some servers have it."""
    ids = [f"call_{index}" for index in range(draw(st.integers(1, 3)))]
    asked = {"role": "assistant", "content": None, "tool_calls": [call(call_id) for call_id in ids]}
    replies = [
        {"role": "tool", "tool_call_id": call_id, "content": draw(texts)} for call_id in draw(st.permutations(ids))
    ]
    return [asked, *replies]


@st.composite
def turns(draw: st.DrawFn) -> list[Message]:
    """Make what follows one wish of a user, and the wish."""
    made: list[Message] = [{"role": "user", "content": draw(texts | parts())}]
    for _ in range(draw(st.integers(0, 2))):
        made += draw(tool_rounds())
    if draw(st.booleans()):
        thought = {"type": "reasoning.text", "text": "hm", "signature": "c2ln"}
        made.append({"role": "assistant", "content": draw(texts), "reasoning_details": [thought]})
    if draw(st.integers(0, 9)) == 0:
        made.append({"role": "system", "content": "from now on: French"})
    return made


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Make a whole conversation that ends with what a model may answer."""
    made = [
        {"role": role, "content": draw(texts)}
        for role in draw(st.sampled_from([(), ("system",), ("system", "developer")]))
    ]
    if draw(st.integers(0, 4)) == 0:
        made.append({"role": "assistant", "content": "Hello! What shall we do?"})
    for turn in draw(st.lists(turns(), min_size=1, max_size=12)):
        made += turn
    return number(made)


def number(messages: list[Message], first: int = 0) -> list[Message]:
    """Give each message a number that tells it from all others."""
    return [{**message, "number": index} for index, message in enumerate(messages, first)]


def two_hundred() -> list[Message]:
    """Make a support chat of 200 messages: one of the system, every fifth turn with a look into the order book."""
    messages: list[Message] = [
        {"role": "system", "content": "You help customers of a bicycle shop. Be brief and kind."}
    ]
    turn = 0
    while len(messages) < 199:
        turn += 1
        messages.append(
            {"role": "user", "content": f"Question {turn}: where is order {1000 + turn}? " + "It is late. " * 20}
        )
        if turn % 5 == 0:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call(f"call_{turn}")]})
            messages.append({"role": "tool", "tool_call_id": f"call_{turn}", "content": '{"state": "sent"}' * 10})
        messages.append(
            {"role": "assistant", "content": f"Order {1000 + turn} is on its way. " + "Please wait a day. " * 10}
        )
    return [*messages[:199], {"role": "user", "content": "And which of them arrives first?"}]
