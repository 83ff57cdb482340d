r"""What was seen between electrodes: profiles, surface charge, capacitance, the inner layer.

.. math::
    E(z) = E_0 + \frac{1}{\varepsilon} \int^z \rho \, dz', \qquad \phi(z) = -\int^z E \, dz', \qquad
    C = \frac{C_\mathrm{empty}}{A} + \frac{\langle Q^2 \rangle - \langle Q \rangle^2}{A\,k_B T}

with :math:`E_0 = 0` outside a slab; in a cell that repeats, :math:`E_0` makes the potential jump by
the applied voltage from one image to the next, or by nothing without one. :math:`\rho` holds the
Gaussian charges of the electrodes, so that the drop between them must come out as the voltage that
was set: :func:`profile` gives both. Charges solved for at every step leave out the thermal
fluctuations of the electrodes' own charges, which :math:`C_\mathrm{empty}`, the capacitance of the
cell without electrolyte, puts back (Scalfi et al.).

References
----------
Scalfi, Limmer, Coretti, Bonella, Madden, Salanne, Rotenberg, Phys. Chem. Chem. Phys. 22, 10480
(2020), https://doi.org/10.1039/C9CP06285H
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import constants
from scipy.special import erf
from torch_sim.models.interface import ModelInterface

from atomistic.electrostatics.electrodes import ConstantPotential
from atomistic.observables.fluctuations import fluctuation
from atomistic.observables.layers import BEYOND, Layers, electrodes_of, sheets
from atomistic.observables.scatter import standard_error
from atomistic.units import ANGSTROM, ELECTRONVOLT

VACUUM = constants.epsilon_0 / ELECTRONVOLT * ANGSTROM  # e V-1 Å-1
FEWEST = 4  # blocks of a run, all replicas together, from which an error is told
MOST = 16  # blocks of a run into which its finished ones are put together
SURFACE = ELECTRONVOLT / ANGSTROM**2  # C m-2


@dataclass(frozen=True)
class Seen:
    """Blocks of all replicas of one voltage, one after the other, in the units of the dynamics.

    Parameters
    ----------
    voltage : numpy.ndarray
        Potential (V) of each electrode.
    runs : int
        Replicas; each has equally many blocks.
    frames : int
        Frames in a block.
    density : numpy.ndarray
        Ions in each bin, (block, species, bin).
    charge : numpy.ndarray
        Charge of the electrolyte (e) in each bin, (block, bin).
    electrode : numpy.ndarray
        Charge of each electrode (e), (block, electrode).
    product : numpy.ndarray
        Mean products of two electrodes' charges (e2), (block, electrode, electrode).
    sheet : numpy.ndarray
        Charge of each layer of electrode atoms (e), (block, layer).
    """

    voltage: np.ndarray
    runs: int
    frames: int
    density: np.ndarray
    charge: np.ndarray
    electrode: np.ndarray
    product: np.ndarray
    sheet: np.ndarray


def by_voltage(state: Layers, cell: ConstantPotential) -> list[Seen]:
    """Sort the blocks of an observer by voltage; systems at one voltage are replicas.

    Raises
    ------
    ValueError
        If too little was seen to tell an error.
    """
    kept = state.frames // state.block
    each = max(1, kept // MOST)
    count = kept // each
    if count < FEWEST:
        raise ValueError(
            f"interface: {state.frames} frame(s) make {count} block(s) of a run; run longer, or "
            f"observe more often, for {FEWEST} at least."
        )
    series = state.series[: count * each].cpu().numpy()
    series = series.reshape(count, each, *series.shape[1:]).mean(1)
    potentials = cell.potential.cpu().numpy().astype(float)
    bins, species = state.bins, len(state.species)
    electrodes = potentials.shape[1]
    cuts = np.cumsum([species * bins, bins, electrodes, electrodes**2])
    found = []
    for voltage in np.unique(potentials.round(9), axis=0):
        replicas = np.flatnonzero((np.abs(potentials - voltage) < 1e-6).all(1))
        flat = series[:, replicas].swapaxes(0, 1).reshape(-1, series.shape[2])
        density, charge, electrode, product, sheet = np.split(flat, cuts, axis=1)
        found.append(
            Seen(
                voltage,
                len(replicas),
                state.block * each,
                density.reshape(-1, species, bins),
                charge,
                electrode,
                product.reshape(-1, electrodes, electrodes),
                sheet,
            )
        )
    return found


class Line:
    """The line along z on which profiles lie: distance from an electrode into the liquid."""

    def __init__(self, state: Layers, cell: ConstantPotential, electrode: str) -> None:
        names = list(cell.electrodes)
        if electrode not in names:
            raise ValueError(
                f"interface: there is no electrode {electrode!r}; there are {', '.join(names)}."
            )
        self.index = names.index(electrode)
        self.area = float(np.linalg.norm(np.cross(*cell.cell[0, :2].cpu().numpy())))
        self.edges = state.low + state.width * np.arange(state.bins + 1)
        self.middle = 0.5 * (self.edges[1:] + self.edges[:-1])
        self.period = state.period
        self.permittivity = VACUUM * cell.relative_permittivity
        height, index = (values.cpu().numpy() for values in sheets(cell))
        member = np.zeros(len(height), int)
        member[index] = cell.member.cpu().numpy()
        width = np.array([one.width for one in cell.electrodes.values()])[member]
        turns = (-1, 0, 1) if self.period else (0,)
        steps = [
            erf((self.edges[None] - height[:, None] - turn * self.period) / width[:, None])
            for turn in turns
        ]
        self.smear = 0.5 * sum(np.diff(step, axis=1) for step in steps)  # (layer, bin)
        own, other = height[member == self.index], height[member != self.index]
        inward = 1.0 if not len(other) or other.mean() > own.mean() else -1.0
        self.surface = own.max() if inward > 0 else own.min()
        self.inward = inward
        self.opposite = None if not len(other) else (other.min() if inward > 0 else other.max())
        self.jump = cell.boundary == "finite field"
        # the backs of the lowest and the highest electrode, or of the only one
        reach = BEYOND * width.max()
        if self.period:
            reach = min(reach, 0.5 * (self.period - np.ptp(height)))
        backs = {int(member[height.argmin()]): height.min() - reach}
        if len(other):
            backs[int(member[height.argmax()])] = height.max() + reach
        self.outside = np.array([backs[n] for n in sorted(backs)])
        self.outer = np.array(sorted(backs))

    def distance(self) -> np.ndarray:
        """Distance (Å) of the bins from the electrode's innermost layer."""
        return self.inward * (self.middle - self.surface)

    def bulk(self, given: tuple[float, float] | None) -> np.ndarray:
        """Say which bins are bulk: the middle fifth between two electrodes if not given (m)."""
        away = self.distance()
        if given is None:
            if self.opposite is None:
                raise ValueError("interface: with one electrode, say which range (m) is bulk.")
            gap = abs(self.opposite - self.surface)
            given = (0.4 * gap * ANGSTROM, 0.6 * gap * ANGSTROM)
        inside = (away >= min(given) / ANGSTROM) & (away <= max(given) / ANGSTROM)
        if not inside.any():
            raise ValueError(
                f"interface: no bin lies in the bulk range {given[0]:g} to {given[1]:g} m."
            )
        return inside

    def potential(self, seen: Seen) -> np.ndarray:
        """Potential (V) in the middle of the bins, (block, bin), up to a constant."""
        width = np.diff(self.edges)
        charge = (seen.charge + seen.sheet @ self.smear) / self.area  # e Å-2 in each bin
        field = np.concatenate([np.zeros((len(charge), 1)), np.cumsum(charge, axis=1)], axis=1)
        field /= self.permittivity
        drop = 0.5 * (field[:, 1:] + field[:, :-1]) * width
        if self.period:
            voltage = self._applied(seen) if self.jump else 0.0
            offset = (drop.sum(1) + voltage) / self.period
            field -= offset[:, None]
            drop = 0.5 * (field[:, 1:] + field[:, :-1]) * width
        start = -np.concatenate([np.zeros((len(charge), 1)), np.cumsum(drop, axis=1)], axis=1)
        potential = start[:, :-1] - width * (3 * field[:, :-1] + field[:, 1:]) / 8
        # the constant with which the electrodes are, on average, at what was set
        set_at = seen.voltage[self.outer]
        return potential + (set_at - self.behind(potential)).mean(1, keepdims=True)

    def _applied(self, seen: Seen) -> float:
        """Voltage (V) of the upper of two electrodes against the lower."""
        upper = self.index if self.inward < 0 else 1 - self.index
        return float(seen.voltage[upper] - seen.voltage[1 - upper])

    def behind(self, potential: np.ndarray) -> np.ndarray:
        """Potential (V) behind each electrode, where there is no field, (block, electrode)."""
        return np.array([np.interp(self.outside, self.middle, one) for one in potential])


def profile(
    state: Layers,
    model: ModelInterface,
    *,
    electrode: str,
    voltage: float,
    temperature: float,
    charge_numbers: Mapping[str, float],
    bulk: tuple[float, float] | None = None,
) -> xr.Dataset:
    """Return densities (m-3), charge (C m-3) and potential (V) in front of an electrode.

    Parameters
    ----------
    state : Layers
        What watched the run.
    model : torch_sim ModelInterface
        What drove it, with its electrodes.
    electrode : str
        Electrode that z is counted from, into the liquid.
    voltage : float
        Potential of that electrode against the other (V), or its own if there is no other; one of
        those that were run. All replicas at it are taken together.
    temperature : float
        Temperature (K).
    charge_numbers : mapping of str to float
        Charge number of each species (1), for those who read the profile.
    bulk : (float, float), optional
        Distances from the electrode (m) between which the potential is zero on average; the
        middle fifth between two electrodes if not given.

    Returns
    -------
    xarray.Dataset
        A PROFILE with errors from blocks, which at each z are taken as independent; those of the
        surface charge and of the electrode's potential know how slowly they relax
        (`atomistic.observables.fluctuations`). `charge_density` is the electrolyte's. Beside it
        ``electrode_charge_density`` (C m-3), ``field`` (V m-1), ``electrode_potential`` (V),
        against the bulk, with ``_std``, and ``voltage_drop`` (V), the voltage between the backs
        of the two electrodes that the profile integrates to, beside ``voltage`` (V), that which
        was set: a single layer of Gaussians is not quite an ideal plane, thicker metal is; and
        ``separation`` (m) of the innermost layers of the two electrodes.

    Raises
    ------
    ValueError
        If an electrode, a voltage or the bulk is not there, or too little was seen.
    """
    cell = electrodes_of(model)
    line = Line(state, cell, electrode)
    groups = by_voltage(state, cell)
    seen = groups[_nearest([voltage_of(one, line.index) for one in groups], voltage)]
    inside = line.bulk(bulk)
    volume = line.area * state.width
    potential = line.potential(seen)
    rest = potential[:, inside].mean(1)
    own = seen.voltage[line.index] - rest
    drop = np.nan
    if len(line.outer) == 2 and line.index in line.outer:
        back = dict(zip(line.outer.tolist(), line.behind(potential).mean(0), strict=True))
        drop = back.pop(line.index) - next(iter(back.values()))
    separation = np.nan if line.opposite is None else abs(line.opposite - line.surface)
    order = np.argsort(line.distance())
    potential = (potential - rest[:, None])[:, order]
    density = seen.density[:, :, order] / volume
    charge = seen.charge[:, order] / volume
    metal = (seen.sheet @ line.smear)[:, order] / volume
    z = line.distance()[order]
    surface = seen.electrode[:, line.index] / line.area
    missing = [name for name in state.species if name not in charge_numbers]
    if missing:
        raise ValueError(f"interface: no charge number is given for {', '.join(missing)}.")
    per_volume = ANGSTROM**-3
    columns = {
        "number_density": (("species", "z"), density, per_volume, "m-3"),
        "charge_density": (("z",), charge, ELECTRONVOLT * per_volume, "C m-3"),
        "potential": (("z",), potential, 1.0, "V"),
        "surface_charge": ((), surface, SURFACE, "C m-2"),
        "electrode_charge_density": (("z",), metal, ELECTRONVOLT * per_volume, "C m-3"),
        "field": (("z",), -np.gradient(potential, z, axis=1), 1 / ANGSTROM, "V m-1"),
        "electrode_potential": ((), own, 1.0, "V"),
    }
    variables: dict[str, tuple[object, ...]] = {}
    for name, (dims, blocks, unit, label) in columns.items():
        error = np.asarray(standard_error(blocks) if dims else lasting(blocks, seen.runs), float)
        variables[name] = (dims, blocks.mean(0) * unit, {"units": label})
        variables[f"{name}_std"] = (
            dims,
            np.where(error > 0, error, np.nan) * unit,
            {"units": label},
        )
    number = [float(charge_numbers[name]) for name in state.species]
    return xr.Dataset(
        {
            **variables,
            "temperature": ((), float(temperature), {"units": "K"}),
            "charge_number": ("species", number, {"units": "1"}),
            "voltage": ((), voltage_of(seen, line.index), {"units": "V"}),
            "voltage_drop": ((), drop, {"units": "V"}),
            "separation": ((), separation * ANGSTROM, {"units": "m"}),
        },
        coords={"z": ("z", z * ANGSTROM, {"units": "m"}), "species": list(state.species)},
        attrs={
            "reference": "bulk",
            "boundary": cell.boundary,
            "electrode_control": "constant potential",
            "electrode": electrode,
        },
    )


def lasting(blocks: np.ndarray, runs: int) -> float:
    """Return the standard error of the mean of blocks, run after run, that may last."""
    means = blocks.reshape(runs, -1)
    return fluctuation(means, means**2, frames=1).error


def voltage_of(seen: Seen, index: int) -> float:
    """Potential (V) of an electrode against the mean of the others."""
    others = np.delete(seen.voltage, index)
    return float(seen.voltage[index] - (others.mean() if len(others) else 0.0))


def _nearest(values: Sequence[float], wanted: float) -> int:
    """Return which of the voltages (V) is the one asked for."""
    apart = np.abs(np.asarray(values) - wanted)
    if apart.min() > 1e-6:
        listed = ", ".join(f"{value + 0.0:g}" for value in values)
        raise ValueError(f"interface: {wanted:g} V was not run; there are {listed} V.")
    return int(apart.argmin())


def inner_layer(profiles: Sequence[xr.Dataset], *, share: float = 0.5) -> xr.Dataset:
    r"""Capacitance (F m-2) between an electrode and the plane of closest approach of ions.

    .. math:: C_H = \frac{d\sigma}{d[\phi_\mathrm{electrode} - \phi(z^*)]}

    The plane :math:`z^*` is where the first kind of ion reaches a share of its bulk density, at the
    lowest charge given: where ions can come, not where a charge puts them.

    Parameters
    ----------
    profiles : sequence of xarray.Dataset
        What `profile` gave of one electrode at two or more voltages.
    share : float
        Share of the bulk density (1).

    Returns
    -------
    xarray.Dataset
        ``stern_capacitance`` (F m-2) with ``_std``, by a straight line through the drops;
        ``plane_of_closest_approach`` (m) with ``_std``; ``inner_potential`` (V) with ``_std`` at
        each ``surface_charge`` (C m-2), dim ``potential``, whose coordinate is the electrode's
        potential against the bulk.

    Raises
    ------
    ValueError
        If there are fewer than two profiles, or no ion comes to the wall.
    """
    if len(profiles) < 2:
        raise ValueError(f"inner_layer: {len(profiles)} profile(s) were given; give two or more.")
    ordered = sorted(profiles, key=lambda one: float(one["electrode_potential"]))
    calm = min(ordered, key=lambda one: abs(float(one["surface_charge"])))
    z = calm["z"].values
    near = (z > 0) & (z < 0.5 * z.max())
    plane, width = np.inf, float(z[1] - z[0])
    for density in calm["number_density"].values[:, near]:
        rest = density[-max(1, len(density) // 5) :].mean()
        above = np.flatnonzero(density >= (share * rest if rest > 0 else np.inf))
        if len(above):
            plane = min(plane, float(z[near][above[0]]))
    if not np.isfinite(plane):
        raise ValueError("inner_layer: no ion reaches the share of its bulk density anywhere.")
    drop, error = [], []
    for one in ordered:
        at = float(np.interp(plane, one["z"].values, one["potential"].values))
        spread = float(np.interp(plane, one["z"].values, one["potential_std"].values))
        drop.append(float(one["electrode_potential"]) - at)
        error.append(float(np.hypot(one["electrode_potential_std"], spread)))
    sigma = np.array([float(one["surface_charge"]) for one in ordered])
    inner, inner_std = np.array(drop), np.array(error)
    weight = 1 / np.where(inner_std > 0, inner_std, 1.0)
    design = np.column_stack([np.ones_like(sigma), sigma])
    covariance = np.linalg.inv((design * weight[:, None] ** 2).T @ design)
    slope = float((covariance @ (design * weight[:, None] ** 2).T @ inner)[1])
    slope_std = float(np.sqrt(covariance[1, 1]))
    rows = "potential"
    return xr.Dataset(
        {
            "stern_capacitance": ((), 1 / slope, {"units": "F m-2"}),
            "stern_capacitance_std": ((), slope_std / slope**2, {"units": "F m-2"}),
            "plane_of_closest_approach": ((), plane, {"units": "m"}),
            "plane_of_closest_approach_std": ((), width / np.sqrt(12), {"units": "m"}),
            "inner_potential": (rows, inner, {"units": "V"}),
            "inner_potential_std": (rows, inner_std, {"units": "V"}),
            "surface_charge": (rows, sigma, {"units": "C m-2"}),
        },
        coords={
            rows: (rows, [float(one["electrode_potential"]) for one in ordered], {"units": "V"})
        },
        attrs={"reference": "bulk"},
    )
