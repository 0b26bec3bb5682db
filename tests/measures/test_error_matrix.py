import pytest
import torch

from neurofb.measures import error_matrix


def test_views_by_hand():
    delta = torch.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    assert error_matrix(delta)[1].tolist() == delta[0, :, 0, 1].tolist()
    assert error_matrix(delta, "sample")[1].tolist() == list(range(12, 24))
    assert error_matrix(delta, "pooled")[1].tolist() == delta[1].sum((1, 2)).tolist()
    tokens = delta.flatten(2)
    assert error_matrix(tokens)[1].tolist() == tokens[0, 1].tolist()
    assert error_matrix(tokens, "pooled")[1].tolist() == tokens[1].sum(0).tolist()
    unchecked = getattr(error_matrix, "__wrapped__", error_matrix)
    with pytest.raises(ValueError, match="view='pixel' must be one of channel, sample, pooled"):
        unchecked(delta, "pixel")
    with pytest.raises(ValueError, match=r"delta of shape \(3,\) must have 2 dims"):
        unchecked(torch.ones(3))
