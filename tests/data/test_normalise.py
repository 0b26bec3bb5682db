import pytest
import torch

from neurofb.data import normalise


def test_none_changes_nothing() -> None:
    images = torch.rand(3, 1, 4, 4)
    assert normalise(images, how="none")[0] is images


def test_image_is_minus_own_mean_over_own_std_plus_an_offset() -> None:
    images = torch.rand(5, 2, 6, 6)
    (made,) = normalise(images, how="image")
    one = images[3]
    expected = (one - one.mean()) / (one.std(correction=0) + 0.02)
    torch.testing.assert_close(made[3], expected)
    (constant,) = normalise(torch.full((1, 1, 4, 4), 0.3), how="image")
    assert constant.abs().max() < 1e-5


def test_dataset_uses_train_numbers_per_channel_for_all() -> None:
    train, test = torch.rand(50, 2, 4, 4), torch.rand(20, 2, 4, 4) + 3
    made_train, made_test = normalise(train, test, how="dataset")
    torch.testing.assert_close(made_train.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(made_train.std((0, 2, 3), correction=0), torch.ones(2))
    scale = train.std((0, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(
        made_test, (test - train.mean((0, 2, 3), keepdim=True)) / scale, atol=1e-4, rtol=1e-4
    )


def test_whitening_gives_the_identity_and_turns_nothing() -> None:
    mix = torch.randn(16, 16)
    mix = mix @ mix.T / 16 + 0.3 * torch.eye(16)  # symmetric: ZCA must undo it without a rotation
    source = torch.randn(20_000, 16)
    train = (source @ mix + 2).reshape(-1, 1, 4, 4)
    whitened, same = normalise(train, train[:7], how="whiten", eps=1e-6)
    values = whitened.flatten(1)
    torch.testing.assert_close(values.T @ values / 20_000, torch.eye(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(same, whitened[:7])
    correlation = torch.corrcoef(torch.cat([values.T, source.T]))[:16, 16:].diagonal()
    assert correlation.min() > 0.98


def test_whitening_floor_holds_empty_directions_down() -> None:
    train = torch.randn(500, 1, 1, 1).expand(500, 1, 3, 3) + 1e-6 * torch.randn(500, 1, 3, 3)
    (whitened,) = normalise(train, how="whiten")
    eigenvalues = torch.linalg.eigvalsh(torch.cov(whitened.flatten(1).T))
    assert eigenvalues[-1] == pytest.approx(1, abs=0.02)
    assert eigenvalues[:-1].max() < 1e-6


@pytest.mark.parametrize(
    ("images", "how", "message"),
    [
        (torch.zeros(2, 1, 4, 4), "dataset", "normalise='dataset': a channel has the same value"),
        (torch.zeros(2, 1, 4, 4), "whiten", "normalise='whiten': all train images are the same"),
        (torch.zeros(1, 3, 64, 64), "whiten", "at most 8192 values, not 12288"),
    ],
)
def test_refuses(images: torch.Tensor, how: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalise(images, how=how)  # pyright: ignore[reportArgumentType]
