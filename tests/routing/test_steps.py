"""The walk through a chain: scripted failures in, calls and the one last error out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Failure, FailureKind, RequestError
from proxy.policy.retry import Verdict, judge
from proxy.pricing import ModelFacts
from proxy.routing.plan import Plan
from proxy.routing.steps import Call, GiveUp, Outcome, attempts_of, error_of, next_step
from proxy.routing.table import Target
from tests.routing.made import plan_of, target

K = FailureKind
STATUSES = {
    K.TIMEOUT: None,
    K.CONNECT: None,
    K.RATE_LIMITED: 429,
    K.CREDENTIALS: 401,
    K.CREDITS: 402,
    K.NOT_FOUND: 404,
    K.BAD_REQUEST: 400,
    K.CONTEXT_LENGTH: 400,
    K.CONTENT_POLICY: 403,
    K.SERVER_ERROR: 500,
    K.INVALID_REPLY: 200,
    K.BROKEN_STREAM: None,
}


def failure(kind: FailureKind, **more: Any) -> Failure:
    """Make a failure of this kind, with the status it usually has."""
    return Failure(kind, **{"message": f"{kind} words", "status": STATUSES[kind], **more})


def sized(name: str, context: int | None) -> Target:
    """Make a target of this context."""
    return target(name, facts=ModelFacts(context_tokens=context))


def walk(plan: Plan, script: list[Failure]) -> tuple[list[int], list[float], GiveUp | None]:
    """Let attempts fail as scripted; give who was called, the waits, and the end if the script reached it."""
    outcomes: tuple[Outcome, ...] = ()
    calls: list[int] = []
    waits: list[float] = []
    for scripted in [*script, None]:
        step = next_step(plan, outcomes, jitter=1)
        if isinstance(step, GiveUp):
            assert scripted is None, "the chain ended before the script"
            return calls, waits, step
        if scripted is None:
            return calls, waits, None
        calls.append(step.index)
        waits.append(step.delay_s)
        outcomes = (*outcomes, Outcome(step.index, scripted, elapsed_ms=5))
    raise AssertionError


def end_of(plan: Plan, script: list[Failure]) -> RequestError:
    """Walk to the end and give the error."""
    _, _, end = walk(plan, script)
    assert end is not None
    return end.error


# The order.


@pytest.mark.parametrize(
    ("targets", "retries", "kinds", "calls"),
    [
        (1, 3, [], []),
        (1, 3, [K.SERVER_ERROR] * 3, [0, 0, 0]),
        (1, 1, [K.SERVER_ERROR], [0]),
        (2, 3, [K.SERVER_ERROR], [0]),
        (2, 3, [K.SERVER_ERROR] * 4, [0, 1, 1, 1]),
        (3, 3, [K.SERVER_ERROR] * 5, [0, 1, 2, 2, 2]),
        (3, 1, [K.SERVER_ERROR] * 3, [0, 1, 2]),
        (2, 3, [K.CONNECT, K.TIMEOUT, K.RATE_LIMITED, K.BROKEN_STREAM], [0, 1, 1, 1]),
        (2, 3, [K.INVALID_REPLY] * 4, [0, 1, 1, 1]),
        # What says the same again is not asked again; the last of the others is.
        (2, 3, [K.SERVER_ERROR, K.CREDENTIALS, K.SERVER_ERROR, K.SERVER_ERROR], [0, 1, 0, 0]),
        (3, 3, [K.SERVER_ERROR, K.TIMEOUT, K.NOT_FOUND, K.TIMEOUT, K.TIMEOUT], [0, 1, 2, 1, 1]),
        (2, 3, [K.SERVER_ERROR, K.SERVER_ERROR, K.CREDENTIALS, K.SERVER_ERROR], [0, 1, 1, 0]),
        (1, 3, [K.CREDENTIALS], [0]),
        (2, 3, [K.CREDENTIALS, K.CREDITS], [0, 1]),
        (2, 3, [K.NOT_FOUND, K.NOT_FOUND], [0, 1]),
        (2, 3, [K.CONTENT_POLICY, K.CONTENT_POLICY], [0, 1]),
        # The request's own fault ends it, wherever it shows.
        (3, 3, [K.BAD_REQUEST], [0]),
        (3, 3, [K.SERVER_ERROR, K.BAD_REQUEST], [0, 1]),
        (2, 3, [K.SERVER_ERROR, K.SERVER_ERROR, K.BAD_REQUEST], [0, 1, 1]),
    ],
)
def test_who_is_called_next(targets: int, retries: int, kinds: list[FailureKind], calls: list[int]) -> None:
    """Each target once, in order; then the last that may do better, as often as the table allows."""
    plan = plan_of(*(f"acme/{index}" for index in range(targets)), retries=retries)
    called, _, end = walk(plan, [failure(kind) for kind in kinds])
    assert called == calls
    finished = not kinds or (targets, retries, kinds) == (2, 3, [K.SERVER_ERROR])
    assert (end is None) is finished


def test_a_refused_credential_skips_no_other_target_of_its_provider() -> None:
    """Another model of the same provider may be paid from elsewhere: it is still called."""
    called, _, _ = walk(plan_of("acme/a", "acme/b"), [failure(K.CREDITS), failure(K.CREDENTIALS)])
    assert called == [0, 1]


def test_fallback_is_immediate_and_only_a_repeat_waits() -> None:
    """Another target is called at once; the same one after a wait that doubles, or as long as it asked for."""
    _, waits, _ = walk(plan_of("a/0", "a/1", retries=4), [failure(K.SERVER_ERROR)] * 5)
    assert waits == [0, 0, 0.5, 1, 2]
    slow = failure(K.RATE_LIMITED, retry_after_s=7)
    _, waits, _ = walk(plan_of("a/0", "a/1"), [slow, slow, failure(K.RATE_LIMITED), slow])
    assert waits == [0, 0, 7, 1]


def test_a_repeat_waits_as_its_own_target_asked() -> None:
    """Not as another one did."""
    script = [failure(K.RATE_LIMITED, retry_after_s=9), failure(K.SERVER_ERROR, retry_after_s=2)]
    assert walk(plan_of("a/0", "a/1"), [*script, failure(K.SERVER_ERROR)])[1] == [0, 0, 2]


def test_a_wait_too_long_is_not_waited() -> None:
    """The client is told how long instead."""
    error = end_of(plan_of("a/0"), [failure(K.RATE_LIMITED, retry_after_s=30)])
    assert (error.status, error.retry_after_s) == (429, 30)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_chance_comes_from_outside(jitter: float) -> None:
    """The walk itself decides nothing by chance."""
    outcomes = (Outcome(0, failure(K.SERVER_ERROR), 5),)
    assert next_step(plan_of("a/0"), outcomes, jitter=jitter) == Call(0, 0.25 + jitter / 4)


# Context.


@pytest.mark.parametrize(
    ("contexts", "kinds", "calls"),
    [
        ([8, 8, 128], [K.CONTEXT_LENGTH], [0]),
        ([8, 8, 128], [K.CONTEXT_LENGTH, K.CONTEXT_LENGTH], [0, 2]),
        ([8, 4, 8], [K.CONTEXT_LENGTH], [0]),
        ([8, None, 128], [K.CONTEXT_LENGTH, K.SERVER_ERROR], [0, 1]),
        ([None, 8], [K.CONTEXT_LENGTH, K.CONTEXT_LENGTH], [0, 1]),
        ([8, None, 16], [K.CONTEXT_LENGTH, K.CONTEXT_LENGTH, K.CONTEXT_LENGTH], [0, 1, 2]),
        # A target that is known to be too small is not tried again either.
        ([8, 128], [K.SERVER_ERROR, K.CONTEXT_LENGTH], [0, 1]),
        ([None, 128], [K.SERVER_ERROR, K.CONTEXT_LENGTH, K.SERVER_ERROR, K.SERVER_ERROR], [0, 1, 0, 0]),
        ([8, 128], [K.CONTEXT_LENGTH, K.SERVER_ERROR, K.SERVER_ERROR, K.SERVER_ERROR], [0, 1, 1, 1]),
        ([128, 64, 256], [K.SERVER_ERROR, K.CONTEXT_LENGTH, K.SERVER_ERROR, K.SERVER_ERROR], [0, 1, 2, 2]),
    ],
)
def test_an_overflow_goes_only_to_more_room(
    contexts: list[int | None], kinds: list[FailureKind], calls: list[int]
) -> None:
    """A target whose context is no larger would say the same; one that is not known may be tried."""
    plan = plan_of(*(sized(f"a/{index}", context) for index, context in enumerate(contexts)))
    assert walk(plan, [failure(kind) for kind in kinds])[0] == calls


def test_a_target_left_out_gives_its_calls_to_nobody() -> None:
    """No target is tried more often than the table allows, even when others were too small to be tried at all."""
    plan = plan_of(sized("a/0", 8), sized("a/1", 4), sized("a/2", 16), retries=2)
    calls, _, end = walk(plan, [failure(K.CONTEXT_LENGTH), failure(K.SERVER_ERROR), failure(K.SERVER_ERROR)])
    assert calls == [0, 2, 2]
    assert end is not None


def test_an_overflow_everywhere_is_the_prompt_s() -> None:
    """400 with the words of the last, which has the most room."""
    plan = plan_of(sized("a/0", 8), sized("a/1", 16))
    error = end_of(plan, [failure(K.CONTEXT_LENGTH), failure(K.CONTEXT_LENGTH, message="longer", metadata={"x": 1})])
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")
    assert (error.message, error.metadata["x"]) == ("longer", 1)


# The end.


@pytest.mark.parametrize(
    ("kinds", "status", "code"),
    [
        ([K.RATE_LIMITED] * 4, 429, "rate_limit_exceeded"),
        ([K.NOT_FOUND] * 2, 404, "model_not_found"),
        ([K.TIMEOUT] * 4, 504, "upstream_timeout"),
        ([K.CREDENTIALS] * 2, 503, "upstream_credentials"),
        ([K.CREDITS] * 2, 503, "upstream_credits"),
        ([K.CREDITS, K.CREDENTIALS], 503, "upstream_credits"),
        ([K.CREDENTIALS, K.CREDITS], 503, "upstream_credits"),
        ([K.CONTENT_POLICY] * 2, 403, "content_policy"),
        ([K.CONTEXT_LENGTH] * 2, 400, "context_length_exceeded"),
        ([K.BAD_REQUEST], 400, "invalid_value"),
        ([K.SERVER_ERROR, K.BAD_REQUEST], 400, "invalid_value"),
        ([K.SERVER_ERROR] * 4, 502, "upstream_error"),
        ([K.CONNECT] * 4, 502, "upstream_error"),
        ([K.INVALID_REPLY] * 4, 502, "upstream_error"),
        ([K.BROKEN_STREAM] * 4, 502, "upstream_error"),
        ([K.RATE_LIMITED, K.SERVER_ERROR, K.RATE_LIMITED, K.RATE_LIMITED], 502, "upstream_error"),
        ([K.TIMEOUT, K.CONNECT, K.TIMEOUT, K.TIMEOUT], 502, "upstream_error"),
        ([K.NOT_FOUND, K.RATE_LIMITED, K.RATE_LIMITED, K.RATE_LIMITED], 502, "upstream_error"),
        ([K.CREDENTIALS, K.NOT_FOUND], 502, "upstream_error"),
        # The prompt's own faults come before what may pass.
        ([K.CONTENT_POLICY, K.CREDENTIALS], 403, "content_policy"),
        ([K.CREDENTIALS, K.CONTENT_POLICY], 403, "content_policy"),
        ([K.CONTENT_POLICY, K.SERVER_ERROR, K.SERVER_ERROR, K.SERVER_ERROR], 403, "content_policy"),
        ([K.CONTENT_POLICY, K.CONTEXT_LENGTH], 403, "content_policy"),
        ([K.NOT_FOUND, K.CONTEXT_LENGTH], 400, "context_length_exceeded"),
        ([K.CONTEXT_LENGTH, K.NOT_FOUND], 502, "upstream_error"),
    ],
)
def test_the_attempts_become_one_error(kinds: list[FailureKind], status: int, code: str) -> None:
    """design.md section 6: alike, one status; mixed, 502, unless the client can change something."""
    error = end_of(plan_of("a/0", "a/1"), [failure(kind) for kind in kinds])
    assert (error.status, error.code) == (status, code)
    assert [attempt["reason"] for attempt in error.metadata["attempts"]] == [kind.value for kind in kinds]


@pytest.mark.parametrize(
    ("status", "code", "shown"),
    [
        (400, "unsupported_value", "unsupported_value"),
        (400, None, "invalid_value"),
        (413, None, "payload_too_large"),
        (422, None, "invalid_value"),
        (None, None, "invalid_value"),
    ],
)
def test_a_rejection_is_the_upstream_s_word(status: int | None, code: str | None, shown: str) -> None:
    """Its status, message, code and parameter, scrubbed already; sending it again is no use."""
    rejected = failure(K.BAD_REQUEST, status=status, code=code, param="p", metadata={"x": 1})
    error = end_of(plan_of("a/0", "a/1"), [rejected])
    assert (error.status, error.type, error.code) == (status or 400, "invalid_request_error", shown)
    assert (error.message, error.param, error.metadata["x"]) == ("bad_request words", "p", 1)
    assert error.should_retry is False


@pytest.mark.parametrize(
    ("waits", "smallest"), [([7, 3, None, 5], 3), ([None, None, None, None], None), ([None, None, None, 0], 0)]
)
@pytest.mark.parametrize("kind", [K.RATE_LIMITED, K.SERVER_ERROR])
def test_the_smallest_wait_is_told(kind: FailureKind, waits: list[float | None], smallest: float | None) -> None:
    """As soon as any target may answer, asking again makes sense."""
    script = [failure(kind, retry_after_s=wait_s) for wait_s in waits]
    assert end_of(plan_of("a/0", "a/1"), script).retry_after_s == smallest


@pytest.mark.parametrize(
    "kinds", [[K.CREDENTIALS, K.NOT_FOUND], [K.NOT_FOUND, K.CREDENTIALS], [K.NOT_FOUND, K.CREDITS]]
)
def test_words_about_our_credential_are_not_the_client_s(kinds: list[FailureKind]) -> None:
    """They would read as if the client's key were wrong: another attempt's words are told."""
    secret = {K.CREDENTIALS: "Incorrect API key", K.CREDITS: "Add credits"}
    script = [failure(kind, message=secret.get(kind, "no such model"), metadata={"of": kind.value}) for kind in kinds]
    error = end_of(plan_of("a/0", "a/1"), script)
    assert error.message == "No target could answer; one said: no such model"
    assert error.metadata["of"] == "not_found"


@pytest.mark.parametrize("kind", [K.CREDENTIALS, K.CREDITS])
def test_our_own_credential_is_the_operator_s_matter(kind: FailureKind) -> None:
    """Not the upstream's words, which would tell the client to change its key; and not to be tried again."""
    error = end_of(plan_of("a/0"), [failure(kind, message="Incorrect API key provided")])
    assert "Incorrect" not in error.message
    assert "not about your key" in error.message
    assert error.should_retry is False


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ([K.RATE_LIMITED] * 3, "Every target is rate limited: rate_limited words"),
        ([K.NOT_FOUND], "No target has this model: not_found words"),
        ([K.TIMEOUT] * 3, "Every target took too long; see metadata.attempts."),
        ([K.CONTENT_POLICY], "content_policy words"),
        ([K.SERVER_ERROR] * 3, "No target could answer; one said: server_error words"),
    ],
)
def test_the_upstream_s_words_are_passed_on(kinds: list[FailureKind], message: str) -> None:
    """With what they mean here."""
    assert end_of(plan_of("a/0"), [failure(kind) for kind in kinds]).message == message


def test_moderation_keeps_its_reasons() -> None:
    """What was flagged is what the client can change."""
    flagged = failure(K.CONTENT_POLICY, metadata={"reasons": ["violence"]})
    for script in ([flagged], [flagged, failure(K.NOT_FOUND)], [failure(K.NOT_FOUND), flagged]):
        error = end_of(plan_of(*(f"a/{index}" for index in range(len(script)))), script)
        assert (error.status, error.type) == (403, "permission_error")
        assert error.metadata["reasons"] == ["violence"]


def test_attempts_are_listed_as_they_went() -> None:
    """Provider, the model as sent, the reason, the status if there was one, and how long it took."""
    plan = plan_of("openai/gpt-4o", "or/openai/gpt-4o:free")
    outcomes = (Outcome(0, failure(K.TIMEOUT), 3_000), Outcome(1, failure(K.SERVER_ERROR, status=503), 12))
    listed = [
        {"provider": "openai", "model": "gpt-4o", "reason": "timeout", "status": None, "ms": 3_000},
        {"provider": "or", "model": "openai/gpt-4o:free", "reason": "server_error", "status": 503, "ms": 12},
    ]
    assert attempts_of(plan, outcomes) == listed
    assert error_of(plan, outcomes).metadata == {"attempts": listed}


# For every script.

kinds_of_failure = st.sampled_from(list(FailureKind))
waits_asked = st.none() | st.floats(min_value=0, max_value=20)
failures = st.builds(lambda kind, wait_s: failure(kind, retry_after_s=wait_s), kinds_of_failure, waits_asked)
contexts_of_targets = st.lists(st.sampled_from([None, 8, 16, 32]), min_size=1, max_size=8)


@given(contexts_of_targets, st.integers(min_value=1, max_value=6), st.data())
def test_no_walk_calls_too_much_or_out_of_turn(contexts: list[int | None], retries: int, data: st.DataObject) -> None:
    """Whatever fails in whatever way, the walk ends, within targets + attempts - 1 calls, each with its reason."""
    plan = plan_of(*(sized(f"a/{index}", size) for index, size in enumerate(contexts)), retries=retries)
    outcomes: tuple[Outcome, ...] = ()
    while isinstance(step := next_step(plan, outcomes, jitter=0.5), Call):
        tried = [outcome.index for outcome in outcomes]
        too_small = max(
            (contexts[outcome.index] or 0 for outcome in outcomes if outcome.failure.kind is K.CONTEXT_LENGTH),
            default=0,
        )
        context = contexts[step.index]
        assert context is None or context > too_small
        if step.index in tried:
            untried = set(range(len(contexts))) - set(tried)
            assert all((contexts[index] or 99) <= too_small for index in untried)
            latest = next(outcome.failure for outcome in reversed(outcomes) if outcome.index == step.index)
            assert judge(latest) is Verdict.NEXT
            assert step.delay_s >= (latest.retry_after_s or 0.25)
            assert tried.count(step.index) < retries
        else:
            assert step.delay_s == 0
            assert step.index > max(tried, default=-1)
        outcomes = (*outcomes, Outcome(step.index, data.draw(failures), 1))
        assert len(outcomes) <= len(contexts) + retries - 1
    assert outcomes
    error = step.error
    assert len(error.metadata["attempts"]) == len(outcomes)
    assert error.message
    assert error.status in (400, 403, 404, 429, 502, 503, 504)
    if outcomes[-1].failure.kind is K.BAD_REQUEST:
        assert error.status == 400


@given(st.lists(failures.filter(lambda value: value.kind is not K.BAD_REQUEST), min_size=1, max_size=6))
def test_a_client_never_sees_our_401_or_402(script: list[Failure]) -> None:
    """Whatever upstreams say of our credential, it is not the client's (openrouter.md 0.9)."""
    plan = plan_of(*(f"a/{index}" for index in range(len(script))))
    error = error_of(plan, tuple(Outcome(index, value, 1) for index, value in enumerate(script)))
    assert error.status not in (401, 402)
    if {value.kind for value in script} <= {K.CREDENTIALS, K.CREDITS}:
        assert (error.status, error.should_retry) == (503, False)


# Keys of a pool.


def passed_on(index: int, kind: FailureKind) -> Outcome:
    """Make the end of an attempt that another key of the pool follows."""
    return Outcome(index, failure(kind), 5, is_passed_on=True)


def test_a_key_that_makes_way_is_followed_at_once() -> None:
    """The same target, without a wait, although others are untried."""
    plan = plan_of("a/0", "a/1")
    outcomes: tuple[Outcome, ...] = (passed_on(0, K.RATE_LIMITED),)
    assert next_step(plan, outcomes, jitter=1) == Call(0)
    outcomes = (*outcomes, Outcome(0, failure(K.RATE_LIMITED), 5))
    assert next_step(plan, outcomes, jitter=1) == Call(1)


def test_keys_that_make_way_count_in_no_limit_of_tries() -> None:
    """The last target still has all of its own."""
    plan = plan_of("a/0", retries=2)
    outcomes = (*[passed_on(0, K.RATE_LIMITED)] * 5, Outcome(0, failure(K.RATE_LIMITED, retry_after_s=2), 5))
    step = next_step(plan, outcomes, jitter=1)
    assert step == Call(0, 2)
    outcomes = (*outcomes, passed_on(0, K.CREDENTIALS), Outcome(0, failure(K.RATE_LIMITED), 5))
    assert isinstance(next_step(plan, outcomes, jitter=1), GiveUp)


@pytest.mark.parametrize(
    ("first", "last", "status"),
    [
        (K.CREDENTIALS, K.RATE_LIMITED, 429),
        (K.RATE_LIMITED, K.RATE_LIMITED, 429),
        (K.RATE_LIMITED, K.SERVER_ERROR, 502),
        (K.CREDITS, K.CREDENTIALS, 503),
    ],
)
def test_the_last_key_speaks_for_its_target(first: FailureKind, last: FailureKind, status: int) -> None:
    """What is told of the others stands among the attempts."""
    error = error_of(plan_of("a/0"), (passed_on(0, first), Outcome(0, failure(last), 5)))
    assert error.status == status
    assert [one["reason"] for one in error.metadata["attempts"]] == [first.value, last.value]


def test_a_chain_cut_short_behind_a_key_that_made_way_has_words_too() -> None:
    """The time was over before the next key could be called."""
    assert error_of(plan_of("a/0"), (passed_on(0, K.RATE_LIMITED),)).status == 429
