"""Scales between axes: where one sweep's change says that they are going."""

import numpy as np
import pytest
import torch

from neurofb.tensors import GaussianPrior, RademacherPrior
from neurofb.tensors.gauge import change_of_scales, scale_response, settled_scales


def swept(scales, responses, sequential, damping):
    """A sweep over logarithms of scales (axis, component), written out."""
    new = scales.copy()
    for axis, response in enumerate(responses):
        seen = new if sequential else scales
        others = sum(seen[b] for b in range(len(scales)) if b != axis)
        new[axis] = (1 - damping) * response * others + damping * scales[axis]
    return new


@pytest.mark.parametrize("damping", [0.0, 0.4])
@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_one_sweep_tells_the_end_of_all(order, sequential, damping):
    """From anywhere: what is then left is common to all axes, which scales cannot mend."""
    generator = np.random.default_rng(order)
    responses = generator.uniform(-0.95, 0.1, (order, 2))
    start = 0.1 * generator.standard_normal((order, 2))
    after = swept(start, responses, sequential, damping)
    scales = settled_scales(after - start, responses, sequential=sequential, damping=damping)
    assert scales is not None
    np.testing.assert_allclose(scales.prod(0), 1)
    left = after + np.log(scales)
    np.testing.assert_allclose(left, np.broadcast_to(left.mean(0), left.shape), atol=1e-12)
    assert np.ptp(after, axis=0).min() > 1e-3  # there was something to do


def test_a_jump_is_bounded_and_none_without_a_fixed_point():
    far = settled_scales(np.array([[3.0], [-2.0]]), np.full((2, 1), -0.9))
    assert far is not None
    assert np.abs(np.log(far)).max() == pytest.approx(1.0)
    assert settled_scales(np.full((2, 1), 0.1), np.ones((2, 1))) is None
    assert settled_scales(np.full((2, 1), np.nan), np.full((2, 1), -0.9)) is None


def test_response_of_a_posterior_mean_to_the_scale_of_the_others():
    """Field and precision grow with the scale and its square: -A s² / (1 + A s²) + … by hand."""
    precision, field = 3.0, torch.linspace(-1, 2, 7)[:, None]

    def norm(prior, scale):
        mean = prior.denoise(torch.tensor([[precision * scale**2]]), field * scale)[0]
        return float(mean.double().norm())

    for prior in (GaussianPrior(0.4, 0.7), RademacherPrior(0.7)):
        expected = np.log(norm(prior, 1.02) / norm(prior, 1 / 1.02)) / (2 * np.log(1.02))
        found = scale_response(prior, torch.tensor([[precision]]).double(), field)
        np.testing.assert_allclose(found, [expected], rtol=2e-3)


def test_a_change_of_direction_is_no_change_of_scale():
    generator = torch.Generator().manual_seed(0)
    old = [torch.randn(n, 1, generator=generator, dtype=torch.float64) for n in (30, 20)]
    noise = [torch.randn(f.shape, generator=generator, dtype=torch.float64) for f in old]
    little, much = (
        [1.1 * f + share * e for f, e in zip(old, noise, strict=True)] for share in (0.01, 0.1)
    )
    found = change_of_scales(old, little)
    assert found is not None
    np.testing.assert_allclose(found, np.log(1.1), atol=0.01)
    assert change_of_scales(old, much) is None
