"""The commands `lxmert lab drawings ...`: pretraining of a start for custom data."""

from lxmert.cli.options import OutputImage, Overrides, RunFolder, Seed
from lxmert.cli.outputs import check_figure, check_output_folder
from lxmert.terminal import say


def show(output: OutputImage, seed: Seed = 0) -> None:
    """Draw a contact sheet of drawings with some of their questions."""
    from lxmert.lab.drawings.sheet import save_sheet

    check_figure(output, "--output")
    save_sheet(output, seed=seed)
    say(f"{output}: 12 drawings")


def train(output: RunFolder, override: Overrides = None) -> None:
    """Pretrain a grid extractor and a model on drawings. Rerun to resume.

    Initialize `lxmert train custom` from the result: --set model.init_from=OUTPUT
    """
    from lxmert.lab.drawings.task import train_on_drawings

    check_output_folder(output, "--output")
    train_on_drawings(output, override or ())
