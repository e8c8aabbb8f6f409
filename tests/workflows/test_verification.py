"""Damage by checksums, and other extractors by published rows."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ASSETS, ROOT, draw_photos
from regions import published
from safetensors.torch import load_file, save_file
from stores import first_shard, flip

from lxmert.data.store import RegionStore
from lxmert.data.tsv import read_tsv
from lxmert.model.loading import load_model, load_original
from lxmert.model.original import to_original
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.detector import Detector
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.preprocess import load_image
from lxmert.workflows import inspection, verification
from lxmert.workflows.extraction import ExtractionSettings, extract_folder, load_for_extraction
from lxmert.workflows.verification import (
    Agreement,
    average,
    compare,
    compare_rows,
    find_disagreements,
    verify,
    verify_rows,
)

ROWS = ASSETS / "train2014_obj36.tsv"


@pytest.fixture(scope="module")
def extractor():
    return load_for_extraction(None)


@pytest.fixture
def store(extractor, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for index, path in enumerate(sorted((ROOT / "src/lxmert/examples").glob("*.png"))[:3]):
        shutil.copy(path, images / f"{index}.png")
    extract_folder(
        images,
        tmp_path / "store",
        extractor,
        ExtractionSettings(),
        progress=lambda done, total: None,
    )
    return tmp_path / "store"


def test_a_sound_store_has_no_problem_and_all_of_it_is_read(store, extractor):
    seen = []
    verdict = verify(store, progress=lambda *step: seen.append(step))
    assert (verdict.kind, verdict.problems) == ("region store", ())
    assert verdict.facts == {"images": 3, "failed": 0, "fingerprint": extractor.fingerprint}
    assert seen == [(3, 3)]


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        ("features", "shard-000000-0.safetensors, image '2.png': image 2 of 3"),
        ("boxes", "shard-000000-0.safetensors, image '2.png': image 2 of 3"),
        ("image_sizes", "shard-000000-0.safetensors: "),
    ],
)
def test_a_flipped_bit_is_named_with_its_file_and_image(store, tensor, problem):
    flip(first_shard(store), tensor)
    (found,) = verify(store).problems
    assert problem in found


def test_a_store_that_is_cut_or_unfinished_is_a_problem(store):
    with first_shard(store).open("ab") as file:
        file.truncate(1000)
    assert "the store is damaged" in verify(store).problems[0]
    (store / "index.safetensors").unlink()
    assert "not finished" in verify(store).problems[0]


def test_models_and_detectors_are_verified(tmp_path):
    default = ROOT / "src/lxmert/default"
    for path, kind in ((default, "model folder"), (default / "extractor", "detector folder")):
        verdict = verify(path)
        assert (verdict.kind, verdict.problems) == (kind, ())
    other = tmp_path / "model"
    shutil.copytree(default, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"x_layers": 8}))
    assert "does not fill" in verify(other).problems[0]


@pytest.mark.parametrize("wording", ["other words", "does not fill", "but the model expects"])
def test_rewording_a_finding_does_not_change_the_exit_code(wording, tmp_path, monkeypatch):
    """Bug: `verify` searched notes for words, so that another wording passed broken weights."""

    def misfit(*_: object, **__: object) -> None:
        raise ValueError(wording)

    default = ROOT / "src/lxmert/default"
    monkeypatch.setattr(inspection, "answers_of", lambda _: None)
    monkeypatch.setattr(inspection, "check_fit", misfit)
    assert verify(default).problems == (wording,)
    sound = replace(inspection.inspect(default), problems=(), notes=(wording,))
    monkeypatch.setattr(verification, "inspect", lambda _: sound)
    assert verify(default).problems == ()


def test_another_extractor_beside_a_model_is_a_problem(tmp_path):
    path = tmp_path / "model"
    shutil.copytree(ROOT / "src/lxmert/default", path)
    prepared = json.loads((path / "preprocessor_config.json").read_text())
    changed = json.dumps(prepared | {"fingerprint": "8" * 16})
    (path / "preprocessor_config.json").write_text(changed)
    (problem,) = verify(path).problems
    assert "8" * 16 in problem


def test_a_published_detector_of_another_size_is_refused_with_what_is_wrong(tmp_path):
    """The small random one has the published names, and none of the published shapes."""
    path = tmp_path / "any.caffemodel"
    path.write_bytes(published.caffe_bytes(published.random_state()))
    with pytest.raises(ValueError, match="of the wrong shape or type: "):
        verify(path)


def small_published(feature_dim=2048):
    """The published geometry, with few channels, proposals and pixels."""
    torch.manual_seed(8)
    config = DetectorConfig.preset(
        "caffe",
        object_names=[f"object {index}" for index in range(1600)],
        attribute_names=[f"attribute {index}" for index in range(400)],
    )
    config = config.replace(
        stem_width=8,
        stage_depths=(1, 1, 1),
        stage_inner_widths=(4, 8, 8),
        stage_widths=(8, 16, 24),
        proposal_width=16,
        head_inner_width=8,
        feature_dim=feature_dim,
        proposals=40,
        embedding_dim=8,
        attribute_dim=16,
        shorter_side=160,
        longer_side=260,
        anchor_sizes=(20.0, 40.0, 80.0, 120.0),
    )
    return DetectorExtractor(Detector(config))


def test_random_weights_are_compared_with_real_rows_and_disagree(tmp_path):
    found = compare_rows(small_published(), draw_photos(ROWS, tmp_path / "photos"), ROWS)
    assert len(found) == 2
    mean = average(found)
    for agreement in (*found, mean):
        for name in ("regions", "objects", "attributes"):
            assert 0 <= getattr(agreement, name) < 0.5
        assert np.isfinite([agreement.feature_cosine, agreement.lowest_cosine]).all()
        assert agreement.lowest_cosine <= agreement.feature_cosine
    assert len(find_disagreements(mean)) == 3


def test_extractor_agree_with_what_they_wrote_themselves(tmp_path):
    extractor = small_published(feature_dim=64)
    scene = ROOT / "src/lxmert/examples/scene.png"
    (regions,) = extractor([scene], num_regions=36)
    agreement = compare(extractor, "scene", load_image(scene), regions)
    assert agreement.regions == 1
    assert agreement.lowest_cosine > 0.9999
    assert (agreement.objects, agreement.attributes) == (1, 1)
    assert find_disagreements(average([agreement, agreement])) == []
    moved = replace(regions, boxes=regions.boxes + np.float32([3, 0, 0, 0]))
    assert compare(extractor, "scene", load_image(scene), moved).regions < 0.5


def test_another_extractor_are_compared_by_their_boxes_alone(extractor, tmp_path):
    """The bundled extractor knows other objects and has other features."""
    (name, regions) = next(read_tsv(ROWS))
    pixels = load_image(draw_photos(ROWS, tmp_path / "photos") / f"{name}.png")
    agreement = compare(extractor, name, pixels, regions)
    assert agreement == Agreement(name, regions=agreement.regions)
    assert 0 <= agreement.regions < 0.3


def test_a_missing_or_another_photo_is_named(extractor, tmp_path):
    shutil.copy(ROOT / "src/lxmert/examples/scene.png", tmp_path)
    with pytest.raises(FileNotFoundError, match="has no image COCO_train2014_0"):
        compare_rows(extractor, tmp_path, ROWS)
    name, _ = next(read_tsv(ROWS))
    shutil.copy(ROOT / "src/lxmert/examples/scene.png", tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match="it is another image, or was resized"):
        compare_rows(extractor, tmp_path, ROWS)
    with pytest.raises(ValueError, match="is not a detector: leave out --images and --rows"):
        verify_rows(ROOT / "src/lxmert/default", tmp_path, ROWS, progress=lambda done, total: None)


@pytest.mark.slow
def test_published_size_runs_on_real_rows(tmp_path):
    """With random weights, so that nothing agrees; what counts is that all of it is finite."""
    names = {"object": 1600, "attribute": 400}
    objects, attributes = ([f"{kind} {i}" for i in range(n)] for kind, n in names.items())
    config = DetectorConfig.preset("caffe", object_names=objects, attribute_names=attributes)
    torch.manual_seed(8)
    extractor = DetectorExtractor(Detector(config))
    rows = tmp_path / "rows.tsv"
    rows.write_bytes(ROWS.read_bytes().splitlines(keepends=True)[0])
    (agreement,) = compare_rows(extractor, draw_photos(rows, tmp_path / "photos"), rows)
    assert np.isfinite([agreement.regions, agreement.feature_cosine, agreement.objects]).all()


@pytest.mark.slow
def test_the_real_rows_give_finite_answers_at_full_size(tmp_path):
    from lxmert.data.arrays import normalize_boxes
    from lxmert.data.collate import collate_regions
    from lxmert.data.tsv import import_tsv
    from lxmert.model.configuration import LxmertConfig
    from lxmert.model.heads import LxmertForQuestionAnswering

    store: RegionStore = import_tsv(ROWS, tmp_path / "store")
    regions = [store[image_id] for image_id in store.image_ids]
    assert len(regions) == 2
    torch.manual_seed(8)
    model = LxmertForQuestionAnswering(LxmertConfig(num_qa_labels=3129)).eval()
    boxes = [normalize_boxes(found, name="row") for found in regions]
    inputs = collate_regions([found.features for found in regions], boxes)
    with torch.inference_mode():
        words = torch.tensor([[101, 2054, 3609, 2003, 1996, 4937, 102]] * 2)
        scores = model(input_ids=words, **inputs).question_answering_score
    assert scores.shape == (2, 3129)
    assert scores.isfinite().all()
    assert scores.std(dim=0).mean() > 1e-5, "the images make no difference"


def test_the_recorded_expectation_is_that_of_the_published_weights():
    mean = Agreement("mean", 0.96, 0.9991, 0.99, 0.985, 0.9)
    assert find_disagreements(mean) == []
    assert find_disagreements(replace(mean, objects=0.5)) == [
        "objects: 0.5000, expected at least 0.98"
    ]
    assert find_disagreements(Agreement("mean", 0.25)) == [
        "regions: 0.2500, expected at least 0.95"
    ]


def test_paths_that_hold_nothing_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no"):
        verify(Path(tmp_path / "nowhere"))


def spoil(kind: str, values: torch.Tensor) -> torch.Tensor:
    if kind == "nan":
        return values.index_fill(0, torch.tensor([1]), torch.nan)
    return torch.zeros_like(values) if kind == "zeros" else values.to(getattr(torch, kind))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["nan", "zeros", "int64", "bool", "complex64"])
@pytest.mark.parametrize("form", ["model", "BEST.pth"])
def test_weights_that_cannot_be_right_are_a_problem(form, kind, tmp_path):
    """Bug: `lxmert verify` said that nothing is wrong with weights of NaN, zeros or integers."""
    whole = ROOT / "src/lxmert/default"
    path = tmp_path / "model"
    shutil.copytree(whole, path, ignore=shutil.ignore_patterns("extractor", "preprocessor*"))
    assert verify(path).problems == ()
    state = load_file(path / "model.safetensors")
    name = "lxmert.encoder.layer.0.output.dense.weight"
    spoilt = [each for each in state if kind == "zeros" or each == name]
    state |= {each: spoil(kind, state[each]) for each in spoilt}
    save_file(state, path / "model.safetensors")
    if form == "BEST.pth":
        path = tmp_path / form
        answering = {key: value for key, value in state.items() if not key.startswith("cls.")}
        torch.save(to_original("answering", answering), path)
        name = name.replace("lxmert.", "lxrt_encoder.model.bert.")
    problems = verify(path).problems
    assert len(problems) == 1 if kind in ("nan", "zeros") else problems
    assert {"nan": name, "zeros": "matrices nothing but zeros"}.get(kind, kind) in problems[-1]
    load = load_model if form == "model" else load_original
    with pytest.raises(ValueError, match="cannot be used"):
        load(path)
