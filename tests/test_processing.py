"""From images and texts to the model's arguments, with the bundled model's own two sides."""

import doctest
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from web_server import Images, Server, serve

from lxmert import processing
from lxmert.processing import LxmertProcessor
from lxmert.reading import InputWarning
from lxmert.regions.extract import DetectorExtractor

SCENE = ROOT / "src/lxmert/examples/scene.png"
OTHERS = sorted((ROOT / "src/lxmert/examples").glob("*.png"))
TEXTS = ["What color is the ball?", "Is there a mug?"]


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


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(Images(SCENE.read_bytes())) as running:
        yield running


def test_every_kind_of_image_gives_the_same_batch(
    processor: LxmertProcessor, server: Server
) -> None:
    image = Image.open(SCENE).convert("RGB")
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    address = f"{server.url}/moved.png"
    kinds = [SCENE, str(SCENE), address, SCENE.read_bytes(), image, array, tensor]
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


def test_a_batch_moves_to_the_device_of_the_model(processor: LxmertProcessor) -> None:
    batch = processor(SCENE, ["Is there a mug?"])
    assert {value.device.type for value in batch.to("meta").values()} == {"meta"}


def test_one_text_for_each_image(processor: LxmertProcessor) -> None:
    with pytest.raises(ValueError, match="1 image and 2 texts"):
        processor([SCENE], ["a", "b"])


def test_what_is_cut_is_what_the_warning_says(processor: LxmertProcessor) -> None:
    longest = processor.config.max_text_length
    text = " ".join(["red"] * (longest + 3))
    with pytest.warns(InputWarning, match="5 words at its end cut"):
        inputs = processor([SCENE], [text])
    assert inputs["input_ids"].shape == (1, longest)
    assert inputs["input_ids"][0, -1] == processor.tokenizer.sep_token_id


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    assert list(found) == list(expected)
    return all(torch.equal(found[name], expected[name]) for name in found)


def test_one_image_goes_with_every_text_and_one_text_with_every_image(
    processor: LxmertProcessor,
) -> None:
    array = np.asarray(Image.open(SCENE).convert("RGB"))
    assert equal(processor(array, TEXTS), processor([array, array], TEXTS))
    assert equal(processor(SCENE, TEXTS[0]), processor([SCENE], [TEXTS[0]]))
    assert equal(processor(OTHERS[:2], TEXTS[0]), processor(OTHERS[:2], [TEXTS[0]] * 2))


def test_one_image_is_looked_at_once(
    processor: LxmertProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    look = DetectorExtractor.__call__

    def count(self: DetectorExtractor, images: list[object]) -> object:
        seen.append(len(images))
        return look(self, images)  # type: ignore[arg-type]

    monkeypatch.setattr(DetectorExtractor, "__call__", count)
    processor(SCENE, TEXTS * 4)
    assert seen == [1]


def test_lists_of_images_are_those_of_a_model_of_several_images(
    processor: LxmertProcessor,
) -> None:
    from lxmert import LxmertConfig, LxmertForImagesAndTextClassification

    pairs = [[OTHERS[0], OTHERS[1]], [OTHERS[2], OTHERS[0]]]
    inputs = processor(pairs, TEXTS)
    flat = processor([*pairs[0], *pairs[1]], TEXTS[0])
    for name in ("visual_feats", "visual_pos", "visual_attention_mask"):
        assert inputs[name].shape[:2] == (2, 2)
        assert torch.equal(inputs[name].flatten(0, 1), flat[name])
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "visual_feat_dim": 256}
    model = LxmertForImagesAndTextClassification(
        LxmertConfig(**sizes, intermediate_size=8, l_layers=1, x_layers=1, r_layers=1)
    )
    assert model.eval()(**inputs).logits.shape == (2, 2)


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        ([SCENE] * 3, TEXTS, "3 images and 2 texts"),
        ([], [], "got 0 images and 0 texts; expected at least one of each"),
        (SCENE, [], "1 image and 0 texts"),
        ([[SCENE, SCENE], [SCENE]], TEXTS, "the lists have 2, 1 images"),
        ([[SCENE, SCENE], SCENE], TEXTS, "the lists have 2, 0 images"),
        ([[], []], TEXTS, "the lists have 0, 0 images"),
    ],
)
def test_numbers_that_do_not_fit_are_an_error(
    processor: LxmertProcessor, images: object, texts: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        processor(images, texts)  # type: ignore[arg-type]


def test_what_was_saved_is_loaded_again(processor: LxmertProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path / "model")
    again = LxmertProcessor.from_pretrained(tmp_path / "model")
    assert equal(again(SCENE, TEXTS), processor(SCENE, TEXTS))
    assert again.config == processor.config
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]


def test_regions_of_another_size_of_the_image_are_refused(processor: LxmertProcessor) -> None:
    (regions,) = processor.extractor([SCENE])
    with pytest.raises(ValueError, match=r"image 1, region \d+: the box is"):
        processor.inputs([regions, replace(regions, image_size=(40, 40))], TEXTS)


def test_the_example_runs_and_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "src/lxmert")
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        assert doctest.testmod(processing) == (0, 4)


def test_a_warning_points_at_the_line_that_called(processor: LxmertProcessor) -> None:
    with pytest.warns(InputWarning) as caught:
        processor(SCENE, "What color is the zebra?")
    assert caught[0].filename == __file__


def test_features_that_are_not_finite_are_refused(processor: LxmertProcessor) -> None:
    (regions,) = processor.extractor([SCENE])
    features = regions.features.copy()
    features[0, 8] = np.nan
    with pytest.raises(ValueError, match="example 0 of the batch, region 0: the feature at 8"):
        processor.inputs([replace(regions, features=features)], TEXTS[:1])


def test_texts_and_images_alone_are_prepared_too(processor: LxmertProcessor) -> None:
    both = processor(images=SCENE, text=TEXTS[0])
    assert equal({**processor(text=TEXTS[0]), **processor(images=SCENE)}, both)
    assert LxmertProcessor.from_pretrained()(SCENE, TEXTS[0]).keys() == both.keys()
    with pytest.raises(ValueError, match="neither images nor text"):
        processor()


def test_padding_truncation_and_tensors_are_those_of_transformers(
    processor: LxmertProcessor,
) -> None:
    theirs = processor.tokenizer
    for options in (
        {"padding": True},
        {"padding": "longest"},
        {"padding": "max_length", "max_length": 12},
        {"padding": True, "truncation": True, "max_length": 5},
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            found = processor(text=TEXTS, return_tensors="np", **options)  # type: ignore[arg-type]
        expected = theirs(TEXTS, return_tensors="np", **options)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert isinstance(found[name], np.ndarray)
            np.testing.assert_array_equal(found[name], values)
    torch.testing.assert_close(
        processor(text=TEXTS, return_tensors="pt")["input_ids"],
        theirs(TEXTS, padding=True, return_tensors="pt")["input_ids"],
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": False}, "have 7 to 8 tokens; expected equal lengths"),
        ({"padding": "left"}, "padding is 'left'; expected"),
        ({"truncation": False, "max_length": 5}, "is longer than 5 tokens: shorten it"),
        ({"max_length": 2}, "max_length is 2; expected at least 3"),
        ({"return_tensors": "tf"}, "return_tensors is 'tf'; expected 'pt' or 'np'"),
    ],
)
def test_options_that_do_not_fit_are_an_error(
    processor: LxmertProcessor, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        processor(text=TEXTS, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("empty", [{"text": []}, {"images": []}])
def test_an_empty_list_is_one_sentence(
    processor: LxmertProcessor, empty: dict[str, list[str]]
) -> None:
    with pytest.raises(ValueError, match="got an empty list; expected at least one image or text"):
        processor(**empty)  # type: ignore[arg-type]
