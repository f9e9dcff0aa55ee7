"""Texts that lose their middle: which, how much, and what around them is never touched."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from proxy.routing.middle_out import Cut
from proxy.routing.texts import TEXT_CHARS_MIN, Texts
from proxy.tokens import estimate_message
from tests.routing.conversations import MODEL, Message, call, cut, tokens_of

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000}}


def say(content: Any, role: str = "user") -> Message:
    """Make a message."""
    return {"role": role, "content": content}


def numbered(count: int) -> str:
    """Make a text of so many words, each told from the others."""
    return " ".join(f"w{index}" for index in range(count))


def only(done: Cut) -> str:
    """Give the content of the last message of a cut that fits."""
    assert done.fits
    content = done.messages[-1]["content"]
    assert isinstance(content, str)
    return content


def test_half_of_the_head_and_half_of_the_tail_stay() -> None:
    """Between them stands how much is missing, and the figure is right."""
    text = numbered(2_000)
    done = cut([say(text)], room=3_000)
    head, _, rest = only(done).partition("\n\n[... ")
    figure, _, tail = rest.partition(" characters left out to fit the model's context ...]\n\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert 0 <= len(head) - len(tail) <= 1
    assert int(figure.replace(",", "")) == len(text) - len(head) - len(tail)
    assert (done.truncated, done.dropped) == (1, 0)
    assert 2_400 < done.tokens <= 3_000


def test_the_longest_goes_first_and_short_ones_are_left_alone() -> None:
    """Of three texts one is enough; the question behind the document is not touched."""
    long, longer, question = say(numbered(500), "system"), say(numbered(3_000)), say("What is w7?", "assistant")
    done = cut([long, longer, question], room=6_000)
    assert done.fits
    assert (done.messages[0] is long, done.messages[1] is longer, done.messages[2] is question) == (True, False, True)
    both = cut([long, longer, question], room=1_200)
    assert both.fits
    assert both.truncated == 2
    assert both.messages[2] is question


def test_texts_of_one_message_each_lose_their_middle() -> None:
    """Other parts, and the fields of the parts shortened, stay as they were."""
    mark = {"type": "ephemeral"}
    content = [
        {"type": "text", "text": numbered(1_000), "cache_control": mark},
        IMAGE,
        {"type": "text", "text": numbered(900)},
        {"type": "text", "text": None},
        {"type": "text"},
        "no part",
    ]
    done = cut([say(content)], room=2_000)
    assert done.fits
    assert done.truncated == 2
    first, image, second, *others = done.messages[0]["content"]
    assert image is IMAGE
    assert others == content[3:]
    assert (first["cache_control"], set(second)) == (mark, {"type", "text"})
    assert "left out" in first["text"]
    assert "left out" in second["text"]


def test_calls_and_reasoning_are_never_shortened() -> None:
    """Half of an argument is no JSON, half of a signed thought no thought; a reply of a tool is text like any."""
    asked = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{**call("x"), "function": {"name": "look", "arguments": f'{{"at": "{numbered(300)}"}}'}}],
        "reasoning_details": [{"type": "reasoning.text", "text": numbered(300), "signature": "c2ln"}],
    }
    reply = {"role": "tool", "tool_call_id": "x", "content": numbered(3_000)}
    messages = [say("Look."), asked, reply]
    done = cut(messages, room=3_000)
    assert done.fits
    assert done.messages[:2] == messages[:2]
    assert done.messages[1] is asked
    assert {**done.messages[2], "content": ""} == {**reply, "content": ""}
    # Where only they are left to go, nothing fits.
    assert cut(messages, room=1_000) == Cut(messages, tokens_of(messages), fits=False)


@pytest.mark.parametrize(("chars", "is_shortened"), [(2 * TEXT_CHARS_MIN, True), (2 * TEXT_CHARS_MIN - 1, False)])
def test_a_text_keeps_a_least(chars: int, is_shortened: bool) -> None:
    """Less than that says nothing, and one little longer is not worth the marker."""
    text = ("word " * chars)[:chars]
    whole = estimate_message(say(text), MODEL)
    assert cut([say(text)], room=whole - 1).fits is is_shortened
    assert not cut([say(text)], room=20).fits


def test_a_text_whose_middle_weighs_nothing_stays() -> None:
    """The marker would weigh more than what it stands for."""
    text = numbered(30) + " " * 800 + numbered(30)
    messages = [say(text), say(numbered(200), "assistant")]
    assert len(text) > len(messages[1]["content"])
    done = cut(messages, room=tokens_of(messages) - 200)
    assert (done.fits, done.truncated, done.messages[0] is messages[0]) == (True, 1, True)


def test_a_text_whose_ends_weigh_most_is_cut_until_it_fits() -> None:
    """A guess by characters is too much here: what is kept is counted again until it fits."""
    dense = "".join(chr(0x4E00 + index * 37 % 20_000) for index in range(2_000))
    text = dense + "word " * 4_000 + dense
    done = cut([say(text)], room=estimate_message(say(text), MODEL) - 2_000)
    assert done.fits
    assert done.truncated == 1


def test_the_rounds_of_an_agent_reuse_the_cut() -> None:
    """All follow one wish, so nothing may go; texts are shortened in blocks: in 60 rounds that changes twice."""
    messages = [say("Find it.")]
    shown: list[tuple[str, ...]] = []
    for index in range(60):
        messages.append({"role": "assistant", "content": None, "tool_calls": [call(f"c{index}")]})
        reply = numbered(4_000) if index == 2 else "nothing here"
        messages.append({"role": "tool", "tool_call_id": f"c{index}", "content": reply})
        done = cut(messages, room=4_000)
        assert done.fits
        shown.append(tuple(str(message["content"]) for message in done.messages))
    moved = sum(later[: len(earlier)] != earlier for earlier, later in pairwise(shown))
    assert moved == 2


def test_nothing_is_done_where_nothing_is_too_long() -> None:
    """Then no text is even counted."""
    texts = Texts([say("hello")], [5], MODEL)
    assert texts.shorten(5, block_percent=15) == 0
    assert (texts.messages, texts.tokens) == ([say("hello")], [5])
