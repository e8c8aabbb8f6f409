"""The command `lxmert`: one thin function per command, each with its heavy imports inside."""

import atexit
import gc
import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from lxmert.cli import (
    asking,
    benchmarking,
    checking,
    compressing,
    data,
    drawings,
    explaining,
    exporting,
    files,
    lab,
    planning,
    regions,
    scoring,
    serving,
    studying,
    training,
    weights,
    worlds,
)
from lxmert.cli.options import TAKES_REST
from lxmert.terminal import quiet_libraries, say, show_warning
from lxmert.version import __version__

_UsageError: Any = typer.BadParameter.__mro__[1]
"""What typer raises for wrong arguments; only its subclass is public."""


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Report wrong arguments in one sentence instead of typer's box."""
    try:
        yield
    except _UsageError as error:
        context, message = error.ctx, _as_clause(error.format_message())
        if context is None or not message:  # the help of a command without arguments
            raise
        command = context.command_path
        say(f"{command}: {message}; see {command} --help", error=True)
        raise typer.Exit(2) from error


def _as_clause(message: str) -> str:
    """Return a message of typer as part of a sentence."""
    text = " ".join(message.split()).rstrip(".").replace("Value error, ", "")
    text = text.split(", unable to parse")[0].replace("Input should be", "expected")
    return text[:1].lower() + text[1:]


class _Group(TyperGroup):
    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _one_sentence():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _one_sentence():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Group,
    name="lxmert",
    help="Ask questions about images, explain the answers, and train LXMERT models.",
    epilog='Start here: lxmert examples; lxmert ask examples/scene.png "What color is the ball?"',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Use a model": (asking.ask, explaining.explain, asking.match, asking.predict, serving.serve),
    "Train and evaluate": (
        training.train,
        training.recipes,
        checking.check,
        scoring.evaluate,
        scoring.score,
        scoring.compare,
        regions.extract,
        planning.plan,
    ),
    "Analyze a model": (
        studying.study,
        studying.states,
        studying.probe,
        explaining.explain_eval,
        explaining.attention_figures,
    ),
    "Files and datasets": (
        data.examples,
        files.info,
        files.verify,
        files.convert,
        exporting.export,
        benchmarking.benchmark,
        compressing.compress,
        files.cache,
        data.fetch,
    ),
}
_WITH_REST = (explaining.explain,)
for _panel, _commands in _COMMANDS.items():
    for _command in _commands:
        _settings = TAKES_REST if _command in _WITH_REST else None
        app.command(rich_help_panel=_panel, context_settings=_settings)(_command)

_data = typer.Typer(
    no_args_is_help=True, help="Build training files, boxes, biased splits, shuffled answers."
)
_data.command()(data.build)
_data.command()(data.boxes)
_data.command()(data.shift)
_data.command()(data.shuffle)
app.add_typer(_data, name="data", rich_help_panel="Files and datasets")

_weights = typer.Typer(help="List, describe and fetch the published weights.")
_weights.callback(invoke_without_command=True)(weights.list_weights)
for _weights_command in (weights.show, weights.fetch):
    _weights.command()(_weights_command)
app.add_typer(_weights, name="weights", rich_help_panel="Files and datasets")

_lab = typer.Typer(
    no_args_is_help=True, help="Make synthetic scenes, and compare recipes in sweeps."
)
for _lab_command in (lab.make, lab.show, lab.sweep):
    _lab.command()(_lab_command)
_worlds = typer.Typer(no_args_is_help=True, help="Make a suite of small synthetic data sets.")
for _world_command in (worlds.make, worlds.show):
    _worlds.command()(_world_command)
_lab.add_typer(_worlds, name="worlds")
_drawings = typer.Typer(no_args_is_help=True, help="Pretrain weights for training on custom data.")
for _drawing_command in (drawings.show, drawings.train):
    _drawings.command()(_drawing_command)
_lab.add_typer(_drawings, name="drawings")
app.add_typer(_lab, name="lab", rich_help_panel="Experiments")


_INTERRUPTED = 130
"""Exit code after Ctrl-C."""

_UNEXPECTED = 70
"""Exit code of an unexpected error (EX_SOFTWARE in sysexits.h)."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lxmert {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors. Goes before the command.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    del debug, version  # `main` reads --debug itself, for errors before this call


def main() -> None:
    """Run the command line. A user error is one line on stderr, with exit code 2."""
    _collect_less()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet_libraries()
    debug = "--debug" in sys.argv[1:2]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            app(prog_name="lxmert")
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            _end_interrupted(end)
        raise
    except KeyboardInterrupt as problem:
        _end_interrupted(problem)
    except Exception as error:
        if debug:
            raise
        expected = _is_user_error(error)
        say(f"lxmert: {_one_line(error) if expected else _unexpected(error)}", error=True)
        sys.exit(2 if expected else _UNEXPECTED)


def _collect_less() -> None:
    """Save about a fourth of the time of a short command.

    Importing PyTorch and transformers makes a million objects, all of which stay. Python scans them
    a dozen times during the imports, and again when it ends.
    """
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)


def _end_interrupted(problem: BaseException) -> NoReturn:
    """Print one line and exit; further Ctrl-C signals are ignored."""
    with suppress(ValueError):  # outside of the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.environ.get("RANK", "0") == "0":
        say(f"lxmert: {_interruption(problem)}", error=True)
    sys.exit(_INTERRUPTED)


def _interruption(end: BaseException | None) -> str:
    """Return the message of the interruption, or a general one."""
    while end is not None and not isinstance(end, KeyboardInterrupt):
        end = end.__cause__ or end.__context__
    return str(end or "") or "interrupted; run the same command to resume"


def _one_line(error: Exception) -> str:
    """Return the message of a user error; it names the command if a file does not tell more."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        return (
            f"{_command_name()}: {error.strerror}; check free disk space and permissions, or "
            f"show the traceback with lxmert --debug {_command_name()} ..."
        )
    if isinstance(error, ModuleNotFoundError) and error.name is not None:  # not one of an extra
        return (
            f"{_command_name()} needs {error.name}, which is not installed; lxmert-runtime leaves "
            "it out: use an environment with `pip install lxmert`"
        )
    return text or f"{_command_name()}: {type(error).__name__}"


def _unexpected(error: Exception) -> str:
    """Return the message of an unexpected error."""
    reason = " ".join(str(error).split())[:300]
    return (
        f"{_command_name()} failed unexpectedly with {type(error).__name__}: {reason} (arguments: "
        f"{shlex.join(sys.argv[2:])[:300]}); please report it with the traceback, which lxmert "
        f"--debug {_command_name()} ... shows"
    )


def _command_name() -> str:
    """Return the name of the given command."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "lxmert")


def _is_user_error(error: Exception) -> bool:
    """Return whether an error is a user error, whose message explains it."""
    from huggingface_hub.errors import StrictDataclassError  # of invalid configurations

    user_errors = (
        ValueError,
        OSError,
        FloatingPointError,
        ModuleNotFoundError,
        StrictDataclassError,
    )
    return isinstance(error, user_errors)
