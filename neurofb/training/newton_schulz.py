"""A matrix with its singular values set to one: exactly, or nearly by Newton-Schulz iterations."""

import torch
from jaxtyping import Float
from torch import Tensor

#: f(x) = a x + b x³ + c x⁵ (Jordan et al. 2024, "Muon: an optimizer for hidden layers")
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
#: a matrix of a smaller Frobenius norm is divided by this, so that zero stays zero
SMALLEST_NORM = 1e-7
#: iterations on the Gram matrix alone before it is formed anew (rounding grows 12-fold in each)
_GRAM_ITERATIONS = 3


@torch.no_grad()
def newton_schulz(
    g: Float[Tensor, "*batch row column"],
    *,
    num_iterations: int = 5,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*batch row column"]:
    """Push the singular values of a matrix towards one, without a singular value decomposition.

    G is divided by its Frobenius norm; then X ← a X + (b A + c A²) X with A = X Xᵀ, which acts on
    each singular value by f(x) = a x + b x³ + c x⁵ and leaves the singular vectors as they are.
    Five iterations bring values in [0.01, 1] ‖G‖ into [0.68, 1.14]; smaller ones are lifted to
    less (0.001 ‖G‖ to 0.47), or at most 1.21. Directions that G lacks are never made.

    Parameters
    ----------
    g
        Matrices; the smaller side is multiplied out, so wide and tall ones cost the same.
    num_iterations
        How often f acts, at least 1.
    dtype
        Of the arithmetic. Half precision multiplies faster where the hardware does, at an error of
        about 2 % of the largest entry.

    Returns
    -------
    Tensor
        Of the dtype of `g`. A zero matrix gives zero.

    Raises
    ------
    ValueError
        If `g` has fewer than two dims, `num_iterations` is below 1 or `dtype` is no floating-point
        type.

    References
    ----------
    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Björck & Bowie 1971,
    doi:10.1137/0708036 (the iteration with other coefficients).

    Examples
    --------
    >>> g = torch.diag(torch.tensor([1.0, 0.1]))
    >>> newton_schulz(g).diagonal()
    tensor([0.7020, 0.7087])
    """
    if g.dim() < 2:
        raise ValueError(f"g of shape {tuple(g.shape)} must have rows and columns")
    if num_iterations < 1:
        raise ValueError(f"num_iterations={num_iterations} must be at least 1")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype={dtype} must be a floating-point type")
    x = g.to(dtype).reshape(-1, *g.shape[-2:]) if g.dim() > 3 else g.to(dtype)
    rows, columns = g.shape[-2:]
    if rows > columns:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=SMALLEST_NORM)
    if max(rows, columns) >= 2 * min(rows, columns) and dtype.itemsize >= 4:
        x = _iterate_gram(x, num_iterations)
    else:
        x = _iterate(x, num_iterations)
    if rows > columns:
        x = x.mT
    return x.reshape(g.shape).to(g.dtype)


@torch.no_grad()
def polar_factor(g: Float[Tensor, "*batch row column"]) -> Float[Tensor, "*batch row column"]:
    """Set the singular values of a matrix to one: U Vᵀ of its thin decomposition G = U S Vᵀ.

    It is the matrix of spectral norm one with the largest inner product with G, which is the
    nuclear norm of G. Singular values below ``max(row, column)`` · eps · the largest are rounding
    and stay zero, so a matrix of rank k gives one of rank k, and zero gives zero.

    Parameters
    ----------
    g
        Matrices; those with an entry that is not finite give NaN.

    Examples
    --------
    >>> polar_factor(torch.tensor([[0.0, 3.0], [-2.0, 0.0]]))
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    u, s, v = decompose(g)
    return ((u * above_rounding(s, g)) @ v).to(g.dtype)


def decompose(
    g: Float[Tensor, "*batch row column"],
) -> tuple[
    Float[Tensor, "*batch row least"],
    Float[Tensor, "*batch least"],
    Float[Tensor, "*batch least column"],
]:
    """Return the thin U, S, Vᵀ in at least single precision; NaN where `g` is not finite.

    Examples
    --------
    >>> decompose(torch.tensor([[0.0, 3.0], [-2.0, 0.0]]))[1]
    tensor([3., 2.])
    """
    g = g if g.dtype == torch.float64 else g.float()
    finite = g.isfinite().all(-1).all(-1)[..., None, None]
    g = g.where(finite, 0.0)
    try:
        u, s, v = torch.linalg.svd(g, full_matrices=False)
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        # In single precision LAPACK gives up on some large matrices that are almost orthonormal.
        u, s, v = (part.to(g) for part in torch.linalg.svd(g.double(), full_matrices=False))
    return u, s.where(finite[..., 0], torch.nan), v


def above_rounding(
    s: Float[Tensor, "*batch least"], g: Float[Tensor, "*batch row column"]
) -> Float[Tensor, "*batch #one least"]:
    """Return 1 for singular values above rounding, 0 for the others, NaN for NaN.

    Examples
    --------
    >>> above_rounding(torch.tensor([1.0, 1e-9]), torch.ones(2, 2))
    tensor([[1., 0.]])
    """
    smallest = s[..., :1] * max(g.shape[-2:]) * torch.finfo(s.dtype).eps
    return ((s > smallest).to(s.dtype) + 0 * s)[..., None, :]


def _iterate(x: Tensor, num_iterations: int) -> Tensor:
    """Iterate on a matrix with at most as many rows as columns."""
    a, b, c = COEFFICIENTS
    add_product = torch.addmm if x.dim() == 2 else torch.baddbmm
    gram = x.new_empty(*x.shape[:-1], x.shape[-2])
    polynomial, spare = torch.empty_like(gram), torch.empty_like(x)
    for _ in range(num_iterations):
        torch.matmul(x, x.mT, out=gram)
        add_product(gram, gram, gram, beta=b, alpha=c, out=polynomial)
        add_product(x, polynomial, x, beta=a, out=spare)
        x, spare = spare, x
    return x


def _iterate_gram(x: Tensor, num_iterations: int) -> Tensor:
    """Do the same with small products only, for a matrix much wider than high.

    With q = a + b A + c A² an iteration is X ← q X, so A ← q A q, and the q's are gathered before
    the wide matrix is touched again.
    """
    a, b, c = COEFFICIENTS
    add_product = torch.addmm if x.dim() == 2 else torch.baddbmm
    for start in range(0, num_iterations, _GRAM_ITERATIONS):
        num = min(_GRAM_ITERATIONS, num_iterations - start)
        gram = x @ x.mT
        gathered = None
        for i in range(num):
            q = add_product(gram, gram, gram, beta=b, alpha=c)
            q.diagonal(dim1=-2, dim2=-1).add_(a)
            gathered = q if gathered is None else q @ gathered
            if i < num - 1:
                gram = gram @ q @ q
        assert gathered is not None
        x = gathered @ x
    return x
