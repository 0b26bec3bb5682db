import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurofb.training.order import (
    augmentation_seed,
    batch_indices,
    noise_seed,
    num_batches,
    sample_order,
)


@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 9),
    num_images=st.integers(1, 60),
    batch_size=st.integers(1, 70),
)
def test_an_epoch_sees_every_image_once(seed: int, epoch: int, num_images: int, batch_size: int):
    per_epoch = num_batches(num_images, batch_size)
    batches = [
        batch_indices(seed, step, num_images, batch_size)
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch)
    ]
    assert torch.equal(torch.cat(batches), sample_order(seed, epoch, num_images))
    assert torch.cat(batches).sort().values.tolist() == list(range(num_images))
    assert all(len(batch) == min(batch_size, num_images) for batch in batches[:-1])


def test_orders_differ_between_epochs_and_seeds():
    orders = [sample_order(seed, epoch, 100) for seed in range(4) for epoch in range(4)]
    agreement = torch.stack([(a == b).float().mean() for a in orders for b in orders if a is not b])
    assert agreement.max() < 0.08  # 1 in 100 places agrees by chance
    assert agreement.mean().item() == pytest.approx(0.01, abs=0.004)


def test_order_is_pinned():
    assert sample_order(3, 1, 8).tolist() == [7, 4, 3, 2, 0, 5, 6, 1]


def test_seeds_of_steps_and_purposes_are_all_different():
    seeds = [
        f(s, step) for f in (noise_seed, augmentation_seed) for s in (0, 1) for step in range(99)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**64 for seed in seeds)
    bits = torch.tensor([[seed >> bit & 1 for bit in range(64)] for seed in seeds]).float()
    assert (bits.mean(0) - 0.5).abs().max() < 0.15
