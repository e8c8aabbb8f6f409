"""The command `lxmert`: one thin function per command; heavy imports stay inside of them."""

import logging
import os
import sys
import warnings

import typer

from lxmert.cli import asking, data, explaining, files, lab, regions, scoring, training
from lxmert.terminal import quiet_libraries, show_warning

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


def main() -> None:
    """Run the command line; a mistake of the user's is one line, with exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet_libraries()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            app()
    except SystemExit as end:
        if end.code == _INTERRUPTED and os.environ.get("RANK", "0") == "0":
            print(f"lxmert: {_tell_interruption(end)}", file=sys.stderr)
        raise
    except Exception as error:
        if not _is_mistake(error):
            raise
        print(f"lxmert: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _tell_interruption(end: BaseException | None) -> str:
    """Return the message of the interruption that ended the command, if it has one."""
    while end is not None and not isinstance(end, KeyboardInterrupt):
        end = end.__cause__ or end.__context__
    return str(end or "") or "stopped; a long job goes on by the same command"


def _is_mistake(error: Exception) -> bool:
    """Tell mistakes of the user's, which name themselves, from ours."""
    from huggingface_hub.errors import StrictDataclassError  # what a wrong configuration raises

    mistakes = (ValueError, OSError, FloatingPointError, ModuleNotFoundError, StrictDataclassError)
    return isinstance(error, mistakes)
