"""The commands and their flags (part of `cli`, floor 7): `typer` turns these signatures into the command line.

Every flag has a variable; the flag wins. What a command does stands in the module it imports when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from proxy import __version__
from proxy.cli.administration import attach
from proxy.cli.flags import DATA, OPTIONS, Config, Data, Json
from proxy.cli.places import find_places

app = typer.Typer(
    help="An OpenAI-compatible gateway: streams, falls back, and accounts for every cent.",
    no_args_is_help=True,
    **OPTIONS,
)
ledger = typer.Typer(help="Verify and back up the books.", no_args_is_help=True, **OPTIONS)
app.add_typer(ledger, name="ledger")
alerts = typer.Typer(help="Show what is watched, what holds, and what was told; or test it.", **OPTIONS)
app.add_typer(alerts, name="alerts")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"turnpike {__version__}")
        raise typer.Exit


@app.callback()
def turnpike(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before the command's name."""


@app.command()
def serve(  # noqa: PLR0913  # one parameter per flag
    *,
    config: Config = None,
    host: Annotated[str, typer.Option(envvar="TURNPIKE_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="TURNPIKE_PORT", min=0, max=65_535, help="Port; 0 takes a free one.")
    ] = 4000,
    data: Data = DATA,
    workers: Annotated[
        int, typer.Option(envvar="TURNPIKE_WORKERS", min=1, max=64, help="Processes that share the port.")
    ] = 1,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="TURNPIKE_METRICS_PORT",
            min=0,
            max=65_535,
            help="Show /metrics on this port of loopback, without a key.",
        ),
    ] = None,
    log_format: Annotated[Literal["json", "console"], typer.Option(envvar="TURNPIKE_LOG_FORMAT")] = "json",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(envvar="LOG_LEVEL", case_sensitive=False)
    ] = "info",
) -> None:
    """Serve until stopped. Prints `listening on http://HOST:PORT` once requests are answered."""
    from proxy.app import Settings
    from proxy.cli.serving import serve_until_stopped

    places = find_places(config, data)
    settings = Settings(
        config=places.config,
        data=places.data,
        host=host,
        port=port,
        workers=workers,
        metrics_port=metrics_port,
        log_format=log_format,
        log_level=log_level,
    )
    raise typer.Exit(serve_until_stopped(settings))


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="The routing table. [default: --config]")] = None,
    *,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Check a routing table: every finding as FILE:LINE:COLUMN, or that it is good."""
    from proxy.cli.tables import check_table

    raise typer.Exit(check_table(find_places(file or config, data), as_json=as_json))


@app.command()
def models(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """List the models clients may ask for, their targets, and which are ready."""
    from proxy.cli.tables import list_models

    list_models(find_places(config, data), as_json=as_json)


@app.command()
def prices(model: str, *, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Show what MODEL, or PROVIDER/MODEL, costs: every component of each target, where from, as of when."""
    from proxy.cli.prices import show_prices

    raise typer.Exit(show_prices(find_places(config, data), model, as_json=as_json))


@app.command()
def explain(model: str, *, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Tell what would happen to a request for MODEL: targets, order, price, worst case. Calls nobody."""
    from proxy.cli.trials import explain_model

    explain_model(find_places(config, data), model, as_json=as_json)


@app.command("test")
def try_out(
    model: Annotated[str | None, typer.Argument(help="With --tenant it may be left out: all of its accounts.")] = None,
    *,
    tenant: Annotated[str | None, typer.Option(help="Try this tenant's own accounts, one short call each.")] = None,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Send one short request to MODEL and tell what came back; it is booked like any other."""
    from proxy.cli.trials import try_model, try_tenant

    if tenant is not None:
        raise typer.Exit(try_tenant(find_places(config, data), tenant, model, as_json=as_json))
    if model is None:
        raise typer.BadParameter("name a model, or a tenant with --tenant", param_hint="MODEL")
    raise typer.Exit(try_model(find_places(config, data), model, as_json=as_json))


@app.command()
def usage(  # noqa: PLR0913  # one parameter per flag
    *,
    by: Annotated[
        str,
        typer.Option(help="key, tenant, app, user, tag, tag:NAME, payer, route, provider, model, hour, day, month."),
    ] = "key,model",
    since: Annotated[str | None, typer.Option("--from", help="A date or time.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="A date (its whole day) or time.")] = None,
    key: Annotated[str | None, typer.Option(help="Of this key alone.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    timezone: Annotated[str, typer.Option(help="Whose hours and days, as Europe/Berlin.")] = "UTC",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Sum what was used and what it cost."""
    from proxy.cli.figures import UsageWishes, print_usage

    wishes = UsageWishes(by=by, since=since, until=until, key=key, tenant=tenant, timezone=timezone)
    print_usage(find_places(config, data), wishes, as_csv=as_csv, as_json=as_json)


@app.command()
def export(  # noqa: PLR0913  # one parameter per flag
    *,
    since: Annotated[str | None, typer.Option(help="A date, a time, or how far back, as 30d.")] = None,
    until: Annotated[str | None, typer.Option(help="A date (its whole day) or time, UTC.")] = None,
    key: Annotated[str | None, typer.Option(help="Of this key alone.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="One line per attempt.")] = "jsonl",
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Write every attempt in the books, oldest first, as JSON lines or CSV."""
    from proxy.cli.figures import ExportWishes, export_attempts

    wishes = ExportWishes(since=since, until=until, key=key, tenant=tenant)
    export_attempts(find_places(config, data), wishes, as_csv=form == "csv" and not as_json)


@app.command()
def replay(  # noqa: PLR0913  # one parameter per flag
    *,
    routes: Annotated[Path, typer.Option(help="The other routing table.")],
    since: Annotated[str, typer.Option(help="A date, a time, or how far back, as 30d.")] = "7d",
    key: Annotated[str | None, typer.Option(help="Of this key alone.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Price past requests against another routing table: cost and budgets side by side. Calls nobody."""
    from proxy.cli.replay import ReplayWishes, print_replay

    wishes = ReplayWishes(routes, since=since, key=key, tenant=tenant)
    print_replay(find_places(config, data), wishes, as_json=as_json)


Read = Annotated[bool, typer.Option("--read", help="Ask the provider first; otherwise what a server read last.")]


@app.command()
def reconcile(*, read: Read = False, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Compare what was booked with what OpenRouter says it billed; 1 when they differ notably."""
    from proxy.cli.accounts import print_drifts

    raise typer.Exit(print_drifts(find_places(config, data), reads=read, as_json=as_json))


@app.command("credits")
def show_credits(*, read: Read = False, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Show what OpenRouter's accounts have left."""
    from proxy.cli.accounts import print_credits

    print_credits(find_places(config, data), reads=read, as_json=as_json)


@ledger.command("verify")
def verify_ledger(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Work out every balance anew and check every attempt, also while a server runs. Writes nothing."""
    from proxy.cli.ledger import verify_ledger

    raise typer.Exit(verify_ledger(find_places(config, data), as_json=as_json))


@ledger.command("backup")
def back_up_ledger(
    file: Annotated[Path, typer.Argument(help="Where to; a file that is there is not replaced.")],
    *,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Copy the ledger as it stands at one moment, also while a server runs, and verify the copy."""
    from proxy.cli.ledger import back_up_ledger

    raise typer.Exit(back_up_ledger(find_places(config, data), file, as_json=as_json))


@alerts.callback(invoke_without_command=True)
def show_alerts(context: typer.Context, *, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Show the rules, the incidents that are open, and the last messages."""
    if context.invoked_subcommand is None:
        from proxy.cli.alerts import show_alerts

        show_alerts(find_places(config, data), as_json=as_json)


@alerts.command("test")
def try_alerts(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Send each webhook a test message and tell what came back."""
    from proxy.cli.alerts import try_alerts

    raise typer.Exit(try_alerts(find_places(config, data), as_json=as_json))


attach(app)  # behind the others: help lists commands in this order
command = typer.main.get_command(app)
