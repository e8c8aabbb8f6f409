"""Weights of data sets: shares of the draws, and files that do not fit them."""

import json
from pathlib import Path

import pytest

from lxmert.data.corpus import Corpus
from lxmert.tasks.mixture import Mixture, mix


def write(path: Path, count: int) -> Path:
    rows = [
        {"image": f"{number}.png", "question": f"Is it {number}?", "answer": "yes"}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    one, two = write(tmp_path / "vqa.jsonl", 3), write(tmp_path / "gqa.jsonl", 9)
    return Corpus.read([one, two, one], strict=True)


def test_a_file_that_is_listed_twice_is_one_data_set(corpus: Corpus) -> None:
    mixture = mix(corpus, {"gqa": 1.0, "vqa": 4.0})
    assert mixture is not None
    assert [group.tolist() for group in mixture.groups] == [
        list(range(3, 12)),
        [0, 1, 2, 12, 13, 14],
    ]
    assert mixture.quotas(len(corpus)) == [3, 12]


def test_a_view_keeps_the_files_of_its_examples(corpus: Corpus) -> None:
    part = corpus[2:5]
    assert {name: rows.tolist() for name, rows in part.by_source().items()} == {
        "vqa": [0],
        "gqa": [1, 2],
    }


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({"vqa": 1.0}, "data.mix has no weight of gqa; expected one for each of"),
        ({"vqa": 1.0, "gqs": 1.0}, r"data.mix: gqs is unknown; .* did you mean 'gqa'\?"),
        ({"vqa": 1.0, "gqa": 0.01}, "gives gqa none of the 15 draws of an epoch"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    corpus: Corpus, weights: dict[str, float], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        mix(corpus, weights)


def test_without_weights_there_is_no_mixture(corpus: Corpus) -> None:
    assert mix(corpus, None) is None


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, 1.0), (0.1, 0.7, 3.0, 1e-3)])
@pytest.mark.parametrize("num_draws", [1, 7, 1000])
def test_quotas_are_the_weights_rounded(weights: tuple[float, ...], num_draws: int) -> None:
    quotas = Mixture((), weights).quotas(num_draws)
    assert sum(quotas) == num_draws
    for quota, weight in zip(quotas, weights, strict=True):
        assert abs(quota - num_draws * weight / sum(weights)) <= 1
