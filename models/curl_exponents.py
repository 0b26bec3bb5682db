"""Curl descent, rates: spectra near a solution, and Lyapunov exponents along the path.

Studies of docs/curl_descent.md::

    neurofb run models/curl_exponents.py::spectrum --out out/curl_spectra
    neurofb run models/curl_exponents.py::finite_size --out out/curl_size
    neurofb run models/curl_exponents.py::lyapunov --out out/curl_lyapunov

whose figures and tables `spectra`, `finite_size` and `lyapunov` of analyses/curl_descent.py make.
"""

import warnings

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.choices import check_same_length
from neurofb.dynamics import CurlTraining, Flips, StudentTeacher, curl_descent
from neurofb.dynamics.curl_tangent import CurlMap
from neurofb.measures.lyapunov import lyapunov_exponent
from neurofb.theory import critical_hidden_fraction, linearised_eigenvalues, spectral_density
from neurofb.theory import spectrum as limiting_spectrum


def spectrum(
    ratios: tuple[float, ...] = (0.3, 0.3, 0.2, 1.0, 0.1, 0.1, 1.0, 0.3),
    hidden: tuple[float, ...] = (0.3, 0.8, 1.0, 0.3, 0.0, 0.0, 0.0, 0.3),
    readout: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.1, 0.4, 0.05, 0.1),
    num_inputs: int = 300,
    num_seeds: int = 3,
) -> xr.Dataset:
    """Draw weights, and compare the eigenvalues of the linearised dynamics with their theory.

    Parameters
    ----------
    ratios, hidden, readout
        c = M / N and the fractions of flips, one triple a condition.
    num_inputs
        M; the theory is that of large networks.
    num_seeds
        Draws.
    """
    check_same_length(ratios=ratios, hidden=hidden, readout=readout)
    names = [
        ", ".join(
            f"{what} {value:g}"
            for what, value in (("c =", c), ("hidden", a), ("readout", b))
            if value or what == "c ="
        )
        for c, a, b in zip(ratios, hidden, readout, strict=True)
    ]
    values, density, density_at, edge = [], [], [], []
    for c, a, b in zip(ratios, hidden, readout, strict=True):
        problem = _linear(num_inputs, max(round(num_inputs / c), 1))
        first, second = Flips(hidden=float(a), readout=float(b)).signs(*problem.sizes)
        draws = (problem.teacher(seed) for seed in range(num_seeds))
        values.append(
            [
                linearised_eigenvalues(w.hidden, w.readout[0], first.columns, second.columns)
                for w in draws
            ]
        )
        ends = limiting_spectrum(c, a, b)
        low, high = float(ends.intervals.min()), float(ends.intervals.max())
        at = np.linspace(low - 0.03 * (high - low), high + 0.03 * (high - low), 400)
        density.append(spectral_density(at, c, a, b))
        density_at.append(at)
        edge.append(ends.largest)
    one = labels.variable
    return xr.Dataset(
        {
            "eigenvalues": one(
                ("flip", "seed", "eigenvalue"),
                np.sort(np.array(values))[..., ::-1],
                "1",
                "eigenvalue of the linearised dynamics, −X (positive: unstable)",
            ),
            "density": one(("flip", "vertex"), density, "1", "density of eigenvalues, theory"),
            "density_at": one(("flip", "vertex"), density_at, "1", "eigenvalue"),
            "edge": one("flip", edge, "1", "largest eigenvalue, theory"),
        },
        {
            "flip": labels.coordinate("flip", names),
            "seed": labels.coordinate("seed", np.arange(num_seeds)),
            "eigenvalue": labels.coordinate("eigenvalue", np.arange(num_inputs)),
        },
        labels.provenance(title="Spectra of curl descent", references="arXiv:2510.02765"),
    )


def finite_size(
    ratios: tuple[float, ...] = (0.28, 0.3, 0.35, 0.4, 0.5),
    totals: tuple[int, ...] = (110, 220, 440, 880),
    num_seeds: int = 10,
) -> xr.Dataset:
    """Find how many inputs can be flipped before a draw of weights is unstable, at growing size.

    More flips never make -X more stable, so that bisection finds the number.

    Parameters
    ----------
    ratios, totals
        c = M / N and M + N, each with each.
    num_seeds
        Draws.
    """
    check_same_length(ratios=ratios)
    boundary = np.empty((len(ratios), len(totals), num_seeds))
    realised = np.empty(boundary.shape[:2])
    for i, j in np.ndindex(*realised.shape):
        num_inputs = max(round(totals[j] * ratios[i] / (1 + ratios[i])), 1)
        problem = _linear(num_inputs, max(totals[j] - num_inputs, 1))
        realised[i, j] = num_inputs / problem.num_hidden
        for seed in range(num_seeds):
            boundary[i, j, seed] = _first_unstable(problem, seed) / num_inputs
    critical = critical_hidden_fraction(realised)
    one, dims = labels.variable, ("ratio", "total", "seed")
    return xr.Dataset(
        {
            "boundary": one(dims, boundary, "1", "smallest fraction of flips that is unstable"),
            "critical_fraction": one(dims[:2], critical, "1", "critical fraction, theory"),
        },
        {
            "ratio": labels.coordinate("ratio", list(ratios)),
            "total": labels.coordinate("total", list(totals)),
            "seed": labels.coordinate("seed", np.arange(num_seeds)),
        },
        labels.provenance(title="Stability and network size", references="arXiv:2510.02765"),
    )


def lyapunov(
    num_inputs: int = 20,
    num_hidden: tuple[int, ...] = (50, 50, 50, 20, 20),
    hidden: tuple[float, ...] = (0.0, 0.8, 0.0, 0.0, 0.5),
    readout: tuple[float, ...] = (0.0, 0.0, 1.0, 0.0, 0.0),
    num_seeds: int = 5,
    duration: float = 6000.0,
    burn_in: float = 2000.0,
    learning_rate: float = 0.1,
    device: str = "cpu",
) -> xr.Dataset:
    """Measure the largest Lyapunov exponent of small linear networks, and again at half the rate.

    Norms are kept, the covariance is ½ of the identity, starts are random.

    Parameters
    ----------
    num_inputs
        M.
    num_hidden, hidden, readout
        N and the fractions of flips, one triple a condition.
    num_seeds
        Draws of teacher and start.
    duration, burn_in
        In units of time, steps times rate; of the duration the first fifth is dropped.
    learning_rate
        Of full-batch descent; `_half` in the result is with half of it.
    device
        A torch device.
    """
    check_same_length(num_hidden=num_hidden, hidden=hidden, readout=readout)
    parts = []
    for size, a, b in zip(num_hidden, hidden, readout, strict=True):
        problem = _linear(num_inputs, size)
        flips = Flips(hidden=float(a), readout=float(b))
        part = xr.Dataset()
        for ending, rate in (("", learning_rate), ("_half", learning_rate / 2)):
            training = CurlTraining(
                learning_rate=rate,
                num_steps=round((burn_in + duration) / rate),
                num_records=600,
                stop_below=None,
            )
            step = CurlMap(problem, [flips], training, seeds=range(num_seeds), device=device)
            found = lyapunov_exponent(
                step,
                step.start,
                num_steps=round(duration / rate),
                burn_in=round(burn_in / rate),
                time_per_step=rate,
                tangent_step=step.tangent,
            ).rename(run="seed")
            for name in ("exponent", "standard_error"):
                part[f"{name}{ending}"] = found[name]
            if not ending:
                part["local_exponent"] = found["local_exponent"]
                with warnings.catch_warnings():  # step_size_number is in the result
                    warnings.filterwarnings("ignore", category=RuntimeWarning)
                    runs = curl_descent(
                        problem, [flips], training, seeds=range(num_seeds), device=device
                    )
                course = runs.isel(flip=0)
                late = course["train_loss"].where(course["step"] > training.num_steps / 2)
                text = "training loss in the second half, mean of its records"
                part["mean_loss"] = labels.variable("seed", late.mean("step").values, "1", text)
                for name in ("wandering", "eigenvalue_end", "step_size_number"):
                    part[name] = course[name].variable
        sizes = f"{num_inputs}-{size}-1, {flips.label(num_inputs, size, 1)}"
        parts.append(part.assign_coords(condition=sizes))
    found = xr.concat(parts, "condition").transpose("condition", "seed", ...)
    found = found.assign_coords(
        condition=labels.coordinate("condition", found["condition"].values),
        seed=labels.coordinate("seed", np.arange(num_seeds)),
    )
    found.attrs = labels.provenance(
        title="Largest Lyapunov exponents of curl descent", references="arXiv:2510.02765"
    )
    return found


def _first_unstable(problem: StudentTeacher, seed: int) -> int:
    """Return the smallest number of flipped inputs at which a solution is unstable, M + 1 if none.

    The first inputs are flipped, as in the simulations.
    """
    hidden, readout = problem.teacher(seed)
    ones = np.ones(problem.num_hidden)
    stable, unstable = 0, problem.num_inputs + 1
    while unstable - stable > 1:
        middle = (stable + unstable) // 2
        signs = np.where(np.arange(problem.num_inputs) < middle, -1.0, 1.0)
        if linearised_eigenvalues(hidden, readout[0], signs, ones)[0] > 0:
            unstable = middle
        else:
            stable = middle
    return unstable


def _linear(num_inputs: int, num_hidden: int) -> StudentTeacher:
    """Return the linear task with the population's covariance and the norms of the theory."""
    return StudentTeacher(
        num_inputs=num_inputs,
        num_hidden=num_hidden,
        distribution="normal",
        unit_norms=True,
        num_train=None,
        num_test=None,
    )
