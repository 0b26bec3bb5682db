"""Shape of receptive fields in one table: symmetry, orientation, fits, surround, learnt or not."""

import numpy as np
import torch
import xarray as xr

from neurofb import labels
from neurofb.measures.bars import bar_orientedness
from neurofb.measures.fits import fit_dog, fit_gabor
from neurofb.measures.orientation import linear_grating_response, orientation_tuning
from neurofb.measures.receptive_field import DEAD_BELOW
from neurofb.measures.symmetry import (
    NUM_HARMONICS,
    energy_disc,
    rotation_correlation,
    rotational_symmetry,
)

#: A disc with less of its area on the map is cut by the border (a field that fills the map: 0.79).
LEAST_COVERAGE = 0.7
#: A unit has moved if its cosine to the start is below, and its smoothness above.
MOVED_COSINE = 0.7
MOVED_SMOOTHNESS = 0.5

_VARIABLES = {
    "rotational_symmetry": ("1", "share of power in the angular harmonic m = 0"),
    "rotation_correlation": ("1", "mean correlation with own rotations by 15 to 165 degrees"),
    "rotation_correlation_min": ("1", "least correlation with own rotations"),
    "energy_radius": ("pixel", "radius that holds 95 % of the energy"),
    "disc_coverage": ("1", "share of the energy disc that lies on the map"),
    "orientation_selectivity": ("1", "gOSI, 1 - circular variance over gratings"),
    "osi": ("1", "orientation selectivity index (preferred against orthogonal)"),
    "preferred_orientation": ("degree", "orientation of the best grating's stripes"),
    "preferred_frequency": ("cycle / pixel", "spatial frequency of the best grating"),
    "surround_ratio": ("1", "volume of the opposite sign over that of the peak's sign"),
    "dc_ratio": ("1", "response to uniform light over that to the best grating"),
    "smoothness": ("1", "autocorrelation of neighbouring pixels"),
    "bar_ratio": ("1", "bar bank, preferred over orthogonal (Lindsey et al. 2019)"),
    "bar_std": ("1", "bar bank, standard deviation over angles (Lindsey et al. 2019)"),
    "dog_r2": ("1", "R² of the difference-of-Gaussians fit"),
    "gabor_r2": ("1", "R² of the Gabor fit"),
    "delta_aic": ("1", "AIC of the difference of Gaussians minus AIC of the Gabor function"),
}
_BARS = ("bar_ratio", "bar_std")
_FITS = ("dog_r2", "gabor_r2", "delta_aic")


def shape_measures(
    rf: xr.Dataset | np.ndarray | torch.Tensor,
    *,
    reference: xr.Dataset | np.ndarray | torch.Tensor | None = None,
    fits: bool = True,
    bars: bool = True,
) -> xr.Dataset:
    """Measure the shape of every receptive field.

    Parameters
    ----------
    rf
        Dataset of `receptive_field`, or an array (unit, y, x) or (unit, channel, y, x). Of several
        input channels the leading spatial component (SVD over channels) is measured.
    reference
        The same units' fields before training: adds ``cosine_to_reference`` and ``moved`` (cosine
        below 0.7 and smoothness above 0.5).
    fits, bars
        Whether to fit DoG and Gabor functions, and to show the bar bank (the slower parts).

    Returns
    -------
    xr.Dataset
        One value per unit of each measure, ``angular_spectrum(unit, harmonic)`` and ``status``:
        dead (no weight above 1e-8; all NaN), unmoved, truncated (the support left the image, or
        less than 0.7 of the energy disc lies on the map), ok; the first that applies. Where
        ``energy_radius`` is below 2 pixels, symmetry and orientation mean little.

    Raises
    ------
    ValueError
        If the fields are not finite or have another number of dimensions, or the reference
        another shape.

    Examples
    --------
    >>> y, x = np.mgrid[-8:9, -8:9]
    >>> blob = np.exp(-(x**2 + y**2) / 8.0)
    >>> table = shape_measures(np.stack([blob, 0 * blob]), fits=False, bars=False)
    >>> table.rotational_symmetry.values.round(2), table.status.values.tolist()
    (array([ 1., nan]), ['ok', 'dead'])
    """
    fields, units, was_truncated = _unpack(rf, "rf")
    flat = _leading_component(fields)
    dead = np.abs(fields).max((1, 2, 3)) < DEAD_BELOW
    alive = np.flatnonzero(~dead)
    skipped = (() if bars else _BARS) + (() if fits else _FITS)
    table = {name: np.full(len(fields), np.nan) for name in _VARIABLES if name not in skipped}
    spectrum = np.full((len(fields), NUM_HARMONICS), np.nan)
    for unit in alive:
        disc = energy_disc(flat[unit])
        table["energy_radius"][unit] = disc.radius
        table["disc_coverage"][unit] = disc.coverage
        table["rotational_symmetry"][unit], spectrum[unit] = rotational_symmetry(flat[unit])
        turned = rotation_correlation(flat[unit])
        table["rotation_correlation"][unit] = turned.mean()
        table["rotation_correlation_min"][unit] = turned.min()
        table["surround_ratio"][unit] = _surround_ratio(flat[unit])
        table["smoothness"][unit] = _smoothness(flat[unit])
    tuning = orientation_tuning(linear_grating_response(flat[alive]))
    table["orientation_selectivity"][alive] = tuning.gosi
    table["osi"][alive] = tuning.osi
    table["preferred_orientation"][alive] = tuning.preferred_orientation
    table["preferred_frequency"][alive] = tuning.preferred_frequency
    table["dc_ratio"][alive] = np.abs(flat[alive].sum((1, 2))) / tuning.best_response
    if bars:
        table["bar_ratio"][alive], table["bar_std"][alive] = bar_orientedness(flat[alive])
    if fits:
        for unit in alive:
            dog, gabor = fit_dog(flat[unit]), fit_gabor(flat[unit])
            table["dog_r2"][unit], table["gabor_r2"][unit] = dog.r2, gabor.r2
            table["delta_aic"][unit] = dog.aic - gabor.aic
    truncated = was_truncated | (table["disc_coverage"] < LEAST_COVERAGE)
    result = xr.Dataset(
        {name: labels.variable("unit", table[name], *_VARIABLES[name]) for name in table},
        coords={
            "unit": labels.coordinate("unit", units),
            "harmonic": labels.coordinate("harmonic", np.arange(NUM_HARMONICS)),
        },
    )
    result["angular_spectrum"] = labels.variable(
        ("unit", "harmonic"), spectrum, "1", "share of power per angular harmonic"
    )
    status = np.where(truncated, "truncated", "ok")
    if reference is not None:
        cosine = _cosine(fields, _unpack(reference, "reference")[0], dead)
        # without a cosine the field was zero before training
        moved = ~(cosine >= MOVED_COSINE) & (table["smoothness"] > MOVED_SMOOTHNESS)
        result["cosine_to_reference"] = labels.variable(
            "unit", cosine, "1", "cosine to the field before training"
        )
        result["moved"] = labels.variable("unit", moved, "1", "field is learnt, not initial")
        status = np.where(moved, status, "unmoved")
    status = np.where(dead, "dead", status)
    result["status"] = labels.variable("unit", status, "1", "status of the unit")
    return result


def _unpack(
    rf: xr.Dataset | np.ndarray | torch.Tensor, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return fields (unit, channel, y, x), unit labels, and which were truncated."""
    units, truncated = None, None
    if isinstance(rf, xr.Dataset):
        if "receptive_field" not in rf:
            raise ValueError(f"{name} has no variable receptive_field; it has {list(rf)}")
        truncated = np.asarray(rf["status"].values == "truncated") if "status" in rf else None
        units = rf["unit"].values
        rf = rf["receptive_field"].transpose("unit", ..., "y", "x").values
    fields = rf.detach().cpu().numpy() if isinstance(rf, torch.Tensor) else np.asarray(rf)
    if fields.ndim not in (3, 4) or 0 in fields.shape:
        raise ValueError(
            f"{name} of shape {fields.shape} must be (unit, y, x) or (unit, channel, y, x)"
        )
    fields = fields.astype(float)
    if not np.isfinite(fields).all():
        raise ValueError(f"{name} has receptive fields that are not finite")
    fields = fields[:, None] if fields.ndim == 3 else fields
    units = np.arange(len(fields)) if units is None else units
    truncated = np.zeros(len(fields), bool) if truncated is None else truncated
    return fields, units, truncated


def _leading_component(fields: np.ndarray) -> np.ndarray:
    """Return the strongest spatial pattern over channels, its largest channel weight positive."""
    if fields.shape[1] == 1:
        return fields[:, 0]
    num_units, num_channels, height, width = fields.shape
    flat = fields.reshape(num_units, num_channels, height * width)
    channel, strength, space = np.linalg.svd(flat, full_matrices=False)
    first = channel[:, :, 0]
    sign = np.sign(np.take_along_axis(first, np.abs(first).argmax(1)[:, None], 1))
    return (sign * strength[:, :1] * space[:, 0]).reshape(num_units, height, width)


def _surround_ratio(field: np.ndarray) -> float:
    """Return the volume of the opposite sign over the volume of the peak's sign."""
    signed = field * np.sign(field.ravel()[np.abs(field).argmax()])
    return float(np.maximum(-signed, 0).sum() / np.maximum(signed, 0).sum())


def _smoothness(field: np.ndarray) -> float:
    """Return the correlation of neighbouring pixels, both axes pooled; NaN for a flat field."""
    centred = field - field.mean()
    ahead = np.concatenate([centred[1:].ravel(), centred[:, 1:].ravel()])
    behind = np.concatenate([centred[:-1].ravel(), centred[:, :-1].ravel()])
    norm = ((ahead**2).sum() + (behind**2).sum()) / 2
    return float((ahead * behind).sum() / norm) if norm > 0 else np.nan


def _cosine(fields: np.ndarray, reference: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """Return the cosine between the fields and their reference; NaN where one of them is zero."""
    if fields.shape != reference.shape:
        raise ValueError(f"reference of shape {reference.shape} must be that of rf, {fields.shape}")
    dot = (fields * reference).sum((1, 2, 3))
    norm = np.sqrt((fields**2).sum((1, 2, 3)) * (reference**2).sum((1, 2, 3)))
    missing = dead | (norm == 0)
    return np.where(missing, np.nan, dot / np.where(missing, 1.0, norm))
