"""Middle-out: what is lost, what never is, and that the next turn is cut as this one was."""

from __future__ import annotations

import time
from itertools import accumulate

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.routing.middle_out import Cut, middle_out
from proxy.routing.transforms import count_prompt, room_of
from tests.routing.conversations import (
    MODEL,
    Message,
    call,
    conversations,
    cut,
    number,
    spell,
    tokens_of,
    turns,
    two_hundred,
    weigh,
)


def shown(cut_: Cut) -> str:
    """Name the messages kept by their letter and index."""
    contents = [message["content"] for message in cut_.messages]
    return " ".join(content if isinstance(content, str) else content[0]["text"] for content in contents)


def kept(letters: str, room: int, *, tokens: list[int] | None = None, messages_max: int | None = None) -> str:
    """Cut a conversation of 10 tokens a message and name what is left, `-` when it cannot fit."""
    messages = spell(letters)
    done = middle_out(messages, weigh(messages, tokens), room_tokens=room, messages_max=messages_max)
    assert done.kept + done.dropped == len(messages)
    return shown(done) if done.fits else "-"


# ---------------------------------------------------------------- by tokens


@pytest.mark.parametrize(
    ("letters", "room", "left"),
    [
        # It fits, to the last token.
        ("uauau", 50, "u0 a1 u2 a3 u4"),
        # One token less: of the four that may go, two are in the centre, and the older goes.
        ("uauau", 49, "u0 u2 a3 u4"),
        ("suauau", 59, "s0 u1 u3 a4 u5"),
        # Outwards, down to 85 % of what the pinned leave.
        ("uauauau", 69, "u0 a1 a3 u4 a5 u6"),
        ("uauauau", 60, "u0 a1 u4 a5 u6"),
        # The cut that six of them would have had still serves seven: a1 and u2 went when a5 came.
        ("uauauau", 50, "u0 a3 u4 a5 u6"),
        ("uauauau", 40, "u0 a5 u6"),
        # Pinned: what leads, the last wish, all that follows it.
        ("sduauau", 40, "s0 d1 u6"),
        ("uauaut", 20, "u4 t5"),
        ("uauact", 40, "u2 a3 c4 t5"),
        ("uauact", 39, "-"),
        # A system message later on is like any other.
        ("uasuau", 45, "u0 a4 u5"),
        # A conversation in which no user speaks keeps its end.
        ("saaaa", 45, "s0 a1 a3 a4"),
        ("aaa", 10, "a2"),
        ("s", 10, "s0"),
        ("s", 9, "-"),
        ("u", 9, "-"),
        ("", 0, ""),
        ("", -1, "-"),
    ],
)
def test_the_middle_goes_first(letters: str, room: int, left: str) -> None:
    """From the centre of what may go, outwards, the older first."""
    assert kept(letters, room) == left


@pytest.mark.parametrize(
    ("letters", "room", "left"),
    [
        # One in the centre that weighs enough goes alone: its older neighbour went before it, in vain, and is back.
        ("uactau", 50, "u0 a1 a4 u5"),
        ("ucttuau", 60, "u0 u4 a5 u6"),
        ("uctuctctu", 80, "u0 c4 t5 c6 t7 u8"),
        # A reply without an id, and one nobody waits for.
        ("ucfuau", 50, "u0 u3 a4 u5"),
        ("uatuau", 55, "u0 u3 a4 u5"),
    ],
)
def test_a_call_goes_with_its_replies(letters: str, room: int, left: str) -> None:
    """They are one unit: one without the other is refused by every provider."""
    assert kept(letters, room) == left


def test_calls_and_replies_find_each_other() -> None:
    """By id, the latest call that has it, whatever stands between; a second reply joins the calls it follows."""
    messages = spell("ucuucuuuu")
    messages[1]["tool_calls"] = [call("x"), call("y")]
    messages[2:4] = [{"role": "tool", "tool_call_id": "x", "content": "t2"}, *spell("ss")[1:]]
    messages[4]["tool_calls"] = [call("x"), "no call"]
    messages[5:8] = [
        {"role": "tool", "tool_call_id": "x", "content": "t5"},
        {"role": "tool", "tool_call_id": "x", "content": "t6"},
        {"role": "tool", "tool_call_id": "y", "content": "t7"},
    ]
    # y's reply comes last of all, so the whole of 1 to 7 is one unit.
    done = middle_out(messages, weigh(messages), room_tokens=89)
    assert shown(done) == "u0 u8"
    # Without y there are two: 1 to 2, and 4 to 7.
    messages[1]["tool_calls"] = [call("x")]
    done = middle_out(messages, weigh(messages), room_tokens=89)
    assert shown(done) == "u0 s1 c4 t5 t6 t7 u8"


def test_a_second_reply_belongs_to_what_it_follows() -> None:
    """The call has its reply; what stands between the two replies is no part of it."""
    messages = spell("uctauautau")
    messages[7]["tool_call_id"] = messages[2]["tool_call_id"]
    assert shown(middle_out(messages, weigh(messages), room_tokens=99)) == "u0 c1 t2 a3 u6 t7 a8 u9"


def test_the_old_form_of_a_call_goes_with_its_reply() -> None:
    """`function_call` has no id: its reply is what follows."""
    messages = spell("uafuau")
    messages[1]["function_call"] = {"name": "look", "arguments": "{}"}
    messages[2] = {"role": "function", "name": "look", "content": "f2"}
    assert shown(middle_out(messages, weigh(messages), room_tokens=59)) == "u0 u3 a4 u5"


@pytest.mark.parametrize(
    ("tokens", "left"),
    [
        ([10, 60, 10, 10, 10, 10, 30], "u0 u2 a3 u4 a5 u6"),
        ([10, 10, 10, 10, 60, 10, 30], "u0 a1 u2 a3 a5 u6"),
    ],
)
def test_nothing_goes_in_vain(tokens: list[int], left: str) -> None:
    """Where a heavy message off the centre has to go, those between may stay."""
    assert kept("uauauau", 120, tokens=tokens) == left


@pytest.mark.parametrize(
    ("letters", "room", "tokens", "left"),
    [
        # The marked message stays, its neighbours go; the newest mark counts.
        ("uaumuau", 45, None, "u0 m3 a5 u6"),
        ("uamumuauau", 60, None, "u0 m4 a6 u7 a8 u9"),
        # Too long for the room, it is a message like any other,
        ("uaumau", 60, [10, 10, 10, 55, 10, 10], "u0 a1 u2 a4 u5"),
        # and so it is where it would be the first, as no conversation may begin with an assistant that did not.
        ("umaau", 25, None, "u4"),
        ("amaau", 25, None, "m1 u4"),
        ("uaumau", 60, [10, 10, 10, 55, 10, 61], "-"),
    ],
)
def test_the_newest_cache_mark_is_kept(letters: str, room: int, tokens: list[int] | None, left: str) -> None:
    """A provider's prompt cache ends there; it is kept if the rest can be made to fit around it."""
    assert kept(letters, room, tokens=tokens) == left


def test_a_mark_on_the_message_itself_counts_too() -> None:
    """Some clients put it there."""
    messages = spell("uauauau")
    messages[3]["cache_control"] = {"type": "ephemeral"}
    assert shown(middle_out(messages, weigh(messages), room_tokens=55)) == "u0 a3 a5 u6"


def test_a_message_that_once_filled_the_room_costs_its_neighbours_nothing() -> None:
    """When it was the last wish nothing else could stay; as soon as it may go itself, the rest is back."""
    assert kept("uauauau", 100, tokens=[10, 10, 10, 10, 120, 10, 10]) == "u0 a1 u2 a3 a5 u6"


@pytest.mark.parametrize(
    ("letters", "room", "left"),
    [
        # What began with a user still does.
        ("uaaaau", 35, "u0 a4 u5"),
        ("uaaaau", 29, "u5"),
        ("suaasau", 39, "s0 u6"),
        # What did not need not.
        ("aauau", 29, "a3 u4"),
        # A reply whose call is gone never leads.
        ("uuttau", 45, "u0 a4 u5"),
        ("tuauau", 49, "u3 a4 u5"),
    ],
)
def test_what_is_left_begins_as_it_should(letters: str, room: int, left: str) -> None:
    """Anthropic and Gemini want a user message first, and nobody takes a reply there."""
    assert kept(letters, room) == left


# ---------------------------------------------------------------- by count


@pytest.mark.parametrize(
    ("letters", "messages_max", "left"),
    [
        ("uauauauau", 9, "u0 a1 u2 a3 u4 a5 u6 a7 u8"),
        ("uauauauau", 8, "u0 a1 u2 a3 a5 u6 a7 u8"),
        ("uauauauau", 5, "u0 a1 u2 a7 u8"),
        ("uauauauau", 4, "u0 a1 a7 u8"),
        ("uauauauau", 1, "u8"),
        ("uauauauau", 0, "-"),
        # Moved to the borders of units, so fewer may be left.
        ("uactuactuau", 8, "u0 a1 c2 t3 u8 a9 u10"),
        ("uactuactuau", 6, "u0 a1 u8 a9 u10"),
        # What is pinned counts, and takes the place of what is nearest the centre.
        ("uauauaaa", 4, "u4 a5 a6 a7"),
        ("uauauaaa", 3, "-"),
        ("sssuauau", 4, "s0 s1 s2 u7"),
        ("uamuauauu", 5, "u0 a1 m2 u7 u8"),
        ("uamuauauu", 4, "u0 m2 u7 u8"),
        ("uamuauauu", 1, "u8"),
    ],
)
def test_so_many_messages_at_most(letters: str, messages_max: int, left: str) -> None:
    """Half of them from the start, half from the end."""
    assert kept(letters, 1_000, messages_max=messages_max) == left


def test_first_by_count_then_by_tokens() -> None:
    """Both limits hold."""
    assert kept("uauauauau", 39, messages_max=6) == "u0 a7 u8"


# ---------------------------------------------------------------- for any conversation

percents = st.integers(1, 110)
"""Of the conversation's own length."""


def parents(messages: list[Message]) -> list[tuple[str, int]]:
    """Name every call and every reply by id and by how many calls of that id came before."""
    seen: dict[str, int] = {}
    found = []
    for message in messages:
        for made in message.get("tool_calls", ()):
            seen[made["id"]] = seen.get(made["id"], 0) + 1
            found.append((made["id"], seen[made["id"]]))
        if message["role"] == "tool":
            found.append((message["tool_call_id"], seen.get(message["tool_call_id"], 0)))
    return found


def without_texts(message: Message) -> Message:
    """Give all of a message that must never change."""
    content = message["content"]
    if isinstance(content, list):
        return {**message, "content": [{**part, "text": ""} if part["type"] == "text" else part for part in content]}
    return {**message, "content": ""}


def pinned_of(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Give what must stay: the leading system messages, the last user message and all after it."""
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    leading = next(index for index, message in enumerate(messages) if message["role"] not in ("system", "developer"))
    return messages[:leading], messages[users[-1] :]


@given(conversations(), percents, st.none() | st.integers(1, 40))
def test_a_cut_keeps_its_promises(messages: list[Message], percent: int, messages_max: int | None) -> None:
    """It fits if it says so, invents nothing, keeps the order, pairs and what is pinned, and leaves images alone."""
    before, room = repr(messages), tokens_of(messages) * percent // 100
    done = cut(messages, room=room, messages_max=messages_max)
    assert repr(messages) == before
    if not done.fits:
        assert (done.messages, done.dropped, done.truncated) == (messages, 0, 0)
        return
    assert done.tokens == tokens_of(done.messages) <= room
    assert messages_max is None or done.kept <= messages_max
    assert done.kept + done.dropped == len(messages)
    assert done.is_cut == (done.messages != messages)
    numbers = [message["number"] for message in done.messages]
    assert numbers == sorted(set(numbers))
    originals = [messages[number] for number in numbers]
    changed = [(new, old) for new, old in zip(done.messages, originals, strict=True) if new is not old]
    assert bool(changed) == bool(done.truncated)
    for new, old in changed:
        assert without_texts(new) == without_texts(old)
        assert "characters left out" in repr(new)
    first, last = pinned_of(messages)
    assert originals[: len(first)] == first
    assert originals[-len(last) :] == last
    named = parents(originals)
    assert all(named.count(pair) == 2 for pair in named)
    assert done.truncated == 0 or done.kept == len(first) + len(last)


@given(conversations(), percents, st.none() | st.integers(1, 40))
def test_cutting_twice_changes_nothing(messages: list[Message], percent: int, messages_max: int | None) -> None:
    """What fits is left alone, down to the objects."""
    room = tokens_of(messages) * percent // 100
    once = cut(messages, room=room, messages_max=messages_max)
    twice = cut(once.messages, room=room, messages_max=messages_max)
    assert (twice.messages, twice.tokens, twice.fits) == (once.messages, once.tokens, once.fits)
    assert not once.fits or not twice.is_cut
    assert all(new is old for new, old in zip(twice.messages, once.messages, strict=True))


@settings(max_examples=50)
@given(conversations(), percents, st.lists(turns(), min_size=1, max_size=3))
def test_the_next_turns_reuse_the_cut(messages: list[Message], percent: int, later: list[list[Message]]) -> None:
    """As long as they fit behind it, what is sent begins as it did: a provider's prompt cache stays good."""
    messages = [without_marks(message) for message in messages]
    room = tokens_of(messages) * percent // 100
    now = cut(messages, room=room)
    assume(now.fits and not now.truncated and keeps_its_front(now, messages))
    more = number([without_marks(message) for turn in later for message in turn], len(messages))
    lengths = accumulate(count_prompt({"messages": more}, MODEL).messages, initial=now.tokens)
    more = more[: sum(length <= room for length in lengths) - 1]
    then = cut(messages + more, room=room)
    assert then.messages == now.messages + more
    assert then.dropped == now.dropped


def without_marks(message: Message) -> Message:
    """Take the marks off: clients move them from turn to turn."""
    content = message["content"]
    if isinstance(content, str | None):
        return message
    return {**message, "content": [{k: v for k, v in part.items() if k != "cache_control"} for part in content]}


def keeps_its_front(done: Cut, messages: list[Message]) -> bool:
    """Tell whether the conversation's own beginning is left, so that nothing else had to go for the sake of roles."""
    first, _ = pinned_of(messages)
    return done.kept > len(first) and done.messages[len(first)] is messages[len(first)]


def test_a_growing_conversation_keeps_its_beginning_for_many_turns() -> None:
    """All of it is sent turn after turn; of 100 that overflow, 7 move the cut, and the first half stays even then."""
    overflowed = moved = 0
    messages, previous = spell("s"), list[Message]()
    for turn in range(200):
        messages.append({"role": "user", "content": f"u{turn}"})
        done = middle_out(messages, weigh(messages), room_tokens=2_000)
        overflowed += done.is_cut
        moved += done.messages[: len(previous)] != previous
        assert done.messages[:80] == messages[:80]
        assert done.tokens > 1_690 or not done.is_cut
        previous = done.messages
        messages.append({"role": "assistant", "content": f"a{turn}"})
    assert (overflowed, moved) == (100, 7)


def test_ten_thousand_messages_take_no_time() -> None:
    """The event loop's neighbours wait for a thread that holds Python's lock: well under a second of CPU in all."""
    messages = spell("s" + "uact" * 2_500 + "u")
    prompt = weigh(messages)
    for room in (60, 5_000, 90_000):
        started_s = time.thread_time()
        assert middle_out(messages, prompt, room_tokens=room, messages_max=5_000).is_cut
        assert time.thread_time() - started_s < 1


# ---------------------------------------------------------------- a real one


def test_two_hundred_messages_into_eight_thousand_tokens() -> None:
    """The example of the documentation, with real counts."""
    messages = two_hundred()
    prompt = count_prompt({"messages": messages}, MODEL)
    room = room_of(8_192, reserved_output_tokens=1_000, fixed_tokens=prompt.fixed)
    done = middle_out(messages, prompt, room_tokens=room)
    assert (len(messages), prompt.text, room) == (200, 14_359, 7_025)
    assert (done.dropped, done.kept, done.tokens, done.fits) == (109, 91, 6_499, True)
    assert done.messages == [*messages[:40], *messages[149:]]
