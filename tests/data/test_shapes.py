import dataclasses

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from neurofb.data import DataSource, ShapesOnLeaves
from neurofb.data.figures import FIGURES
from neurofb.data.shapes import _coverage, _rotated_grid

SMALL = ShapesOnLeaves(num_train=500, num_validation=30, num_test=20, normalise="none")


def test_same_seed_same_bytes_other_seed_others() -> None:
    small = dataclasses.replace(SMALL, num_train=10)
    assert small.load().checksum == small.load().checksum
    assert small.load().checksum != dataclasses.replace(small, seed=2).load().checksum


def test_no_split_depends_on_the_size_of_another_nor_on_its_own() -> None:
    whole = dataclasses.replace(SMALL, num_train=260).load()
    part = dataclasses.replace(SMALL, num_train=255, num_validation=1, num_test=7).load()
    assert torch.equal(whole.train.images[:255], part.train.images)
    assert torch.equal(whole.train.labels[:255], part.train.labels)
    assert torch.equal(whole.test.images[:7], part.test.images)
    assert not torch.equal(whole.train.images[:7], whole.test.images[:7])
    assert not torch.equal(whole.validation.images[:7], whole.test.images[:7])


def test_shape_range_and_balance() -> None:
    splits = SMALL.load()
    assert splits.image_shape == (1, 24, 24)
    assert splits.num_classes == 10
    assert torch.bincount(splits.train.labels).tolist() == [50] * 10
    assert splits.train.images.min() >= 0
    assert splits.train.images.max() <= 1


def test_default_is_normalised_per_image() -> None:
    images = dataclasses.replace(SMALL, num_train=20, normalise="image").load().train.images
    assert images.mean((1, 2, 3)).abs().max() < 1e-5
    std = images.std((1, 2, 3), correction=0)
    assert ((std > 0.8) & (std < 1)).all()


def test_both_polarities_and_all_orientations() -> None:
    splits = dataclasses.replace(
        SMALL, jitter=0.0, num_leaves=0, texture=0.0, leaf_contrast=0.0
    ).load()
    images, labels = splits.train.images[:, 0], splits.train.labels
    centre = images[:, 12, 12] - images[:, 0, 0]
    disc = labels == splits.classes.index("disc")
    assert 0.3 < (centre[disc] > 0).float().mean() < 0.7
    assert centre[disc].abs().min() > 0.34
    bars = (images[labels == splits.classes.index("bar")] - 0.5).abs().numpy()
    y, x = np.mgrid[:24, :24] - 11.5
    angle = 0.5 * np.angle((bars * (x + 1j * y) ** 2).sum((1, 2)))
    counts, _ = np.histogram(angle, 4, (-np.pi / 2, np.pi / 2))
    assert counts.min() >= 5


def test_edges_are_antialiased_and_figures_lie_inside() -> None:
    size = 48
    centre, angle = np.full((2, 1), size / 2, np.float32), np.array([0.4], np.float32)
    u, v = _rotated_grid(size, centre, angle)
    radius = np.float32(16)
    for name, figure in FIGURES.items():
        coverage = _coverage(radius * figure(u / radius, v / radius))[0]
        assert coverage.max() == 1, name
        assert ((coverage > 0.1) & (coverage < 0.9)).any(), name
        assert coverage[np.hypot(u, v)[0] > 1.2 * radius].max() == 0, name
    disc = _coverage(radius * FIGURES["disc"](u / radius, v / radius))
    assert disc.sum() == pytest.approx(np.pi * (0.85 * 16) ** 2, rel=2e-3)


def test_ground_and_leaf_greys_fill_the_ranges_of_the_recipe() -> None:
    source = dataclasses.replace(SMALL, texture=0.0)
    rng = np.random.default_rng(0)
    ground = dataclasses.replace(source, num_leaves=0)._leaves(rng)
    assert np.ptp(ground, (1, 2)).max() == 0
    assert 0.34 <= ground.min() < 0.36
    assert 0.64 < ground.max() <= 0.66
    leaves = source._leaves(rng)
    assert 0.3 <= leaves.min() < 0.32
    assert 0.68 < leaves.max() <= 0.7


def test_photographs_as_background() -> None:
    source = dataclasses.replace(SMALL, num_train=20, background="photographs")
    splits = source.load()
    assert splits.name == "shapes on photographs"
    assert splits.checksum == source.load().checksum
    leaves = dataclasses.replace(source, background="leaves").load()
    assert splits.checksum != leaves.checksum


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_train": 0}, "num_train=0 must be at least 1"),
        ({"num_test": -1}, "num_test=-1 must be at least 0"),
        ({"seed": -1}, "seed=-1"),
        ({"image_size": 4}, "image_size=4 must be at least 8"),
        ({"image_size": 129, "background": "photographs"}, "image_size=129 must be at most 128"),
        ({"leaf_radius": (0.0, 3.0)}, r"leaf_radius=\(0.0, 3.0\) must be 0 < least <= greatest"),
        ({"figure_size": (0.5, 0.3)}, "figure_size"),
        ({"texture": float("nan")}, "texture=nan"),
        ({"texture": float("inf")}, "texture=inf"),
        ({"background": "sky"}, "background='sky' must be 'leaves' or 'photographs'"),
        ({"normalise": "zca"}, "normalise='zca' must be one of none, image, dataset, whiten"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapesOnLeaves(**setting)


def test_tag_chooses_the_source() -> None:
    adapter = TypeAdapter(DataSource)
    assert adapter.validate_json('{"source": "shapes", "seed": 3}') == ShapesOnLeaves(seed=3)
    with pytest.raises(ValueError, match="nope"):
        adapter.validate_python({"source": "shapes", "nope": 1})
    for source in adapter.json_schema()["discriminator"]["mapping"]:
        needed = {"cifar": {"path": "a"}, "npz": {"path": "a"}}
        needed |= {"idx": {"folder": "a"}, "folder": {"folder": "a"}}
        made = adapter.validate_python({"source": source, **needed.get(source, {})})
        assert adapter.validate_json(adapter.dump_json(made)) == made
