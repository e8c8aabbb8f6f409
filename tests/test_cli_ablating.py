"""The command `ablate` refuses what it could not write, and a second one beside it."""

from pathlib import Path

import pytest
from conftest import Command

from lxmert.locks import FolderLock


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Compare one run, which fails as its regions are none."""
    (tmp_path / "pairs.toml").write_text(
        f'task = "pairs"\n[data]\ntrain = "{tmp_path}"\nvalid = "{tmp_path}"\n'
        f'regions = "{tmp_path}"\nvalid_regions = "{tmp_path}"\n'
        "[optim]\nlr = 1.0\nbatch_size = 1\nsteps = 1\n"
    )
    path = tmp_path / "ablation.toml"
    path.write_text(
        'title = "x"\nseeds = [1]\n[stages.pairs]\nmetric = "accuracy"\n'
        f'recipe = "{tmp_path}/pairs.toml"\n[[rows]]\nname = "a"\n'
    )
    return path


@pytest.mark.parametrize("below", ["", "x"])
def test_a_file_in_the_place_of_the_folder_is_refused(
    lxmert: Command, recipe: Path, tmp_path: Path, below: str
) -> None:
    """It was `[Errno 17] File exists`, after all that torch loads."""
    (tmp_path / "file").write_text("")
    for command in ("ablate", "train"):
        result = lxmert(command, recipe, "-o", tmp_path / "file" / below)
        assert result.code == 2
        assert f"{tmp_path}/file is a file; name another folder" in result.err


def test_a_second_comparison_in_one_folder_is_refused(
    lxmert: Command, recipe: Path, tmp_path: Path
) -> None:
    """Both trained the same runs, and each removed what the other was writing."""
    output = tmp_path / "out"
    output.mkdir()
    lock = FolderLock(output)
    result = lxmert("ablate", recipe, "-o", output)
    lock.close()
    assert result.code == 2
    assert f"{output} is being written by another process: wait for it" in result.err
    assert list(output.iterdir()) == []


def test_what_is_missing_and_what_would_be_lost_is_refused_before_any_run(
    lxmert: Command, recipe: Path, tmp_path: Path
) -> None:
    """The first showed after the training before it, and a table of others was overwritten."""
    (tmp_path / "report.md").write_text("notes")
    result = lxmert("ablate", recipe, "-o", tmp_path)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"{tmp_path} has a report that is not about 'x'" in result.err
    runs = tmp_path / "pairs.toml"
    runs.write_text(runs.read_text().replace(f'train = "{tmp_path}"', 'train = "none.jsonl"'))
    result = lxmert("ablate", recipe, "-o", tmp_path / "out")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"{tmp_path}/out/a/seed-1/pairs: data.train is none.jsonl, which is not" in result.err
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_is_in_the_report(lxmert: Command, recipe: Path, tmp_path: Path) -> None:
    """The report said nothing of it."""
    result = lxmert("ablate", recipe, "-o", tmp_path / "out")
    assert result.code == 3
    reported = f"- `{tmp_path}/out/a/seed-1/pairs`: FileNotFoundError: {tmp_path}"
    assert reported in result.out
    assert reported in (tmp_path / "out/report.md").read_text()
