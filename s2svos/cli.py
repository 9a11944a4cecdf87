"""The command line. Commands import what they need when they run."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import typer

from s2svos import UserError, __version__
from s2svos.commands.batch import batch
from s2svos.commands.convert import convert
from s2svos.commands.demo import demo
from s2svos.commands.doctor import doctor
from s2svos.commands.evaluate import evaluate
from s2svos.commands.export import export
from s2svos.commands.infer import infer
from s2svos.commands.info import info
from s2svos.commands.prepare import prepare
from s2svos.commands.prune import prune
from s2svos.commands.studio import studio
from s2svos.commands.train import train
from s2svos.interrupt import Interrupt
from s2svos.standard_streams import mend_standard_streams
from s2svos_engines.errors import is_out_of_memory

app = typer.Typer(
    help="Video object segmentation that deploys: follow a video's objects from the mask of its "
    "first frame.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
for command in (
    infer,
    studio,
    batch,
    convert,
    prepare,
    train,
    prune,
    evaluate,
    export,
    info,
    doctor,
    demo,
):
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
    """Run the command line; the user's mistakes end in one sentence and exit code 2.

    Ctrl-C, SIGTERM and SIGHUP end it alike, with 128 and the signal's number.
    """
    mend_standard_streams()
    # OpenVINO's converter from other formats: no command needs it, and it takes 50 ms to import.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    with Interrupt(raises=True) as interrupt:
        try:
            try:
                _need_current_folder()
                app()
            finally:
                sys.stdout.flush()
        except UserError as error:
            if interrupt.number and _was_stopped(error):  # an engine that was just being loaded
                _stop(interrupt)
            _end(str(error), error.exit_code)
        except KeyboardInterrupt:
            _stop(interrupt)
        except SystemExit as ended:
            if ended.code == _STOPPED and interrupt.number:
                _stop(interrupt)
            raise
        except OSError as error:
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            _end(
                f"{error.filename} cannot be used ({error.strerror}); check that it is what you "
                "meant, and its permissions.",
                UserError.exit_code,
            )
        except Exception as error:
            if interrupt.number and _was_stopped(error):
                _stop(interrupt)
            if is_out_of_memory(error):
                _end(
                    "There is not enough memory; close other programs, or take smaller frames, "
                    "fewer --threads or fewer processes.",
                    UserError.exit_code,
                )
            raise


def _was_stopped(error: BaseException) -> bool:
    """Return whether an error has a KeyboardInterrupt for its cause: Python 3.11 wraps some."""
    cause = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt) or (cause is not None and _was_stopped(cause))


def _need_current_folder() -> None:
    """Refuse to begin where relative paths mean nothing; some libraries end the process there."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError("The current folder is gone", "change to another one") from error


_STOPPED = 130  # what typer makes of a KeyboardInterrupt


def _stop(interrupt: Interrupt) -> NoReturn:
    # A KeyboardInterrupt that leaves an exec of text, as where a dataclass is made, has Python end
    # by SIGINT whatever code it is given (pymain_main, Py_RunMain), until the next exec of text.
    exec("")
    sys.exit(128 + (interrupt.number or signal.SIGINT))


def _end(sentence: str, code: int) -> NoReturn:
    typer.secho(f"s2svos: {sentence}", fg=typer.colors.RED, err=True)
    sys.exit(code)
