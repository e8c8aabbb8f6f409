"""The trainable grid: cells, batches, files, and gradients of all parameters."""

import numpy as np
import pytest
import torch

from lxmert import GridExtractor
from lxmert.regions.grid import GridConfig, GridNetwork

CONFIG = GridConfig(height=48, width=48, widths=(8, 16, 24), feature_dim=10)


def make_extractor(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    return GridNetwork(config)


def trained_extractor():
    """Return a grid network whose norms were updated by some images."""
    extractor = make_extractor()
    for seed in range(5):
        extractor(torch.from_numpy(random_image(48, 48, seed))[None])
    assert extractor.stages[0][1].running_mean.abs().min() > 0
    return extractor


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_features_and_cells_have_the_shapes_that_are_said():
    features, cells = make_extractor()(torch.zeros(2, 48, 48, 3, dtype=torch.uint8))
    assert features.shape == (2, 36, 10)
    assert cells.shape == (2, 36, 4)
    assert cells[0, 7].tolist() == pytest.approx([1 / 6, 1 / 6, 2 / 6, 2 / 6])


@pytest.mark.parametrize("size", [(48, 48), (33, 47), (47, 301), (1, 1), (2, 1000)])
def test_boxes_are_the_cells_in_pixels_of_the_image(size):
    (regions,) = GridExtractor(make_extractor())([random_image(*size)])
    height, width = size
    expected = [
        (width * x / 6, height * y / 6, width * (x + 1) / 6, height * (y + 1) / 6)
        for y in range(6)
        for x in range(6)
    ]
    np.testing.assert_allclose(regions.boxes, np.float32(expected), rtol=1e-5)
    assert regions.image_size == size


def test_a_cell_belongs_to_the_feature_at_its_place():
    """A change in one corner affects the features there most, and none far away."""
    extractor = make_extractor(GridConfig(height=96, width=96, widths=(8, 8), feature_dim=6))
    for stage in extractor.stages:  # norms over the image would carry a change everywhere
        stage[1], stage[4] = torch.nn.Identity(), torch.nn.Identity()
    blank = np.full((96, 96, 3), 128, np.uint8)
    marked = blank.copy()
    marked[80:, :16] = 255
    first, second = GridExtractor(extractor)([blank, marked])
    change = np.abs(first.features - second.features).max(axis=1)
    touched = first.boxes[change > 1e-6]
    assert len(touched) >= 16
    assert touched[:, 0].max() < 32
    assert touched[:, 1].min() > 64


def test_an_image_is_seen_alike_alone_and_in_any_batch():
    """In evaluation mode the norms use the statistics of the training, not of the batch."""
    pixels = torch.from_numpy(np.stack([random_image(48, 48, seed) for seed in range(5)]))
    extractor = trained_extractor().eval()
    together, _ = extractor(pixels)
    alone = torch.cat([extractor(pixels[index : index + 1])[0] for index in range(5)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    loaded = GridExtractor(extractor)
    images = [random_image(20 + 9 * seed, 50, seed) for seed in range(5)]
    for image, regions in zip(images, loaded(images), strict=True):
        np.testing.assert_array_equal(loaded([image])[0].features, regions.features)


def test_evaluation_and_extraction_see_the_same():
    image = random_image(70, 90)
    extractor = trained_extractor().eval()
    features, _ = extractor(torch.tensor(extractor.config.layout.stretch(image))[None])
    (regions,) = GridExtractor(extractor)([image])
    np.testing.assert_allclose(regions.features, features[0].detach().numpy(), atol=1e-6)


def test_the_gradient_reaches_all_parameters():
    extractor = make_extractor()
    features, _ = extractor(torch.from_numpy(random_image(48, 48))[None])
    weight = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    (features * weight).sum().backward()
    for name, parameter in extractor.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_configuration_survives_its_file():
    assert GridConfig.from_dict(CONFIG.to_dict()) == CONFIG
    assert CONFIG.to_dict() == {
        "model_type": "lxmert-grid",
        "height": 48,
        "width": 48,
        "widths": [8, 16, 24],
        "feature_dim": 10,
    }


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((30, 30), (96, 96)),  # enlarged about three times
        ((64, 64), (128, 128)),
        ((480, 640), (112, 144)),
        ((100, 400), (64, 256)),
        ((20000, 20000), (128, 128)),
        ((1, 1), (32, 32)),
        ((1, 4000), (32, 1024)),
    ],
)
def test_the_grid_for_images_has_about_64_cells_of_their_aspect_ratio(size, expected):
    config = CONFIG.replace(widths=(8, 16, 16, 24)).for_images(*size)
    assert (config.height, config.width) == expected
    rows, columns = config.num_cells
    assert (rows * config.stride, columns * config.stride) == expected


def test_the_weights_fit_images_of_any_size():
    extractor = make_extractor()
    other = make_extractor(CONFIG.replace(width=96), seed=1)
    other.load_state_dict(extractor.state_dict())
    assert other(torch.zeros(1, 48, 96, 3, dtype=torch.uint8))[0].shape == (1, 72, 10)


def test_cells_of_a_blank_image_differ_by_their_place():
    """Without positions in the features, only the boxes could tell them apart."""
    features, _ = make_extractor().eval()(torch.full((1, 48, 48, 3), 77, dtype=torch.uint8))
    inner = features[0].unflatten(0, (6, 6))[1:-1, 1:-1].flatten(0, 1)
    assert torch.cdist(inner, inner)[~torch.eye(16, dtype=torch.bool)].min() > 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 50}, "height: got 50, expected a multiple of 8"),
        ({"width": 0}, "width: got 0, expected at least 1"),
        ({"width": -8}, "width: got -8"),
        ({"widths": ()}, r"widths: got \[\], expected at least 1 item"),
        ({"widths": (8, 0)}, r"widths\[1\]: got 0, expected at least 1"),
    ],
)
def test_a_bad_configuration_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GridConfig(**{"height": 64, "widths": (8, 8, 8)} | settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "lxmert"}, "model_type: got"),
        ({"bogus": -8}, "unknown key 'bogus'"),
        (
            {"width": None, "model_type": "x"},
            "model_type: got .*; width: got null, expected an int",
        ),
    ],
)
def test_a_bad_file_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        GridConfig.from_dict(CONFIG.to_dict() | change)
