"""The command line. Commands import what they need when they run."""

from __future__ import annotations

import sys

import typer

from s2svos import UserError, __version__
from s2svos.commands.demo import demo
from s2svos.commands.doctor import doctor
from s2svos.commands.evaluate import evaluate
from s2svos.commands.export import export
from s2svos.commands.infer import infer
from s2svos.commands.info import info
from s2svos.commands.prepare import prepare
from s2svos.commands.train import train

app = typer.Typer(
    help="Video object segmentation that deploys: follow a video's objects from the mask of its "
    "first frame.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (infer, prepare, train, evaluate, export, info, doctor, demo):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"s2svos {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Video object segmentation that deploys."""


def main() -> None:
    """Run the command line; the user's mistakes end in one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.secho(f"s2svos: {error}", fg=typer.colors.RED, err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("s2svos: stopped.", err=True)
        sys.exit(130)
