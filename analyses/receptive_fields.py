"""Receptive fields of a study: medians with their nulls, the four statements, all figures."""

import re

import xarray as xr
from matplotlib.figure import Figure

from neurofb import labels, plot
from neurofb.gather import layer_dataset
from neurofb.measures import (
    contrast,
    population_medians,
    rank_trend,
    shape_measures,
    spectrum_matched_noise,
)
from neurofb.measures.population import HEADLINE

SYMMETRY, ORIENTATION = "rotational_symmetry", "orientation_selectivity"


def analyse(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return medians per condition and seed with the statements' verdicts, and the figures."""
    dataset = layer_dataset(study, "retina_2")
    medians = population_medians(dataset)
    claims = statements(medians)
    if "retina_1" in study.children:
        claims = xr.concat([claims, *_first_layer(study)], "statement", combine_attrs="override")
    print(table(medians), claims_table(claims), sep="\n\n")
    figures = {
        "figure5": plot.figure5(dataset),
        "montage": plot.receptive_field_montage(dataset),
        "distributions": plot.measure_distributions(dataset),
        "rank": plot.symmetry_against_rank(dataset),
        "learning": plot.learning_curves(dataset),
    }
    result = xr.merge([medians, claims], combine_attrs="drop_conflicts")
    result.attrs = dict(study.attrs)
    return result, figures


def per_run(run: xr.DataTree, num_draws: int = 20) -> xr.Dataset:
    """Return one run's medians over the units that count, with both nulls: a cell of a scan.

    Parameters
    ----------
    run
        What `neurofb.run.run` returns.
    num_draws
        How often the noise is drawn.

    Returns
    -------
    xr.Dataset
        Over ``layer``, as the run maps them: the measures of `population_medians`; with the ending
        ``_untrained`` those of the network before training (all units); ``_noise``, ``_noise_low``
        and ``_noise_high`` the median, 5 % and 95 % over draws of the same median of the same
        units, phases of their fields drawn at random (amplitude spectra kept); ``num_counted``,
        ``num_units``. And ``test_accuracy``.

    Raises
    ------
    ValueError
        If the run has mapped no receptive fields.
    """
    if "receptive_field" not in run.children:
        raise ValueError("the run has no receptive fields; measurement.layers must name a layer")
    first_draw, rows = num_draws * int(run.attrs["seed"]), {}
    for layer, node in run.children["receptive_field"].children.items():
        table = node.to_dataset(inherit=False)
        before = node.children["untrained"].to_dataset(inherit=False)
        table = table.assign({f"{name}_untrained": before[name] for name in HEADLINE})
        drawn = []
        for draw in range(first_draw, first_draw + num_draws):
            noise = shape_measures(spectrum_matched_noise(table, draw), fits=False, bars=False)
            counts = {name: table[name] for name in ("status", "moved", "alive")}
            drawn.append(population_medians(noise.assign(counts))[list(HEADLINE)])
        medians, null = population_medians(table), xr.concat(drawn, "draw")
        for name in HEADLINE:
            medians[f"{name}_untrained"].attrs["long_name"] += ", before training"
            about = f"{medians[name].attrs['long_name']}, noise with the fields' spectrum"
            for ending, share in (("", 0.5), ("_low", 0.05), ("_high", 0.95)):
                level = null[name].quantile(share, "draw", skipna=False).drop_vars("quantile")
                level.attrs = {"units": "1", "long_name": f"{about} ({share:.0%} of draws)"}
                medians[f"{name}_noise{ending}"] = level
        rows[layer] = medians
    names = labels.coordinate("layer", list(rows))
    cell = xr.concat(rows.values(), names, combine_attrs="override")
    return cell.assign(test_accuracy=run["test_accuracy"].variable).drop_attrs(deep=False)


def statements(medians: xr.Dataset) -> xr.Dataset:
    """Return a verdict for each statement that the study's conditions allow."""
    symmetry, orientation = medians[SYMMETRY], medians[ORIENTATION]
    have = set(medians["condition"].values)
    found = []
    if {"BP wide", "BP narrow"} <= have:
        found.append(
            contrast(
                symmetry.sel(condition="BP narrow"),
                symmetry.sel(condition="BP wide"),
                "narrow BP is more symmetric than wide BP",
            )
        )
    if "BP wide" in have:
        wide = medians.sel(condition="BP wide")
        null = wide[f"{ORIENTATION}_untrained"]
        found.append(
            contrast(
                orientation.sel(condition="BP wide"), null, "wide BP is oriented above its null"
            )
        )
        share = wide["num_counted"] / wide["num_units"]
        found.append(
            contrast(share, 0 * share + 0.5, "most units of wide BP count (moved and alive)")
        )
    for family in dict.fromkeys(_family(name) for name in medians["condition"].values):
        if family is None or "BP wide" not in have:
            continue
        rows = [n for n in medians["condition"].values if n == "BP wide" or _family(n) == family]
        chosen = medians.sel(condition=rows)
        found.append(
            rank_trend(
                chosen[SYMMETRY],
                chosen["feedback_rank"],
                f"symmetry rises as the LDFA rank falls{family}",
            )
        )
    for name in [n for n in medians["condition"].values if n.startswith("dLDFA")]:
        if "BP narrow" in have:
            found.append(
                contrast(
                    symmetry.sel(condition="BP narrow"),
                    symmetry.sel(condition=name),
                    f"{name} is less symmetric than narrow BP",
                )
            )
    if not found:
        raise ValueError(
            f"the study's conditions {sorted(have)} allow none of the statements, which compare "
            "'BP wide', 'BP narrow', 'LDFA r=…' and 'dLDFA …'"
        )
    texts = [claim.attrs.pop("statement") for claim in found]
    claims = xr.concat(found, "statement", combine_attrs="drop_conflicts")
    return claims.assign_coords(statement=labels.variable("statement", texts, "1", "statement"))


def _first_layer(study: xr.DataTree) -> list[xr.Dataset]:
    """Return a verdict on the retina's first layer for each direct condition."""
    medians = population_medians(layer_dataset(study, "retina_1"))[ORIENTATION]
    names = [str(n) for n in medians["condition"].values]
    return [
        contrast(
            medians.sel(condition=name),
            medians.sel(condition="BP narrow"),
            f"{name} is more oriented than narrow BP in retina_1",
        ).assign_coords(statement=f"{name} is more oriented than narrow BP in retina_1")
        for name in names
        if name.startswith("dLDFA") and "BP narrow" in names
    ]


def table(medians: xr.Dataset) -> str:
    """Return the medians over units, then over seeds, as text."""
    columns = [SYMMETRY, ORIENTATION, "rotation_correlation_min", "dc_ratio", "num_counted"]
    return medians[columns].median("seed").to_dataframe()[columns].round(2).to_string()


def claims_table(claims: xr.Dataset) -> str:
    """Return one line a statement: holds or not, seeds that agree, every seed's difference."""
    lines = []
    for index in range(claims.sizes["statement"]):
        claim = claims.isel(statement=index)
        word = "holds" if bool(claim.holds) else "does not hold"
        seeds = ", ".join(f"{value:+.2f}" for value in claim.difference.values)
        agree = f"{int(claim.num_agreeing)} of {int(claim.num_seeds)} seeds"
        lines.append(f"{claim.statement.values!s}: {word} ({agree}; {seeds})")
    return "\n".join(lines)


def _family(condition: str) -> str | None:
    """Return what follows the rank in an LDFA condition's name: placement and learning."""
    match = re.fullmatch(r"LDFA r=\d+(.*)", condition)
    return match.group(1) if match else None
