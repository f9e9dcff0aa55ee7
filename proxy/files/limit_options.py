"""The words of routes.yaml for limits: budgets, rates, requests at once, waiting (part of `files`, floor 2).

Each class adds what one kind of place may say; `limits` makes limits of them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import core_schema

from proxy.files import values
from proxy.files.options import OneOrMany, Options

TAGS_MAX = 16
"""Tags of one place."""
POOL_MAX = 64
"""Keys of one provider."""
PATTERNS_MAX = 32
"""Patterns in the `model_rates` of one provider."""


class BudgetOptions(Options):
    """A limit in money per period."""

    limit: values.Allowance = Field(description="Per hour, day, week, month or in all (total).")
    soft: bool = Field(default=False, description="Refuse nobody: alert, and send requests to `when_spent`.")
    when_spent: values.ModelText | None = Field(
        None, description="The model requests go to once it is spent; left out they are refused.", examples=["cheap"]
    )
    timezone: values.Text | None = Field(
        None, description="Whose calendar its period follows.", examples=["Europe/Berlin"]
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"limit": value}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Tell editors that a bare amount will do."""
        own = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [own["properties"]["limit"], own]}


Budgets = Annotated[list[BudgetOptions], OneOrMany()]
Rates = Annotated[list[values.RateLimit], OneOrMany()]


class MoneyOptions(Options):
    """Budgets."""

    budget: Budgets | None = Field(
        None,
        description="Walls: what is spent and what is on its way never pass them. One, or a list of them.",
        examples=["$5/day", ["$5/day", "$100/month"], {"limit": "$5/day", "when_spent": "cheap"}],
    )
    when_spent: values.ModelText | None = Field(
        None, description="For budgets beside it that do not say themselves: where requests go.", examples=["cheap"]
    )


class PaceOptions(Options):
    """Requests and tokens in a time, and requests at once."""

    rate: Rates | None = Field(
        None,
        description="Requests, or tokens, in any stretch of so long. One, or a list of them.",
        examples=["60/min", ["60/min", "100k tokens/min"]],
    )
    parallel: values.PositiveCount | None = Field(None, description="Requests under way at once.", examples=[20])


class EachOptions(MoneyOptions, PaceOptions):
    """Limits of one user, one value of a tag, or one model."""

    wait: values.Pause | None = Field(
        None, description="How long a request may queue for a rate or `parallel` before it is refused with 429."
    )


class PersonOptions(EachOptions):
    """What each user, or each value of a tag, gets; a bare amount is a budget."""

    @model_validator(mode="before")
    @classmethod
    def _from_budget(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("this is empty; write a budget ($1/day), or a mapping with `budget`, `rate` or `parallel`")
        return value if isinstance(value, dict) else {"budget": value}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Tell editors that a budget will do."""
        own = handler.resolve_ref_schema(handler(schema))
        budget = own["properties"]["budget"]["anyOf"]
        return {"anyOf": [*(form for form in budget if form.get("type") != "null"), own]}


class HolderOptions(EachOptions):
    """Limits of who pays: a key, a tenant, the whole gateway."""

    users: PersonOptions | None = Field(
        None, description="What each `user` of a request gets.", examples=["$1/day", {"rate": "10/min"}]
    )
    tags: Annotated[dict[values.TagName, PersonOptions], Field(max_length=TAGS_MAX)] | None = Field(
        None, description="What each value of a tag gets, by the tag's name.", examples=[{"job": "$0.50/total"}]
    )
    timezone: values.Text | None = Field(
        None, description="Whose calendar budgets here follow; UTC where nobody says.", examples=["Europe/Berlin"]
    )


class UpstreamKeyOptions(PaceOptions):
    """One of a provider's `api_keys`."""

    key: values.ProviderKey = Field(description="As ${VAR}; while the variable is not set the key is left out.")
    name: values.TagText | None = Field(
        None, description="Shown in usage; its place in the list when left out.", examples=["first"]
    )
    free: bool = Field(default=False, description="Its account has no credit: only models that cost nothing.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"key": value}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Tell editors that the key alone will do."""
        own = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [own["properties"]["key"], own]}
