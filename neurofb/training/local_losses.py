"""Local terms of SVD-space alignment: each knows the factors of one layer only.

Every function returns the term and its gradient, written out: adding it to `.grad` builds no graph.
The equations are a reconstruction of Roy et al. 2025 (arXiv:2510.25594) and its predecessor, whose
texts were not available to us.
"""

import torch
from torch import Tensor

#: a term (0-d) and its gradient
Term = tuple[Tensor, Tensor]


@torch.no_grad()
def orthogonality_term(u: Tensor) -> Term:
    """Return ‖Uᵀ U − 1‖² and 4 U (Uᵀ U − 1).

    Parameters
    ----------
    u
        (n, r).

    Examples
    --------
    >>> orthogonality_term(2 * torch.eye(3))[0]  # 9 for every column
    tensor(27.)
    """
    excess = u.mT @ u
    excess.diagonal().sub_(1)
    return excess.square().sum(), 4 * u @ excess


@torch.no_grad()
def frobenius_term(x: Tensor, target: Tensor) -> Term:
    """Return ‖X − B‖² and 2 (X − B): alignment of a factor to one of the same shape.

    Parameters
    ----------
    x, target
        A factor of the weight and that of the feedback.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> frobenius_term(torch.ones(3), torch.zeros(3))[0]
    tensor(3.)
    """
    if x.shape != target.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}; it must be that of x, {tuple(x.shape)}"
        )
    apart = x - target
    return apart.square().sum(), 2 * apart


@torch.no_grad()
def subspace_term(u: Tensor, target: Tensor) -> Term:
    """Return min(r, r') − ‖Uᵀ B‖² and −2 B Bᵀ U: alignment of what two factors span.

    Of orthonormal factors it is 0 where one span holds the other, whatever the bases, and on
    average r − r r'/n for independent random ones. It has no lower bound if U may grow: use it with
    a retraction or the soft term.

    Parameters
    ----------
    u, target
        (n, r) and (n, r').

    Raises
    ------
    ValueError
        If the numbers of rows differ.

    Examples
    --------
    >>> subspace_term(torch.eye(3), torch.eye(3))[0]
    tensor(0.)
    """
    if u.shape[0] != target.shape[0]:
        raise ValueError(f"target has {target.shape[0]} rows; it must have those of u, {len(u)}")
    inner = target.mT @ u
    return min(u.shape[1], target.shape[1]) - inner.square().sum(), -2 * target @ inner


@torch.no_grad()
def hoyer_term(s: Tensor) -> Term:
    """Return ‖s‖₁ / ‖s‖₂ and its gradient: √r for equal values, 1 for a single one, 0 for none.

    The sparseness of Hoyer (2004), as Yang et al. 2020 (arXiv:2004.09031) lay it on singular
    values. Its gradient is orthogonal to s: it never changes the size of s, to first order.

    Parameters
    ----------
    s
        (r,).

    Examples
    --------
    >>> hoyer_term(torch.ones(4))[0], hoyer_term(torch.tensor([0.0, -3.0]))[0]
    (tensor(2.), tensor(1.))
    """
    size = s.norm()
    if not bool(size > 0):
        return torch.zeros_like(size), torch.zeros_like(s)
    ratio = s.abs().sum() / size
    return ratio, (s.sign() - ratio * s / size) / size


@torch.no_grad()
def cosine_term(a: Tensor, delta: Tensor) -> Term:
    """Return the mean over samples of 1 + cos(a, δ), and its gradient with respect to a.

    The target of a layer's output a is −δ, the direction in which the loss falls, held constant. (A
    term that drew a to the error itself would climb.) A sample without activity or without error
    adds 1 and no gradient.

    Parameters
    ----------
    a, delta
        Output of a layer and the error that reaches it, (sample, ...).

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> a = torch.tensor([[1.0, 0.0]])
    >>> cosine_term(a, -3 * a)[0], cosine_term(a, torch.zeros(1, 2))[1]
    (tensor(0.), tensor([[0., 0.]]))
    """
    if a.shape != delta.shape:
        raise ValueError(f"delta has shape {tuple(delta.shape)}; it must be {tuple(a.shape)}")
    rows, errors = a.flatten(1), delta.flatten(1)
    errors = torch.nn.functional.normalize(errors, eps=_TINY)
    size = rows.norm(dim=1, keepdim=True).clamp_min(_TINY)
    unit = rows / size
    cosine = (unit * errors).sum(1, keepdim=True)
    gradient = (errors - cosine * unit) / size
    gradient = torch.where(size > _TINY, gradient, 0.0) / len(rows)
    return 1 + cosine.mean(), gradient.reshape(a.shape)


#: below this a vector counts as zero
_TINY = 1e-20
