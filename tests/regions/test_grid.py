"""The trainable grid: cells, batches, files, and gradients of all parameters."""

import numpy as np
import pytest
import torch

from lxmert import GridExtractor
from lxmert.regions.grid import GridConfig, GridNetwork, shrink

CONFIG = GridConfig(side=48, widths=(8, 16, 24), feature_dim=10)


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
    extractor = make_extractor(GridConfig(side=96, widths=(8, 8), feature_dim=6))
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
    features, _ = extractor(torch.tensor(shrink(image, 48))[None])
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
        "side": 48,
        "widths": [8, 16, 24],
        "feature_dim": 10,
    }


@pytest.mark.parametrize("typical_side", [1, 16, 40, 64, 96, 160, 224, 480, 640, 1000, 4000, 20000])
def test_the_grid_for_images_has_few_cells_and_fits_them(typical_side):
    config = GridConfig.for_images(typical_side)
    assert config.cells_per_side == (4 if typical_side <= 64 else 6)
    assert config.cells_per_side * config.stride == config.side
    assert config.side <= max(64, 2 * typical_side)
    assert GridConfig.for_images(config.side) == config
    make_extractor(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"side": 50}, "side: got 50, expected a multiple of 8"),
        ({"side": 0}, "side: got 0, expected at least 1"),
        ({"side": -8}, "side: got -8"),
        ({"widths": ()}, r"widths: got \[\], expected at least 1 item"),
        ({"widths": (8, 0)}, r"widths\[1\]: got 0, expected at least 1"),
    ],
)
def test_a_bad_configuration_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GridConfig(**{"side": 64, "widths": (8, 8, 8)} | settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "lxmert"}, "model_type: got"),
        ({"bogus": -8}, "unknown key 'bogus'"),
        ({"side": None, "model_type": "x"}, "model_type: got .*; side: got null, expected an int"),
    ],
)
def test_a_bad_file_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        GridConfig.from_dict(CONFIG.to_dict() | change)
