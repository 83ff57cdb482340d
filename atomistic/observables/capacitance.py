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
from atomistic.observables.interface import SURFACE, Line, Seen, by_voltage, voltage_of
from atomistic.observables.layers import Layers, electrodes_of
from atomistic.observables.scatter import standard_error
from atomistic.observables.smooth import UNLIKELY, Curves, allowed

HIGHEST = 6  # degree of a polynomial
PATIENCE = 4  # draws looked at for each that is wanted


@dataclass(frozen=True)
class _Points:
    """Block means at each voltage: lists of arrays over blocks, in order of voltage."""

    voltage: np.ndarray  # V
    charge: list[np.ndarray]  # e
    square: list[np.ndarray]  # e2
    potential: list[np.ndarray]  # V, against the bulk
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
        Draws of the posterior, by the Bayesian bootstrap of blocks; those with a charge that falls
        with the potential, which no stable cell has, are left out.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        A CAPACITANCE with draws. Beside it, at each potential, ``cell_voltage`` (V),
        ``cell_capacitance`` (F m-2) by the same method, with ``_std``, and ``potential_std`` (V).

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
            np.array([standard_error(one) for one in values]),
        )
        for values in (points.charge, points.potential)
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
    errors = [standard_error(one) * unit / points.area for one in points.charge]
    variables: dict[str, tuple[object, ...]] = {}
    for name, (values, label) in columns.items():
        spread = np.asarray(errors) if name == "surface_charge" else values[1:].std(0, ddof=1)
        spread = np.where(spread > 0, spread, np.nan)
        variables[name] = ("potential", values[0][order], {"units": label})
        variables[f"{name}_std"] = ("potential", spread[order], {"units": label})
        variables[f"{name}_draw"] = (
            ("potential", "draw"),
            values[1:, order].T,
            {"units": label},
        )
    scatter = rows["potential"][1:].std(0, ddof=1)[order]
    zero = rows["zero"].ravel()
    known = zero[1:][np.isfinite(zero[1:])]
    if np.isfinite(zero[0]) and len(known) > draws // 2:
        variables["potential_of_zero_charge"] = ((), zero[0], {"units": "V"})
        spread = known.std(ddof=1)
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
    charge, square, potential = [], [], []
    for at in voltage.tolist():
        charge.append(np.concatenate([s.electrode[:, one.index] for one, s in rows[at]]))
        square.append(np.concatenate([s.product[:, one.index, one.index] for one, s in rows[at]]))
        parts = []
        for line, seen in rows[at]:
            rest = line.potential(seen)[:, line.bulk(bulk)].mean(1)
            parts.append(seen.voltage[line.index] - rest)
        potential.append(np.concatenate(parts))
    line = Line(state, cell, electrode)
    empty = float(cell.empty_capacitance()[line.index, line.index])
    return _Points(voltage, charge, square, potential, empty, line.area)


def _estimate(
    points: _Points,
    thermal: float,
    method: str,
    curves: tuple[Curves, Curves],
    rng: np.random.Generator | None,
) -> dict[str, np.ndarray]:
    """Charge (e Å-2), capacitances (e V-1 Å-2) and potentials (V) of weighted blocks.

    `curves` are those that charge and potential lie on, over the cell's voltage.
    """
    weights = [
        np.full(len(one), 1 / len(one)) if rng is None else rng.dirichlet(np.ones(len(one)))
        for one in points.charge
    ]

    def mean(values: list[np.ndarray]) -> np.ndarray:
        return np.array([weight @ one for weight, one in zip(weights, values, strict=True)])

    charge, potential = mean(points.charge), mean(points.potential)
    error = np.array([standard_error(one) for one in points.charge])
    apart = np.array([standard_error(one) for one in points.potential])

    def slopes(curve: Curves, values: np.ndarray) -> np.ndarray:
        return curve.slopes(values) if rng is None else curve.draw(values, rng)

    against = slopes(curves[1], potential)
    if method == "fluctuation":
        cell = (points.empty + _variances(points, rng) / thermal) / points.area
        own = cell / against
    else:
        cell = slopes(curves[0], charge) / points.area
        own = cell / against
    return {
        "charge": charge / points.area,
        "potential": potential,
        "cell": cell,
        "capacitance": own,
        "zero": np.array([_zero(points.voltage, charge, error, potential, apart)]),
    }


def _variances(points: _Points, rng: np.random.Generator | None) -> np.ndarray:
    r"""Variance of the charge (e2) at each voltage, or a draw of what it may be.

    The posterior of a variance :math:`s^2` is scaled inverse chi-square of :math:`\nu` degrees of
    freedom, skewed to what is larger; :math:`2/\nu` is the relative error of :math:`s^2`, squared:
    from the scatter of blocks about the mean, but no less than that of a charge that relaxes
    exponentially, which the error of its mean tells, also where blocks are too short to.
    """
    found = []
    for charge, square in zip(points.charge, points.square, strict=True):
        mean = charge.mean()
        # blocks scatter about a mean that is itself of them: an unbiased variance
        error = float(standard_error(charge))
        about = square - 2 * mean * charge + mean**2
        variance = float(about.mean()) + error**2
        if rng is not None and variance > 0:
            scatter = float(standard_error(about))
            freedom = 2 / max((error**2 / variance), (scatter / variance) ** 2, 1e-12)
            variance *= freedom / rng.chisquare(freedom)
        found.append(variance)
    return np.array(found)


def _fit(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> np.polynomial.Polynomial:
    """Return the polynomial of lowest degree that misses no more than errors allow."""
    usable = np.where(error > 0, error, np.nan)
    usable = np.where(np.isfinite(usable), usable, np.nanmedian(usable))
    if not np.isfinite(usable).all():
        usable = np.full(len(x), max(1e-12, 1e-6 * np.abs(y).max()))
    weight = 1 / usable
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
