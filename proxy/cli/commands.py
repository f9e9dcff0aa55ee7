"""The commands and their flags (part of `cli`, floor 7): `typer` turns these signatures into the command line.

Every flag has a variable; the flag wins. What a command does stands in the module it imports when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from proxy import __version__
from proxy.cli.places import find_places

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="TURNPIKE_CONFIG", help="The routing table. [default: routes.yaml]"),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="TURNPIKE_DATA",
        help="The data folder (ledger, keys); a relative one stands beside the routes file.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DATA = Path("data")

_options: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
app = typer.Typer(
    help="An OpenAI-compatible gateway: streams, falls back, and accounts for every cent.",
    no_args_is_help=True,
    **_options,
)
keys = typer.Typer(help="Make, list and revoke client keys.", no_args_is_help=True, **_options)
app.add_typer(keys, name="keys")
ledger = typer.Typer(help="Verify and back up the books.", no_args_is_help=True, **_options)
app.add_typer(ledger, name="ledger")
alerts = typer.Typer(help="Show what is watched, what holds, and what was told; or test it.", **_options)
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
def try_out(model: str, *, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Send one short request to MODEL and tell what came back; it is booked like any other."""
    from proxy.cli.trials import try_model

    raise typer.Exit(try_model(find_places(config, data), model, as_json=as_json))


@keys.command("create")
def create_key(  # noqa: PLR0913  # one parameter per flag
    name: Annotated[str, typer.Argument(help="Shown in usage and logs; unique.")],
    *,
    budget: Annotated[str | None, typer.Option(help="As $5/day; hour, day, week, month, bare is total.")] = None,
    models: Annotated[str | None, typer.Option(help="Models it may ask for, as a,b or openrouter/*.")] = None,
    expires: Annotated[str | None, typer.Option(help="How long it lives, as 30d.")] = None,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Make a client key and print it, alone on stdout; it is shown this once."""
    from proxy.cli.keys import KeyWishes, create_key

    wishes = KeyWishes(name, budget=budget, models=models, expires=expires)
    create_key(find_places(config, data), wishes, as_json=as_json)


@keys.command("list")
def list_keys(*, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """List all client keys with their limits; never their values."""
    from proxy.cli.keys import list_keys

    list_keys(find_places(config, data), as_json=as_json)


@keys.command("revoke")
def revoke_key(name: str, *, config: Config = None, data: Data = DATA, as_json: Json = False) -> None:
    """Revoke a client key: from its next request on it is refused."""
    from proxy.cli.keys import revoke_key

    raise typer.Exit(revoke_key(find_places(config, data), name, as_json=as_json))


@app.command()
def usage(  # noqa: PLR0913  # one parameter per flag
    *,
    by: Annotated[str, typer.Option(help="key, tenant, app, route, provider, model, hour, day, month.")] = "key,model",
    since: Annotated[str | None, typer.Option("--from", help="A date or time, UTC.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="A date (its whole day) or time, UTC.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Sum what was used and what it cost."""
    from proxy.cli.figures import UsageWishes, print_usage

    wishes = UsageWishes(by=by, since=since, until=until)
    print_usage(find_places(config, data), wishes, as_csv=as_csv, as_json=as_json)


@app.command()
def export(
    *,
    since: Annotated[str | None, typer.Option(help="A date, a time, or how far back, as 30d.")] = None,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="One line per attempt.")] = "jsonl",
    config: Config = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Write every attempt in the books, oldest first, as JSON lines or CSV."""
    from proxy.cli.figures import export_attempts

    export_attempts(find_places(config, data), since=since, as_csv=form == "csv" and not as_json)


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


command = typer.main.get_command(app)
