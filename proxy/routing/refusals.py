"""A plan that has no candidate, in the words that fit (floor 1b, pure).

Clients match on OpenRouter's first phrases ("No endpoints found ..."), so those are kept (openrouter.md 4.4).
"""

from __future__ import annotations

from proxy.errors import NotFound, UpstreamUnusable
from proxy.routing.eligibility import Reason, Skipped
from proxy.routing.plan import Plan
from proxy.routing.principal import Principal
from proxy.routing.resolve import near_names, near_text, shown
from proxy.routing.table import Table


def require_candidate(plan: Plan, *, principal: Principal, table: Table) -> None:
    """Refuse a plan without any candidate.

    What the client asked for beside the model comes first: a condition nobody keeps, an input nobody takes. A model of
    the operator's own whose providers are not ready is theirs to mend: 503. A name that only a glob let through is most
    likely a slip of the client's, and a suffix nobody serves is one: 404, with the nearest names.
    """
    if plan.candidates:
        return
    kinds = {skip.kind for skip in plan.skipped}
    reasons = "; ".join(f"{skip.target.name}: {skip.reason}" for skip in plan.skipped)
    if (asked := _say_what_was_asked(plan.skipped, kinds)) is not None:
        raise NotFound(f"{asked} ({reasons})", code="no_endpoints", param="model", metadata={"error_type": "not_found"})
    if not plan.route.is_glob and Reason.NOT_READY in kinds:
        msg = f"No target of the model '{plan.route.name}' is ready: {reasons}. Tell the gateway's operator."
        raise UpstreamUnusable(msg)
    near = near_names(plan.alias, principal, table)
    msg = f"The model '{shown(plan.alias)}' cannot be served: {reasons}.{near_text(near)}"
    raise NotFound(msg, param="model", metadata={"near": near})


def _say_what_was_asked(skipped: tuple[Skipped, ...], kinds: set[Reason]) -> str | None:
    if Reason.PRIVACY in kinds:
        return "No endpoints found matching your data policy."
    if Reason.ABILITY in kinds:
        lacks = sorted({skip.reason.removeprefix("it does not ") for skip in skipped if skip.kind is Reason.ABILITY})
        return f"No endpoints found that {lacks[0]}."
    if Reason.CONDITION in kinds:
        return "No allowed providers are available for the selected model."
    if Reason.ONLY_OPENROUTER in kinds:
        return "No endpoints found: this request asks for what exists only at OpenRouter."
    return None
