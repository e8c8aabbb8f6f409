"""The command `lxmert`: one thin function per command; heavy imports stay inside of them."""

import logging
import os
import shlex
import signal
import sys
import warnings
from contextlib import suppress
from importlib import metadata
from typing import Annotated, NoReturn

import typer

from lxmert.cli import asking, data, explaining, files, lab, regions, scoring, training
from lxmert.terminal import quiet_libraries, say, show_warning

app = typer.Typer(
    name="lxmert",
    help="Ask questions about images: LXMERT, from pixels to answers and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    asking.ask,
    explaining.explain,
    explaining.explain_eval,
    explaining.attention_figures,
    asking.match,
    training.train,
    training.recipes,
    regions.extract,
    scoring.evaluate,
    asking.predict,
    data.fetch,
    files.convert,
    files.verify,
    files.info,
):
    app.command()(command)

_lab = typer.Typer(help="The laboratory: the miniature world, and sweeps over recipes.")
for _command in (lab.make, lab.show, lab.sweep):
    _lab.command()(_command)
app.add_typer(_lab, name="lab")

_data = typer.Typer(help="Data sets from their official downloads.")
_data.command()(data.build)
app.add_typer(_data, name="data")


_INTERRUPTED = 130
"""Exit code after Ctrl-C."""

_UNFORESEEN = 70
"""Exit code of an error that is not the user's mistake, as EX_SOFTWARE of sysexits.h."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lxmert {metadata.version('lxmert')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; before the command.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    del debug, version  # `main` reads the first, as it also counts before this call


def main() -> None:
    """Run the command line; a mistake of the user's is one line, with exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet_libraries()
    debug = "--debug" in sys.argv[1:2]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            _end_interrupted(end)
        raise
    except KeyboardInterrupt as problem:
        _end_interrupted(problem)
    except Exception as error:
        if debug:
            raise
        mistake = _is_mistake(error)
        say(f"lxmert: {_one_line(error) if mistake else _unforeseen(error)}", error=True)
        sys.exit(2 if mistake else _UNFORESEEN)


def _end_interrupted(problem: BaseException) -> NoReturn:
    """Say in one line what stopped, and exit; further signals of Ctrl-C change nothing."""
    with suppress(ValueError):  # outside of the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.environ.get("RANK", "0") == "0":
        say(f"lxmert: {_interruption(problem)}", error=True)
    sys.exit(_INTERRUPTED)


def _interruption(end: BaseException | None) -> str:
    """Return the message of the interruption that ended the command, if it has one."""
    while end is not None and not isinstance(end, KeyboardInterrupt):
        end = end.__cause__ or end.__context__
    return str(end or "") or "interrupted; the same command resumes a long job from what it saved"


def _one_line(error: Exception) -> str:
    """Return the message of a mistake; an error of the system without a file names the command."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        return (
            f"{_command_name()}: {error.strerror}; check free disk space and permissions, and see where "
            f"with lxmert --debug {_command_name()} ..."
        )
    return text or f"{_command_name()}: {type(error).__name__}"


def _unforeseen(error: Exception) -> str:
    """Return the message of an error that nobody foresaw."""
    reason = " ".join(str(error).split())[:300]
    return (
        f"{_command_name()} failed unexpectedly with {type(error).__name__}: {reason} (arguments: "
        f"{shlex.join(sys.argv[2:])[:300]}); see the traceback with lxmert --debug {_command_name()} "
        "..., and please report it with that"
    )


def _command_name() -> str:
    """Return the name of the command that was given."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "lxmert")


def _is_mistake(error: Exception) -> bool:
    """Tell mistakes of the user's, which name themselves, from ours."""
    from huggingface_hub.errors import StrictDataclassError  # what a wrong configuration raises

    mistakes = (ValueError, OSError, FloatingPointError, ModuleNotFoundError, StrictDataclassError)
    return isinstance(error, mistakes)
