"""The contract of all region extractors, run on each kind; loading them; mismatches."""

import io
import json
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from test_detector import CONFIG, make_detector

from lxmert import (
    BackboneGridExtractor,
    DetectorExtractor,
    GridExtractor,
    LxmertConfig,
    LxmertForQuestionAnswering,
    LxmertPipeline,
    LxmertProcessor,
    RegionStore,
    TorchvisionExtractor,
    load_extractor,
)
from lxmert.data.preprocessing import PreprocessorConfig
from lxmert.data.store import StoreHeader
from lxmert.data.tokenizer import build_tokenizer
from lxmert.reading import InputWarning
from lxmert.regions.extractor import EXTRACTORS
from lxmert.regions.grid import GridConfig, GridNetwork

FEATURE_DIMS = {"detector": CONFIG.feature_dim, "torchvision": 1024, "backbone": 1280, "grid": 24}
TEXTS = ["is there a mug", "what color is the ball", "is it red"]


@cache
def known_extractors(kind, seed=0):
    return make_extractor(kind, seed)


def make_extractor(kind, seed=0):
    torch.manual_seed(seed)
    if kind == "detector":
        return DetectorExtractor(make_detector(seed=seed))
    if kind == "torchvision":
        return TorchvisionExtractor.from_torchvision(
            "fasterrcnn_mobilenet_v3_large_320_fpn",
            object_names=("mug", "ball"),
            num_regions=5,
            score_threshold=0.0,
            shorter_side=64,
            longer_side=96,
        )
    if kind == "backbone":
        return BackboneGridExtractor.from_torchvision("mnasnet0_5", side=96)
    return GridExtractor(
        GridNetwork(GridConfig(height=48, width=48, widths=(8, 16, 16), feature_dim=24))
    )


@pytest.fixture(scope="module", params=list(FEATURE_DIMS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def extractor(kind):
    return known_extractors(kind)


def random_image(height, width, seed=0):
    """Return images of smooth blobs; noise would look the same everywhere."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (1, 3, 5, 7))
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse), size=(height, width), mode="bicubic"
    )
    return smooth[0].clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)


def assert_same(first, second):
    assert (first.image_size, first.found) == (second.image_size, second.found)
    for name in ("boxes", "features", "object_ids", "object_scores"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for name in ("attribute_ids", "attribute_scores"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_every_kind_is_tested():
    assert len(FEATURE_DIMS) == len(EXTRACTORS) == 4
    assert {type(known_extractors(kind)) for kind in FEATURE_DIMS} == set(EXTRACTORS.values())


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (33, 17), (1, 1), (2, 400), (700, 3)])
def test_regions_have_the_types_of_the_schema_and_lie_inside(extractor, kind, size):
    (regions,) = extractor([random_image(*size)])
    count, groups = len(regions), len(extractor.attribute_groups)
    assert count > 0
    assert extractor.feature_dim == FEATURE_DIMS[kind]
    assert regions.image_size == size
    assert {type(side) for side in regions.image_size} == {int}
    shapes = {
        "boxes": (count, 4),
        "features": (count, extractor.feature_dim),
        "object_ids": (count,),
        "object_scores": (count,),
        "attribute_ids": (count, groups),
        "attribute_scores": (count, groups),
    }
    for name, shape in shapes.items():
        values = getattr(regions, name)
        assert values.shape == shape, name
        assert values.dtype == (np.int64 if name.endswith("ids") else np.float32), name
        assert np.isfinite(values).all(), name
    height, width = size
    assert (regions.boxes >= 0).all()
    assert (regions.boxes <= np.float32([width, height, width, height])).all()
    assert (regions.boxes[:, 2:] >= regions.boxes[:, :2]).all()
    assert ((regions.object_scores >= 0) & (regions.object_scores <= 1)).all()
    assert 0 <= regions.object_ids.min() <= regions.object_ids.max() < len(extractor.object_names)


def test_color_means_the_same_for_each_kind_of_image(extractor, tmp_path):
    array = random_image(40, 60)
    image = Image.fromarray(array)
    path = tmp_path / "image.png"
    image.save(path)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    expected, *others = extractor([array, path, str(path), image, tensor, buffer.getvalue()])
    assert len(others) == 5
    for regions in others:
        assert_same(regions, expected)
    (other,) = extractor([array[:, :, ::-1].copy()])
    assert not np.array_equal(other.features, expected.features)


def test_images_are_answered_in_order_and_each_for_itself(extractor, kind):
    images = [random_image(30 + 20 * i, 80 - 10 * i, seed=i) for i in range(5)]
    together = extractor(images)
    assert [regions.image_size for regions in together] == [p.shape[:2] for p in images]
    for image, regions in zip(images, together, strict=True):
        (alone,) = extractor([image])
        if kind == "detector":  # it computes batches, which may change the last bits
            np.testing.assert_allclose(alone.features, regions.features, rtol=1e-3, atol=1e-4)
        else:
            assert_same(alone, regions)


def test_no_images_have_no_regions(extractor):
    assert extractor([]) == []
    assert list(extractor.stream([])) == []


def test_one_image_outside_of_a_list_is_refused(extractor):
    for image in ("a.png", b"PNG"):
        with pytest.raises(ValueError, match=r"got one .*; expected a list of images"):
            extractor(image)


def test_a_stream_is_a_call(extractor):
    pairs = [(f"image {i}", random_image(40, 60, seed=i)) for i in range(3)]
    expected = [
        regions for start in (0, 2) for regions in extractor([p for _, p in pairs[start:][:2]])
    ]
    streamed = list(extractor.stream(iter(pairs), batch_size=2))
    assert [image_id for image_id, _ in streamed] == [image_id for image_id, _ in pairs]
    for (_, regions), other in zip(streamed, expected, strict=True):
        assert_same(regions, other)


def test_a_stream_reads_no_further_than_its_batch(extractor):
    read = []

    def pairs():
        for index in range(9):
            read.append(index)
            yield str(index), random_image(20, 20)

    next(extractor.stream(pairs(), batch_size=3))
    assert read == [0, 1, 2]


def test_saved_and_opened_extractor_see_the_same(extractor, tmp_path):
    extractor.save_pretrained(tmp_path / "extractor")
    assert {path.name for path in (tmp_path / "extractor").iterdir()} == {
        "config.json",
        "model.safetensors",
    }
    opened = load_extractor(tmp_path / "extractor")
    assert type(opened) is type(extractor)
    assert opened.fingerprint == extractor.fingerprint
    for name in ("precision", "feature_dim", "recognizes", "object_names", "attribute_names"):
        assert getattr(opened, name) == getattr(extractor, name), name
    assert dict(opened.attribute_groups) == dict(extractor.attribute_groups)
    image = random_image(50, 70)
    assert_same(opened([image])[0], extractor([image])[0])


def test_the_fingerprint_tells_weights_apart(extractor, kind):
    assert extractor.fingerprint == make_extractor(kind).fingerprint
    assert extractor.fingerprint != known_extractors(kind, seed=5).fingerprint
    assert len(extractor.fingerprint) == 16


def test_the_fingerprint_tells_configurations_apart(extractor, tmp_path):
    """A setting without a tensor: other pixels or regions, with the same weights."""
    extractor.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    name = next(n for n in ("score_threshold", "pixel_mean", "width") if n in values)
    changed = {"score_threshold": 0.375, "pixel_mean": [0.25, 0.5, 0.75], "width": 96}[name]
    path.write_text(json.dumps(values | {name: changed}))
    assert load_extractor(tmp_path).fingerprint != extractor.fingerprint


def test_weights_that_are_damaged_or_of_another_kind_are_refused(extractor, kind, tmp_path):
    extractor.save_pretrained(tmp_path / "extractor")
    other = known_extractors("grid" if kind != "grid" else "backbone")
    other.save_pretrained(tmp_path / "other")
    weights = tmp_path / "extractor/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_extractor(tmp_path / "extractor")
    weights.write_bytes((tmp_path / "other/model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"do not fit the config\.json"):
        load_extractor(tmp_path / "extractor")
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        load_extractor(tmp_path / "extractor")


def test_a_configuration_with_other_keys_is_refused(extractor, tmp_path):
    extractor.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"bogus": -8}))
    with pytest.raises(ValueError, match="bogus"):
        load_extractor(tmp_path)
    with pytest.raises(ValueError, match="model_type"):
        type(extractor).from_pretrained(write_config(tmp_path, values | {"model_type": "lxmert"}))


def write_config(folder, values):
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def make_store(folder, extractor, images, **header):
    known = StoreHeader(
        fingerprint=extractor.fingerprint,
        feature_dim=extractor.feature_dim,
        dtype="float32",
        precision=extractor.precision,
        object_names=extractor.object_names,
        attribute_names=extractor.attribute_names,
    )
    return RegionStore.write(
        folder,
        list(images),
        lambda ids: extractor.stream((image_id, images[image_id]) for image_id in ids),
        known.replace(**header),
    )


def test_a_store_gives_the_regions_back(extractor, tmp_path):
    images = {"a.png": random_image(40, 60), "b.png": random_image(70, 50, seed=1)}
    store = make_store(tmp_path / "store", extractor, images)
    for (_, expected), image_id in zip(extractor.stream(images.items()), images, strict=True):
        assert_same(store[image_id], expected)


def make_processor(extractor):
    return LxmertProcessor(
        extractor, build_tokenizer(TEXTS), PreprocessorConfig(fingerprint=extractor.fingerprint)
    )


def make_model(extractor, tokenizer):
    torch.manual_seed(3)
    config = LxmertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=8,
        l_layers=1,
        x_layers=1,
        r_layers=1,
        num_qa_labels=3,
        visual_feat_dim=extractor.feature_dim,
        id2label={0: "yes", 1: "no", 2: "red"},
        label2id={"yes": 0, "no": 1, "red": 2},
        pad_token_id=tokenizer.pad_token_id,
    )
    return LxmertForQuestionAnswering(config).eval()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::lxmert.reading.InputWarning")
def test_a_model_reads_the_regions_and_travels_with_its_extractor(extractor, tmp_path):
    processor = make_processor(extractor)
    model = make_model(extractor, processor.tokenizer)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    image = random_image(50, 70)
    expected = LxmertPipeline(model, processor).ask(image, TEXTS[0], top_k=3)
    assert np.isfinite([answer.score for answer in expected]).all()
    loaded = LxmertPipeline.from_pretrained(tmp_path)
    assert type(loaded.processor.extractor) is type(extractor)
    found = loaded.ask(image, TEXTS[0], top_k=3)
    assert [answer.answer for answer in found] == [answer.answer for answer in expected]
    np.testing.assert_allclose(
        [answer.score for answer in found], [answer.score for answer in expected], atol=1e-6
    )
    explanation = loaded.explain(image, TEXTS[0])
    assert len(explanation.labels) == len(explanation.relevance) == len(explanation.regions)


def test_regions_without_names_are_called_by_their_place_and_never_unrecognized(recwarn):
    extractor = make_extractor("grid")
    processor = make_processor(extractor)
    pipeline = LxmertPipeline(make_model(extractor, processor.tokenizer), processor)
    regions = pipeline.regions(random_image(30, 70))
    labels = pipeline.labels(regions)
    assert labels == pipeline.objects(regions)
    assert len(labels) == 36
    assert (labels[0], labels[5], labels[6], labels[35]) == (
        "cell 1,1",
        "cell 1,6",
        "cell 2,1",
        "cell 6,6",
    )
    pipeline.ask_regions(regions, [TEXTS[0]])
    assert [w for w in recwarn if issubclass(w.category, InputWarning)] == []


def test_an_image_without_recognized_regions_is_warned_of():
    extractor = make_extractor("torchvision")
    extractor.network.roi_heads.box_predictor.cls_score.bias.data = torch.tensor([3.25, 0.0, 0.0])
    processor = make_processor(extractor)
    with pytest.warns(InputWarning, match="the region extractor knows mug, ball"):
        processor(random_image(30, 70), TEXTS[0])


def test_extractor_of_another_kind_are_refused_and_both_are_named(kind, extractor, tmp_path):
    other = known_extractors("grid" if kind != "grid" else "backbone", seed=5)
    both = f"(?s){other.fingerprint}.*{extractor.fingerprint}"
    with pytest.raises(ValueError, match=both):
        LxmertProcessor(
            other, build_tokenizer(TEXTS), PreprocessorConfig(fingerprint=extractor.fingerprint)
        )
    processor = make_processor(extractor)
    processor.save_pretrained(tmp_path / "model")
    make_model(extractor, processor.tokenizer).save_pretrained(tmp_path / "model")
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=both):
        LxmertPipeline.from_pretrained(tmp_path / "model", extractor=tmp_path / "other")


def test_a_store_of_another_extractor_is_refused_and_both_are_named(extractor, kind, tmp_path):
    other = known_extractors(kind, seed=5)
    images = {"a.png": random_image(40, 60)}
    make_store(tmp_path / "own", extractor, images)
    make_store(tmp_path / "other", other, images)
    processor = make_processor(extractor)
    assert processor.open_store(tmp_path / "own").image_ids == ["a.png"]
    with pytest.raises(ValueError, match=f"{other.fingerprint}.*{extractor.fingerprint}"):
        processor.open_store(tmp_path / "other")
    with pytest.raises(
        ValueError,
        match=f"started with the fingerprint {extractor.fingerprint}, not with {other.fingerprint}",
    ):
        make_store(tmp_path / "own", other, images | {"b.png": random_image(9, 9)})


def test_a_folder_of_something_else_is_refused_with_what_extractor_there_are(tmp_path):
    make_extractor("grid").save_pretrained(tmp_path)
    write_config(tmp_path, {"model_type": "lxmert"})
    with pytest.raises(
        ValueError, match=r"model_type 'lxmert'; expected a region extractor, one of (.*):"
    ) as reported:
        load_extractor(tmp_path)
    for model_type in EXTRACTORS:
        assert repr(model_type) in str(reported.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        load_extractor(tmp_path)
    (tmp_path / "config.json").write_text("[3]")
    with pytest.raises(ValueError, match="must hold a JSON object"):
        load_extractor(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        load_extractor(tmp_path / "nothing")


def test_a_file_in_a_folder_of_extractor_stands_for_the_folder(tmp_path):
    extractor = make_extractor("grid")
    extractor.save_pretrained(tmp_path)
    for name in ("config.json", "model.safetensors"):
        assert load_extractor(tmp_path / name).fingerprint == extractor.fingerprint


def test_precision_is_refused_where_there_is_none(tmp_path):
    make_extractor("grid").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="precision is 'bf16'"):
        load_extractor(tmp_path, precision="bf16")
    make_extractor("detector").save_pretrained(tmp_path)
    assert load_extractor(tmp_path, precision="exact").precision == "exact"
