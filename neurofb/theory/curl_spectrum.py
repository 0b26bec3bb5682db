"""Curl descent: the density of relaxation rates of a large linear network, by free probability.

For independent weights and M, N → ∞ at c = M / N the eigenvalues of -X (see
`neurofb.theory.curl_stability`) have the density -Im G(x) / π, where G solves

    G = E[1 / (z₁ + s d1)],   z₁ = x - R(G),   R(w) = -(s1/c) E[d2 / (1 + d2 s1 w)],

with expectations over the entries of D1 and D2: the sum of two free matrices, one of them of
Marchenko and Pastur's kind. Multiplied out it is a polynomial in z₁ of degree five at the most;
Silverstein and Bai (1995, doi:10.1006/jmva.1995.1051) show that just one solution has Im G < 0.
(Our derivation; the matrix is that of the authors' code.)
"""

from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.polynomial import Polynomial

from neurofb.theory.arguments import positive, within_one

#: roots whose imaginary part is a smaller share than this of their size are real
_REAL = 1e-7


class Spectrum(NamedTuple):
    """Where the eigenvalues of -X lie in the limit of large networks.

    Attributes
    ----------
    intervals
        Ends of the intervals of the continuous part, (interval, 2), lowest first.
    atoms, atom_shares
        Eigenvalues that a finite share of all have, and these shares.
    """

    intervals: Float[np.ndarray, "interval 2"]
    atoms: Float[np.ndarray, " atom"]
    atom_shares: Float[np.ndarray, " atom"]

    @property
    def largest(self) -> float:
        """The largest eigenvalue, as by `neurofb.theory.largest_eigenvalue`."""
        return float(max([*self.intervals.ravel(), *self.atoms]))


def spectral_density(
    eigenvalues: Float[np.ndarray, " eigenvalue"],
    ratio: float | int,
    hidden_flips: float | int = 0.0,
    readout_flips: float | int = 0.0,
    *,
    hidden_variance: float | int = 1.0,
    readout_norm: float | int = 1.0,
    strength: float | int = 1.0,
) -> Float[np.ndarray, " eigenvalue"]:
    """Return the density of the eigenvalues of -X for large networks.

    Parameters
    ----------
    eigenvalues
        Where the density is wanted, per unit of input variance; positive ones are unstable.
    ratio, hidden_flips, readout_flips, hidden_variance, readout_norm, strength
        As in `neurofb.theory.largest_eigenvalue`.

    Returns
    -------
    ndarray
        Share of the M eigenvalues per unit. It integrates to 1 less the shares of the atoms (see
        `spectrum`).

    Raises
    ------
    ValueError
        If a fraction or the strength is outside [0, 1], another argument not positive, or an
        eigenvalue not finite.

    Examples
    --------
    >>> spectral_density(np.array([-2.0, 0.0, 1.0]), ratio=0.5, hidden_flips=0.3).round(3)
    array([0.25 , 0.202, 0.   ])
    """
    problem = _problem(ratio, hidden_flips, readout_flips, hidden_variance, readout_norm, strength)
    if not np.isfinite(eigenvalues).all():
        raise ValueError("eigenvalues must hold finite numbers")
    x = eigenvalues / readout_norm
    # one companion matrix for each x: roots of numerator(b) - x denominator(b)
    numerator, denominator = problem.numerator, problem.denominator
    degree = numerator.degree()
    below = np.zeros(degree + 1)
    below[: len(denominator.coef)] = denominator.coef
    above: Any = numerator.coef
    coefficients = (above - x[:, None] * below)[:, :-1] / above[-1]
    companion = np.zeros((len(x), degree, degree))
    companion[:, np.arange(1, degree), np.arange(degree - 1)] = 1.0
    companion[:, :, -1] = -coefficients
    roots = np.linalg.eigvals(companion)
    with np.errstate(divide="ignore", invalid="ignore"):
        transform = np.imag(problem.transform(roots))
    lowest = np.nan_to_num(transform, nan=0.0, posinf=0.0, neginf=0.0).min(-1)
    lowest = np.where(lowest < -_REAL, lowest, 0.0)
    return -lowest / np.pi / readout_norm + 0.0


def spectrum(
    ratio: float | int,
    hidden_flips: float | int = 0.0,
    readout_flips: float | int = 0.0,
    *,
    hidden_variance: float | int = 1.0,
    readout_norm: float | int = 1.0,
    strength: float | int = 1.0,
) -> Spectrum:
    """Return the intervals and atoms of the spectrum of -X for large networks.

    The ends of the intervals are values of x(z₁) at which its slope is 0. An atom is at -s d1 where
    more inputs have this d1 than the hidden neurons that learn can reach.

    Parameters
    ----------
    ratio, hidden_flips, readout_flips, hidden_variance, readout_norm, strength
        As in `neurofb.theory.largest_eigenvalue`.

    Raises
    ------
    ValueError
        As `spectral_density`.

    Examples
    --------
    >>> spectrum(0.5, hidden_flips=0.3).intervals.round(3)
    array([[-6.47 , -1.431],
           [-1.428,  0.42 ]])
    >>> spectrum(10, hidden_flips=0.3)[1:]  # N neurons cannot hold more inputs than N
    (array([-1.,  1.]), array([0.6, 0.2]))
    """
    settings = ratio, hidden_flips, readout_flips
    scales = {"hidden_variance": hidden_variance, "readout_norm": readout_norm}
    problem = _problem(*settings, hidden_variance, readout_norm, strength)
    numerator, denominator = problem.numerator, problem.denominator
    slope = numerator.deriv() * denominator - numerator * denominator.deriv()
    roots = slope.roots()
    roots = roots[np.abs(roots.imag) <= 1e-5 * np.maximum(np.abs(roots), 1.0)].real
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = numerator(roots) / denominator(roots)
    ends = np.unique(ends[np.isfinite(ends)].round(12)) * readout_norm
    middles = (ends[1:] + ends[:-1]) / 2
    dense = spectral_density(middles, *settings, **scales, strength=strength) > 0
    starts = dense & ~np.append(False, dense[:-1])
    stops = dense & ~np.append(dense[1:], False)
    shares = problem.hidden_shares - problem.readout_shares.sum() / ratio
    held = shares > 0
    atoms = -readout_norm * problem.hidden_values[held] + 0.0
    order = np.argsort(atoms)
    return Spectrum(
        np.stack([ends[:-1][starts], ends[1:][stops]], axis=-1), atoms[order], shares[held][order]
    )


class _Problem(NamedTuple):
    """x(z₁) as a ratio of polynomials, in units of s; and the entries of D1 and of D2 but 0."""

    numerator: Polynomial
    denominator: Polynomial
    hidden_values: np.ndarray
    hidden_shares: np.ndarray
    readout_shares: np.ndarray

    def transform(self, z: np.ndarray) -> np.ndarray:
        """Return the Stieltjes transform of -D1."""
        return (self.hidden_shares / (z[..., None] + self.hidden_values)).sum(-1)


def _problem(
    ratio: float | int,
    hidden_flips: float | int,
    readout_flips: float | int,
    hidden_variance: float | int,
    readout_norm: float | int,
    strength: float | int,
) -> _Problem:
    """Check the arguments and multiply the equation out."""
    within_one(hidden_flips=hidden_flips, readout_flips=readout_flips, strength=strength)
    positive(ratio=ratio, hidden_variance=hidden_variance, readout_norm=readout_norm)
    r, flipped = hidden_variance / readout_norm, 1.0 - 2.0 * strength
    d1, p1 = _entries(hidden_flips, flipped)
    d2, p2 = _entries(readout_flips, flipped)
    d2, p2 = d2[d2 != 0], p2[d2 != 0]
    factors = [Polynomial([d, 1.0]) for d in d1]
    below = _product(factors)
    above = sum((p * _product(factors, skip=i) for i, p in enumerate(p1)), Polynomial([0.0]))
    # 1 + d2 q = (below + d2 r above) / below
    gains = [below + d * r * above for d in d2]
    denominator = _product(gains)
    terms = (p * d * _product(gains, skip=i) for i, (d, p) in enumerate(zip(d2, p2, strict=True)))
    pulled = below * sum(terms, Polynomial([0.0]))
    numerator = Polynomial([0.0, 1.0]) * denominator - r / ratio * pulled
    return _Problem(numerator, denominator, d1, p1, p2)


def _entries(fraction: float | int, flipped: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the different entries of D and their shares."""
    if flipped == 1 or fraction == 0:
        return np.array([1.0]), np.array([1.0])
    if fraction == 1:
        return np.array([flipped]), np.array([1.0])
    return np.array([1.0, flipped]), np.array([1.0 - fraction, float(fraction)])


def _product(factors: list[Polynomial], skip: int | None = None) -> Polynomial:
    """Multiply polynomials, all but one."""
    kept = (factor for i, factor in enumerate(factors) if i != skip)
    return reduce(lambda a, b: a * b, kept, Polynomial([1.0]))
