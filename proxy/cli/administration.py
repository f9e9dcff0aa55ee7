"""The commands of keys, tenants, limits, credits, secrets and the audit log (part of `cli`, floor 7).

As in `commands`, what a command does stands in the module it imports when it runs.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from proxy.cli.flags import DATA, OPTIONS, Config, Data, Json
from proxy.cli.places import find_places

Budget = Annotated[list[str] | None, typer.Option(help="As '$5/day'; hour to month, bare is total. Repeatable.")]
Rate = Annotated[list[str] | None, typer.Option(help="As 60/min or '100k tokens/min'. Repeatable.")]
Parallel = Annotated[int | None, typer.Option(help="Requests at once.")]
Models = Annotated[str | None, typer.Option(help="Models it may ask for, as a,b or openrouter/*.")]
DefaultModel = Annotated[str | None, typer.Option(help="For requests that name no model.")]
MaxCost = Annotated[str | None, typer.Option(help="Ceiling of one request, as '$0.50'.")]
Enabled = Annotated[bool | None, typer.Option("--enable/--disable", help="Let it in, or not.")]

keys = typer.Typer(help="Make, list, change and revoke client keys.", no_args_is_help=True, **OPTIONS)
tenants = typer.Typer(help="Groups of keys with limits and accounts of their own.", no_args_is_help=True, **OPTIONS)
prepaid = typer.Typer(help="Credits a key or a tenant has paid ahead.", no_args_is_help=True, **OPTIONS)
audit = typer.Typer(help="Who changed what.", invoke_without_command=True, **OPTIONS)
secrets = typer.Typer(help="The key that stored credentials are encrypted with.", no_args_is_help=True, **OPTIONS)


def attach(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(keys, name="keys")
    app.add_typer(tenants, name="tenants")
    app.add_typer(prepaid, name="prepaid")
    app.add_typer(audit, name="audit")
    app.add_typer(secrets, name="secrets")
    app.command("budgets")(list_budgets)


def _wishes(**given: Any) -> dict[str, Any]:
    """Give what was said, in the words of the admin API; `none` takes away."""
    said = {name: value for name, value in given.items() if value is not None}
    if isinstance(models := said.get("models"), str):
        said["models"] = None if models == "all" else [part.strip() for part in models.split(",") if part.strip()]
    if "enabled" in said:
        said["disabled"] = not said.pop("enabled")
    return {name: None if value in ("none", ["none"]) else value for name, value in said.items()}


def _expect(wishes: dict[str, Any]) -> None:
    """Refuse a change that changes nothing."""
    if not wishes:
        raise typer.BadParameter("nothing is to be changed; name what is, as --budget '$5/day' or --disable")


# ---------------------------------------------------------------- keys


@keys.command("create")
def create_key(  # noqa: PLR0913  # one parameter per flag
    name: Annotated[str, typer.Argument(help="Shown in usage and logs; unique.")],
    *,
    budget: Budget = None,
    models: Models = None,
    expires: Annotated[str | None, typer.Option(help="How long it lives, as 30d.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    rate: Rate = None,
    parallel: Parallel = None,
    default_model: DefaultModel = None,
    max_cost: MaxCost = None,
    may_create_keys: Annotated[bool, typer.Option("--may-create-keys", help="It may make subsets of itself.")] = False,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Make a client key and print it, alone on stdout; it is shown this once."""
    from proxy.cli.keys import KeyWishes, create_key

    more = _wishes(rate=rate, parallel=parallel, default_model=default_model, max_cost=max_cost)
    more |= {"may_create_keys": True} if may_create_keys else {}
    wishes = KeyWishes(name, budget=budget, models=models, expires=expires, tenant=tenant, more=more)
    create_key(find_places(config, data), wishes, as_json=as_json)


@keys.command("import")
def import_key(  # noqa: PLR0913  # one parameter per flag
    name: str,
    *,
    sha256: Annotated[str, typer.Option(help="SHA-256 of the key, 64 hex digits: what LiteLLM keeps of one.")],
    budget: Budget = None,
    models: Models = None,
    expires: Annotated[str | None, typer.Option(help="How long it lives, as 30d.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Take over a key of which only the hash is known: its clients keep it."""
    from proxy.cli.keys import KeyWishes, create_key

    wishes = KeyWishes(name, budget=budget, models=models, expires=expires, tenant=tenant, sha256=sha256)
    create_key(find_places(config, data), wishes, as_json=as_json)


@keys.command("list")
def list_keys(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """List all client keys with their limits; never their values."""
    from proxy.cli.keys import list_keys

    list_keys(find_places(config, data), as_json=as_json)


@keys.command("update")
def update_key(  # noqa: PLR0913  # one parameter per flag
    name: str,
    *,
    budget: Budget = None,
    models: Models = None,
    expires: Annotated[str | None, typer.Option(help="How long it lives from now on, as 30d; none for ever.")] = None,
    rate: Rate = None,
    parallel: Parallel = None,
    default_model: DefaultModel = None,
    max_cost: MaxCost = None,
    enabled: Enabled = None,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Change a client key from its next request on; `none` takes a limit away, `all` lets it ask for every model."""
    from proxy.cli.keys import update_key

    wishes = _wishes(
        budget=budget,
        models=models,
        expires_in=expires,
        rate=rate,
        parallel=parallel,
        default_model=default_model,
        max_cost=max_cost,
        enabled=enabled,
    )
    _expect(wishes)
    update_key(find_places(config, data), name, wishes, as_json=as_json)


@keys.command("rotate")
def rotate_key(
    name: str,
    *,
    grace: Annotated[str | None, typer.Option(help="How long the former value is good yet, as 1h.")] = None,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Give a client key another value and print it; the former one ends at once, or with its grace."""
    from proxy.cli.keys import rotate_key

    rotate_key(find_places(config, data), name, grace, as_json=as_json)


@keys.command("revoke")
def revoke_key(name: str, *, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Revoke a client key: from its next request on it is refused."""
    from proxy.cli.keys import revoke_key

    raise typer.Exit(revoke_key(find_places(config, data), name, as_json=as_json))


# ---------------------------------------------------------------- tenants


@tenants.command("create")
def create_tenant(  # noqa: PLR0913  # one parameter per flag
    name: str,
    *,
    budget: Budget = None,
    models: Models = None,
    rate: Rate = None,
    parallel: Parallel = None,
    default_model: DefaultModel = None,
    max_cost: MaxCost = None,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Make a tenant."""
    from proxy.cli.tenants import create_tenant

    wishes = _wishes(
        budget=budget, models=models, rate=rate, parallel=parallel, default_model=default_model, max_cost=max_cost
    )
    create_tenant(find_places(config, data), name, wishes, as_json=as_json)


@tenants.command("list")
def list_tenants(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """List the tenants, those of routes.yaml too once they are in force."""
    from proxy.cli.tenants import list_tenants

    list_tenants(find_places(config, data), as_json=as_json)


@tenants.command("update")
def update_tenant(  # noqa: PLR0913  # one parameter per flag
    name: str,
    *,
    budget: Budget = None,
    models: Models = None,
    rate: Rate = None,
    parallel: Parallel = None,
    default_model: DefaultModel = None,
    max_cost: MaxCost = None,
    enabled: Enabled = None,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Change a tenant from the next request of its keys on; `none` takes a limit away."""
    from proxy.cli.tenants import update_tenant

    wishes = _wishes(
        budget=budget,
        models=models,
        rate=rate,
        parallel=parallel,
        default_model=default_model,
        max_cost=max_cost,
        enabled=enabled,
    )
    _expect(wishes)
    update_tenant(find_places(config, data), name, wishes, as_json=as_json)


@tenants.command("delete")
def delete_tenant(name: str, *, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """End a tenant for good: its keys are revoked, its figures stay."""
    from proxy.cli.tenants import delete_tenant

    delete_tenant(find_places(config, data), name, as_json=as_json)


@tenants.command("set-key")
def set_provider_key(
    name: str, provider: str, *, config: Config = None, data: Data = DATA, as_json: Json = False
) -> None:
    """Store a tenant's own key of a provider, read from stdin, encrypted under TURNPIKE_SECRET_KEY."""
    from proxy.cli.tenants import set_provider_key

    set_provider_key(find_places(config, data), name, provider, as_json=as_json)


@tenants.command("drop-key")
def drop_provider_key(
    name: str, provider: str, *, config: Config = None, data: Data = DATA, as_json: Json = False
) -> None:
    """Forget a tenant's own key of a provider: from then on the operator's is used there."""
    from proxy.cli.tenants import drop_provider_key

    drop_provider_key(find_places(config, data), name, provider, as_json=as_json)


# ---------------------------------------------------------------- budgets, credits, secrets, the audit log


def list_budgets(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """List how every budget stands."""
    from proxy.cli.credits import list_budgets

    list_budgets(find_places(config, data), as_json=as_json)


# An amount that is taken back looks like a flag.
@prepaid.command("grant", context_settings={"ignore_unknown_options": True})
def grant_credit(  # noqa: PLR0913  # one parameter per flag
    name: Annotated[str, typer.Argument(help="A key; a tenant with --tenant.")],
    amount: Annotated[str, typer.Argument(help="As '$10'; '-$10' takes back.")],
    *,
    is_tenant: Annotated[bool, typer.Option("--tenant", help="NAME is a tenant.")] = False,
    note: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Grant prepaid credit: the sum of all grants is a wall of its own."""
    from proxy.cli.credits import grant_credit

    fields = {"tenant" if is_tenant else "key": name, "amount": amount, "note": note}
    grant_credit(find_places(config, data), fields, as_json=as_json)


@prepaid.command("list")
def list_credits(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """List every grant."""
    from proxy.cli.credits import list_credits

    list_credits(find_places(config, data), as_json=as_json)


@audit.callback()
def show_audit(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 50,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """List who changed what, the newest first; `verify` checks that nobody edited the list."""
    if context.invoked_subcommand is None:
        from proxy.cli.audit import list_entries

        list_entries(find_places(config, data), limit, as_json=as_json)


@audit.command("verify")
def verify_audit(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Check the chain of hashes: the first broken link is named, and the exit code is 1."""
    from proxy.cli.audit import verify_audit

    raise typer.Exit(verify_audit(find_places(config, data), as_json=as_json))


@secrets.command("key")
def make_secret_key() -> None:
    """Print a new key for TURNPIKE_SECRET_KEY."""
    from proxy.vault import make_secret_key

    typer.echo(make_secret_key())


@secrets.command("rotate")
def rotate_secrets(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Encrypt every stored credential anew under the first key of TURNPIKE_SECRET_KEY."""
    from proxy.cli.tenants import rotate_secrets

    rotate_secrets(find_places(config, data), as_json=as_json)
