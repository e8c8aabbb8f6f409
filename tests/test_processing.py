"""From images and texts to the model's arguments, with the bundled model's own two sides."""

import warnings

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from lxmert.processing import InputWarning, LxmertProcessor

SCENE = ROOT / "examples/scene.png"


@pytest.fixture(scope="module")
def processor() -> LxmertProcessor:
    return LxmertProcessor.from_pretrained(ROOT / "src/lxmert/default")


def test_the_batch_holds_exactly_the_arguments_of_forward(processor: LxmertProcessor) -> None:
    inputs = processor([SCENE, SCENE], ["What color is the ball?", "Is there a mug?"])
    regions = processor.extractor([SCENE])[0]
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {
        "input_ids": (2, 8),
        "attention_mask": (2, 8),
        "token_type_ids": (2, 8),
        "visual_feats": (2, len(regions), 256),
        "visual_pos": (2, len(regions), 4),
        "visual_attention_mask": (2, len(regions)),
    }
    expected = regions.boxes / np.array([160, 160, 160, 160], dtype=np.float32)
    np.testing.assert_allclose(inputs["visual_pos"][1].numpy(), expected, atol=1e-6)
    assert inputs["attention_mask"].tolist() == [[1] * 8, [1] * 7 + [0]]


def test_every_kind_of_image_gives_the_same_batch(processor: LxmertProcessor) -> None:
    picture = Image.open(SCENE).convert("RGB")
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    kinds = [SCENE, str(SCENE), SCENE.read_bytes(), picture, array, tensor]
    batch = processor(kinds, ["Is there a mug?"] * len(kinds))
    for values in batch.values():
        for row in values[1:]:
            torch.testing.assert_close(row, values[0])


def test_a_text_of_known_words_and_normal_length_is_not_warned_about(
    processor: LxmertProcessor,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor([SCENE], ["What color is the ball?"])


def test_one_text_for_each_image(processor: LxmertProcessor) -> None:
    with pytest.raises(ValueError, match="1 images and 2 texts"):
        processor([SCENE], ["a", "b"])


def test_what_is_cut_is_what_the_warning_says(processor: LxmertProcessor) -> None:
    longest = processor.config.max_text_length
    text = " ".join(["red"] * (longest + 3))
    with pytest.warns(InputWarning, match="its last 5 words were cut"):
        inputs = processor([SCENE], [text])
    assert inputs["input_ids"].shape == (1, longest)
    assert inputs["input_ids"][0, -1] == processor.tokenizer.sep_token_id
