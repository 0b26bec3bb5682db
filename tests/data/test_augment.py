import itertools

import pytest
import torch

from neurofb.data import Augmentation, augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_all_eight_orientations_occur_and_no_other() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    allowed = {
        tuple(image.rot90(k, (-2, -1)).flip(-1 if mirrored else ()).flatten().tolist())
        for k, mirrored in itertools.product(range(4), (False, True))
    }
    assert len(allowed) == 8
    random = generator()
    seen = {tuple(augment(image, generator=random, shift=0).flatten().tolist()) for _ in range(100)}
    assert seen == allowed


@pytest.mark.parametrize("fill", ["edge", "zero"])
def test_all_shifts_occur_and_the_border_is_filled(fill: str) -> None:
    image = torch.rand(2, 3, 6, 6) + 1
    random = generator()
    seen = set()
    for _ in range(300):
        made = augment(image, generator=random, rotate=False, flip=False, shift=2, fill=fill)
        for dy, dx in itertools.product(range(-2, 3), range(-2, 3)):
            inside = image[..., 2 + dy : 4 + dy, 2 + dx : 4 + dx]
            if torch.equal(made[..., 2:4, 2:4], inside):
                seen.add((dy, dx))
                if fill == "zero":
                    assert (made == 0).sum() == 6 * (36 - (6 - abs(dy)) * (6 - abs(dx)))
                elif dx == 2:
                    assert torch.equal(made[..., -1], made[..., -2])
                    assert torch.equal(made[..., -2], made[..., -3])
    assert len(seen) == 25


def test_nothing_asked_nothing_done_and_input_is_kept() -> None:
    image = torch.rand(2, 3, 4, 5)
    made = augment(image, generator=generator(), rotate=False, flip=False, shift=0)
    assert torch.equal(made, image)
    square = torch.rand(2, 1, 4, 4)
    before = square.clone()
    augment(square, generator=generator(), shift=1)
    assert torch.equal(square, before)


def test_only_the_generator_decides() -> None:
    image = torch.rand(1, 1, 8, 8)
    torch.manual_seed(1)
    first = augment(image, generator=generator(3))
    torch.manual_seed(2)
    assert torch.equal(first, augment(image, generator=generator(3)))
    one, two = generator(), generator()
    augment(image, generator=one)
    augment(image, generator=two, rotate=False, flip=False, shift=0)
    assert torch.equal(one.get_state(), two.get_state())


def test_images_and_channels_move_together_and_keep_their_places() -> None:
    picture = torch.rand(1, 1, 8, 8)
    steps = torch.arange(6.0).reshape(2, 3, 1, 1)
    random = generator(1)
    for _ in range(5):
        made = augment(picture + steps, generator=random)
        torch.testing.assert_close(made - steps, (made[:1, :1]).expand(2, 3, 8, 8))


@pytest.mark.usefixtures("unchecked")
def test_refuses() -> None:
    with pytest.raises(ValueError, match="rotate=True needs square images, not 4 × 5"):
        augment(torch.zeros(1, 1, 4, 5), generator=generator())
    with pytest.raises(ValueError, match="shift=4 must be from 0 to 3"):
        augment(torch.zeros(1, 1, 4, 4), generator=generator(), shift=4)
    with pytest.raises(ValueError, match="shift=-1 must be at least 0"):
        Augmentation(shift=-1)
    with pytest.raises(ValueError, match="fill='x' must be 'edge' or 'zero'"):
        Augmentation(fill="x")  # pyright: ignore[reportArgumentType]
