r"""Differential capacitance of electrodes, from fluctuations of their charge and from its slope.

.. math::
    C_\mathrm{cell} = \frac{C_\mathrm{empty}}{A} + \frac{\langle Q^2\rangle - \langle Q\rangle^2}
        {A\,k_B T}, \qquad C = C_\mathrm{cell} \frac{dU}{d\Psi} \quad\text{or}\quad
    C = \frac{d\sigma}{d\Psi}

The cell's voltage U and the potential :math:`\Psi` of one electrode against the bulk belong to each
other by a smooth curve, which turns the cell's capacitance into that of the electrode. Slopes are
those of the smooth curves that all points allow (`atomistic.observables.smooth`): their errors hold
what a curve may do between voltages and beyond the last one.

References
----------
Limmer, Merlet, Salanne, Chandler, Madden, van Roij, Rotenberg, Phys. Rev. Lett. 111, 106102
(2013), https://doi.org/10.1103/PhysRevLett.111.106102

Rubin, The Bayesian bootstrap, Ann. Statist. 9, 130 (1981), https://doi.org/10.1214/aos/1176345338
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from scipy import constants, stats
from torch_sim.models.interface import ModelInterface

from atomistic.electrostatics.electrodes import ConstantPotential
from atomistic.observables.fluctuations import Fluctuation, fluctuation
from atomistic.observables.interface import SURFACE, Line, Seen, by_voltage, voltage_of
from atomistic.observables.layers import Layers, electrodes_of
from atomistic.observables.smooth import UNLIKELY, Curves, allowed

HIGHEST = 6  # degree of a polynomial
PATIENCE = 4  # draws looked at for each that is wanted


@dataclass(frozen=True)
class _Points:
    """Block means at each voltage, in order of voltage: (block,)."""

    voltage: np.ndarray  # V
    charge: list[np.ndarray]  # e
    potential: list[np.ndarray]  # V, against the bulk
    spread: list[tuple[Fluctuation, Fluctuation]]  # of charge and potential
    empty: float  # e V-1
    area: float  # Å2


def capacitance(
    state: Layers,
    model: ModelInterface,
    *,
    electrode: str,
    temperature: float,
    method: Literal["slope", "fluctuation"] = "slope",
    alike: bool = False,
    bulk: tuple[float, float] | None = None,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Return the CAPACITANCE of one electrode against the bulk, at each voltage that was run.

    Parameters
    ----------
    state : Layers
        What watched the run.
    model : torch_sim ModelInterface
        What drove it, with two electrodes.
    electrode : str
        Which electrode.
    temperature : float
        Temperature (K).
    method : str
        "slope" of the charge, or "fluctuation".
    alike : bool
        Both electrodes are of one kind and stand alike: the other one tells of the opposite
        voltages.
    bulk : (float, float), optional
        Distances from the electrode (m) between which the potential is zero on average; the
        middle fifth between the electrodes if not given.
    draws : int
        Draws of the posterior, of how slowly charge and potential relax and of what they are; those
        with a charge that falls with the potential, which no stable cell has, are left out.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        A CAPACITANCE with draws. Beside it, at each potential, ``cell_voltage`` (V),
        ``cell_capacitance`` (F m-2) by the same method, with ``_std``, and ``potential_std`` (V).
        ``_std`` is half of what holds 68 % of the draws, which of fluctuations are skewed.

    Raises
    ------
    ValueError
        If too little was seen, there are fewer than two voltages or not two electrodes, or the
        sign of a capacitance is lost in its error.
    """
    if method not in ("slope", "fluctuation"):
        raise ValueError(f"capacitance: method is {method!r}; expected 'slope' or 'fluctuation'.")
    cell = electrodes_of(model)
    if len(cell.electrodes) != 2:
        raise ValueError(
            f"capacitance: there are {len(cell.electrodes)} electrodes; the capacitance of one "
            "against the bulk is read from a cell of two."
        )
    points = _points(state, cell, electrode, alike, bulk)
    if len(points.voltage) < 2:
        raise ValueError(
            "capacitance: one voltage was run; run two or more (with alike=True a voltage counts "
            "for its opposite)."
        )
    thermal = constants.k * temperature / constants.e  # eV
    rng = np.random.default_rng([seed, 8])
    charge, inner = (
        allowed(
            points.voltage,
            np.array([one.mean() for one in values]),
            np.array([one[which].error for one in points.spread]),
        )
        for which, values in enumerate((points.charge, points.potential))
    )
    curves = (charge, inner)
    found = [_estimate(points, thermal, method, curves, None)]
    worth = found[0]["capacitance"]
    # a cell is stable: in no draw does a charge fall with the potential
    for _ in range(PATIENCE * draws if (worth > 0).all() else 0):
        one = _estimate(points, thermal, method, curves, rng)
        if (one["capacitance"] > 0).all():
            found.append(one)
        if len(found) > draws:
            break
    else:
        low = int(np.argmin(worth))
        raise ValueError(
            f"capacitance: by the {method} of the charge that of the electrode is "
            f"{worth[low] * SURFACE:.3g} F m-2 at a voltage of {points.voltage[low]:g} V, with an "
            "error that leaves its sign open; run longer, or at voltages further apart."
        )
    rows = {name: np.stack([one[name] for one in found]) for name in found[0]}
    potential = rows["potential"][0]
    order = np.argsort(potential)
    unit = SURFACE
    columns = {
        "differential_capacitance": (rows["capacitance"] * unit, "F m-2"),
        "surface_charge": (rows["charge"] * unit, "C m-2"),
        "cell_capacitance": (rows["cell"] * unit, "F m-2"),
    }
    errors = [one[0].error * unit / points.area for one in points.spread]
    variables: dict[str, tuple[object, ...]] = {}
    for name, (values, label) in columns.items():
        spread = np.asarray(errors) if name == "surface_charge" else _half(values[1:])
        spread = np.where(spread > 0, spread, np.nan)
        variables[name] = ("potential", values[0][order], {"units": label})
        variables[f"{name}_std"] = ("potential", spread[order], {"units": label})
        variables[f"{name}_draw"] = (
            ("potential", "draw"),
            values[1:, order].T,
            {"units": label},
        )
    scatter = np.array([one[1].error for one in points.spread])[order]
    zero = rows["zero"].ravel()
    known = zero[1:][np.isfinite(zero[1:])]
    if np.isfinite(zero[0]) and len(known) > draws // 2:
        variables["potential_of_zero_charge"] = ((), zero[0], {"units": "V"})
        spread = _half(known)
        variables["potential_of_zero_charge_std"] = (
            (),
            spread if spread > 0 else np.nan,
            {"units": "V"},
        )
    return xr.Dataset(
        {
            **variables,
            "cell_voltage": ("potential", points.voltage[order], {"units": "V"}),
            "potential_std": (
                "potential",
                np.where(scatter > 0, scatter, np.nan),
                {"units": "V"},
            ),
        },
        coords={"potential": ("potential", potential[order], {"units": "V"})},
        attrs={
            "reference": "bulk",
            "method": f"{method} of the charge at constant potential",
            "electrode": electrode,
        },
    )


def _points(
    state: Layers,
    cell: ConstantPotential,
    electrode: str,
    alike: bool,
    bulk: tuple[float, float] | None,
) -> _Points:
    """Gather charge and potential of an electrode, and of the other where they are alike."""
    groups = by_voltage(state, cell)
    names = list(cell.electrodes)
    chosen = [electrode] + [name for name in names if alike and name != electrode]
    rows: dict[float, list[tuple[Line, Seen]]] = {}
    for name in chosen:
        line = Line(state, cell, name)
        for seen in groups:
            at = round(voltage_of(seen, line.index), 9)
            # without a voltage the two electrodes' charges are one number and its negative
            if at == 0.0 and rows.get(at):
                continue
            rows.setdefault(at, []).append((line, seen))
    voltage = np.array(sorted(rows))
    charge, potential, spread = [], [], []
    for at in voltage.tolist():
        runs = sum(s.runs for _, s in rows[at])
        charge.append(np.concatenate([s.electrode[:, one.index] for one, s in rows[at]]))
        square = np.concatenate([s.product[:, one.index, one.index] for one, s in rows[at]])
        parts = []
        for line, seen in rows[at]:
            rest = line.potential(seen)[:, line.bulk(bulk)].mean(1)
            parts.append(seen.voltage[line.index] - rest)
        potential.append(np.concatenate(parts))
        # squares of the potential are not kept: its blocks are taken as frames
        own, inner = (one.reshape(runs, -1) for one in (charge[-1], potential[-1]))
        spread.append(
            (
                fluctuation(own, square.reshape(runs, -1), frames=rows[at][0][1].frames),
                fluctuation(inner, inner**2, frames=1),
            )
        )
    line = Line(state, cell, electrode)
    empty = float(cell.empty_capacitance()[line.index, line.index])
    return _Points(voltage, charge, potential, spread, empty, line.area)


def _half(draws: np.ndarray) -> np.ndarray:
    """Half of what holds 68 % of draws: of a skewed law, unlike its variance, always finite."""
    low, high = np.quantile(draws, [0.1587, 0.8413], axis=0)
    return np.asarray(0.5 * (high - low))


def _estimate(
    points: _Points,
    thermal: float,
    method: str,
    curves: tuple[Curves, Curves],
    rng: np.random.Generator | None,
) -> dict[str, np.ndarray]:
    """Charge (e Å-2), capacitances (e V-1 Å-2) and potentials (V), or a draw of them.

    `curves` are those that charge and potential lie on, over the cell's voltage. Weights of blocks
    say how charge and potential are off together, their relaxation by how much.
    """
    charge = np.array([one[0].mean for one in points.spread])
    potential = np.array([one[1].mean for one in points.spread])
    variance = np.array([one[0].variance for one in points.spread])
    if rng is not None:
        for n, spread in enumerate(points.spread):
            variance[n], *off = _drawn(spread, points.charge[n], points.potential[n], rng)
            charge[n] += off[0]
            potential[n] += off[1]
    errors = [np.array([one[which].error for one in points.spread]) for which in (0, 1)]

    def slopes(curve: Curves, values: np.ndarray) -> np.ndarray:
        return curve.slopes(values) if rng is None else curve.draw(values, rng)

    if method == "fluctuation":
        cell = (points.empty + variance / thermal) / points.area
    else:
        cell = slopes(curves[0], charge) / points.area
    return {
        "charge": charge / points.area,
        "potential": potential,
        "cell": cell,
        "capacitance": cell / slopes(curves[1], potential),
        "zero": np.array([_zero(points.voltage, charge, errors[0], potential, errors[1])]),
    }


def _drawn(
    spread: tuple[Fluctuation, Fluctuation],
    charge: np.ndarray,
    potential: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Variance (e2) of a charge, and what the means of charge (e) and potential (V) are off by."""
    weight = rng.dirichlet(np.ones(len(charge))) - 1 / len(charge)
    drawn = [one.draw(rng) for one in spread]
    off = []
    for (_, square), blocks in zip(drawn, (charge, potential), strict=True):
        independent = blocks.std() / np.sqrt(len(blocks) + 1)  # of such a weighted mean
        off.append(weight @ blocks * np.sqrt(square) / independent if square > 0 else 0.0)
    return drawn[0][0], off[0], off[1]


def _fit(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> np.polynomial.Polynomial:
    """Return the polynomial of lowest degree that misses no more than errors allow."""
    known = np.isfinite(error) & (error > 0)
    typical = np.median(error[known]) if known.any() else max(1e-12, 1e-6 * np.abs(y).max())
    weight = 1 / np.where(known, error, typical)
    most = min(len(x) - 1, HIGHEST)
    for degree in range(1, most + 1):
        found = np.polynomial.Polynomial.fit(x, y, degree, w=weight)
        excess = float((((found(x) - y) * weight) ** 2).sum())
        left = len(x) - degree - 1
        if left == 0 or stats.chi2.sf(excess, left) > UNLIKELY:
            break
    return found


def _zero(
    voltage: np.ndarray,
    charge: np.ndarray,
    error: np.ndarray,
    potential: np.ndarray,
    apart: np.ndarray,
) -> float:
    """Potential (V) against the bulk at which an electrode carries no charge; nan if not between.

    The voltage without charge comes first, then the potential that belongs to it.
    """
    if not charge.min() < 0 < charge.max():
        return float(np.interp(0.0, voltage, potential)) if np.any(charge == 0) else np.nan
    roots = (_fit(voltage, charge, error)).roots()
    real = roots[np.abs(roots.imag) < 1e-9].real
    real = real[(real >= voltage.min()) & (real <= voltage.max())]
    if not len(real):
        return np.nan
    at = real[np.abs(real - np.interp(0.0, np.sort(charge), voltage)).argmin()]
    return float(_fit(voltage, potential, apart)(at))


def committee(members: Sequence[xr.Dataset], *, seed: int = 0) -> xr.Dataset:
    r"""Return the mean of what several potentials gave, its error split by where it comes from.

    .. math:: s^2 = \underbrace{\tfrac1n \overline{s_i^2}}_\mathrm{sampling}
              + \underbrace{\max\left(0, s_x^2 - \overline{s_i^2}\right)}_\mathrm{model}

    where :math:`s_x^2` is the variance among the n potentials and :math:`s_i` the sampling error of
    each. The model's part does not shrink with more potentials: it is how far off one of them is.
    Draws hold both parts, so that a solver further on is given the disagreement of the potentials
    as they have it, at all voltages at once.

    Parameters
    ----------
    members : sequence of xarray.Dataset
        One PROFILE or CAPACITANCE for each potential, two or more, on the same grid. Their
        electrodes' potentials may differ; the mean is then taken at the mean potential.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        Their variables, ``_std`` in all, and ``_sampling_std`` and ``_model_std`` in parts (nan
        where a part is nought or unknown). ``_draw`` where the members have draws, and of single
        numbers beside them; none in which a capacitance is not positive, if it is in all members.

    Raises
    ------
    ValueError
        If there are fewer than two, their grids differ, or they disagree so much that the sign of
        what is positive in all of them is lost.
    """
    if len(members) < 2:
        raise ValueError(f"committee: {len(members)} member(s) were given; give two or more.")
    first = members[0]
    if any(dict(one.sizes) != dict(first.sizes) for one in members):
        raise ValueError("committee: the members lie on grids of different sizes.")
    out = first.drop_vars([name for name in first.data_vars if str(name).endswith("_draw")])
    for axis in out.coords:
        if np.issubdtype(out[axis].dtype, np.floating):
            mean = np.mean([one[axis].values for one in members], axis=0)
            out = out.assign_coords({axis: (out[axis].dims, mean, out[axis].attrs)})
    for name in [name for name in out.data_vars if f"{name}_std" in out]:
        value = np.stack([one[name].values for one in members])
        error = np.stack([one[f"{name}_std"].values for one in members])
        sampling = (error**2).mean(0)
        model = np.maximum(0.0, value.var(0, ddof=1) - sampling)
        dims, attrs = out[name].dims, out[name].attrs
        out[name] = (dims, value.mean(0), attrs)
        for label, square in (
            ("std", sampling / len(members) + model),
            ("sampling_std", sampling / len(members)),
            ("model_std", model),
        ):
            root = np.sqrt(square)
            out[f"{name}_{label}"] = (dims, np.where(root > 0, root, np.nan), attrs)
    out.attrs["committee"] = len(members)
    return out.assign(_pooled(members, out, np.random.default_rng([seed, 9])))


def _pooled(
    members: Sequence[xr.Dataset], out: xr.Dataset, rng: np.random.Generator
) -> dict[str, tuple[object, ...]]:
    """Draws of the mean of members: their own about it, and their disagreement as one of them."""
    draws, number = members[0].sizes.get("draw", 0), len(members)
    tries = PATIENCE * draws
    picked = rng.integers(max(1, draws), size=(number, tries))
    weights = rng.standard_normal((number, tries)) / np.sqrt(number - 1)
    kept = np.ones(tries, bool)
    found = {}
    for name in [name for name in out.data_vars if f"{name}_model_std" in out]:
        label = f"{name}_draw"
        if not draws or (label not in members[0] and out[name].dims):
            continue
        centre = np.stack([one[name].values for one in members])
        own = np.zeros((*out[name].shape, tries))
        positive = bool((centre > 0).all())
        for one, middle, index in zip(members, centre, picked, strict=True):
            if label in one:
                drawn = one[label].transpose(..., "draw").values
                own += drawn[..., index] - middle[..., None]
                positive &= bool((drawn > 0).all())
            else:
                own += np.nan_to_num(float(one[f"{name}_std"])) * rng.standard_normal(tries)
                positive = False
        apart = centre.std(0, ddof=1)
        share = np.nan_to_num(out[f"{name}_model_std"].values) / np.where(apart > 0, apart, 1.0)
        model = np.einsum("nd,n...->...d", weights, (centre - centre.mean(0)) * share)
        found[label] = centre.mean(0)[..., None] + own / number + model
        if positive:
            kept &= (found[label] > 0).reshape(-1, tries).all(0)
    if kept.sum() < draws:
        raise ValueError(
            f"committee: {number} potentials disagree so much that the sign of what all of them "
            "find positive is lost; look at them one by one."
        )
    chosen = np.flatnonzero(kept)[:draws]
    return {
        label: (
            (*out[label.removesuffix("_draw")].dims, "draw"),
            values[..., chosen],
            out[label.removesuffix("_draw")].attrs,
        )
        for label, values in found.items()
    }
