"""From formation energies of a host to its hull, its voltage, and a potential that a cell reads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from scipy.constants import gas_constant
from scipy.interpolate import PchipInterpolator

from atomistic.schema import ENERGETICS
from continuum.inputs import FARADAY
from couplers.contract import check

FINE = 2001  # points of the free energy on which its hull is drawn
SAMPLES = 400  # of the energies, for the errors of voltages


@dataclass(frozen=True)
class Curve:
    """A property of a host against its stoichiometry, monotone between knots wherever they are.

    The same instance evaluates on numbers and on PyBaMM's symbols, both by Fritsch and Carlson's
    cubics; beyond the last knots it keeps their values.

    Parameters
    ----------
    stoichiometry : tuple of float
        Stoichiometries (1) of the knots, increasing.
    value : tuple of float
        Values (in `units`) at the knots.
    units : str
        Units, SI.
    logarithmic : bool
        Whether the logarithm is interpolated, which keeps positive what is positive.
    name : str
        What it is.

    Raises
    ------
    ValueError
        Lists every fault.

    Examples
    --------
    >>> curve = Curve((0.0, 0.5, 1.0), (1e-14, 1e-15, 1e-14), "m2 s-1", logarithmic=True)
    >>> round(float(curve(0.5)) * 1e15, 6)
    1.0
    """

    stoichiometry: tuple[float, ...]
    value: tuple[float, ...]
    units: str
    logarithmic: bool = False
    name: str = "curve"

    def __post_init__(self) -> None:
        faults = []
        if len(self.stoichiometry) < 2 or len(self.value) != len(self.stoichiometry):
            faults.append(
                f"there are {len(self.stoichiometry)} stoichiometries and {len(self.value)} "
                "values; give two or more of each"
            )
        if not (
            np.all(np.isfinite(self.stoichiometry)) and np.all(np.diff(self.stoichiometry) > 0)
        ):
            faults.append("the stoichiometries must be finite and increase")
        if not np.all(np.isfinite(self.value)):
            faults.append("there are values that are not finite")
        elif self.logarithmic and min(self.value, default=1.0) <= 0:
            faults.append("there are values that are not positive, which have no logarithm")
        if faults:
            raise ValueError(f"Curve {self.name!r}: " + "; ".join(faults) + ".")

    def __call__(self, stoichiometry: Any, *others: Any) -> Any:
        """Evaluate at a stoichiometry (1); other arguments, such as temperature, do not count."""
        values = np.log(self.value) if self.logarithmic else np.asarray(self.value)
        low, high = self.stoichiometry[0], self.stoichiometry[-1]
        if isinstance(stoichiometry, (int, float, np.ndarray, np.generic, list, tuple)):
            inside = np.clip(stoichiometry, low, high)
            found = PchipInterpolator(self.stoichiometry, values)(inside)
            return np.exp(found) if self.logarithmic else found
        from continuum.cell import pybamm

        inside = pybamm.maximum(pybamm.minimum(stoichiometry, high), low)
        knots = np.asarray(self.stoichiometry)
        # numbers near 1: the table itself holds no physical scale
        size = float(np.abs(values).max()) or 1.0
        table = pybamm.Interpolant(
            knots, values / size, inside, name=self.name, interpolator="pchip"
        )
        return pybamm.exp(size * table) if self.logarithmic else size * table


@dataclass(frozen=True)
class Mixing:
    r"""Free energy of an ion in a host, and the potential that follows from it, in closed form.

    .. math::
        \frac{G(x)}{zF} = -U_0\,x + \frac{RT}{zF} [x \ln x + (1 - x) \ln (1 - x)]
        + x (1 - x) \sum_k A_k (2x - 1)^k, \qquad
        U(x) = -\frac{1}{zF} \frac{dG}{dx}

    with x the filled share of the sites; :math:`A_0` alone is a regular solution. The same
    instance evaluates in NumPy, PyBaMM (``log=pybamm.log``) and UFL (``log=ufl.ln``).

    Parameters
    ----------
    standard_potential : float
        :math:`U_0` (V) against the metal of the ion.
    interactions : tuple of float
        :math:`A_k` (V), after Redlich and Kister.
    charge_number : float
        :math:`z` (1).

    References
    ----------
    Redlich, Kister 1948, https://doi.org/10.1021/ie50458a036.

    Examples
    --------
    >>> ideal = Mixing(3.5, ())
    >>> float(ideal(0.5, 300.0))
    3.5
    """

    standard_potential: float
    interactions: tuple[float, ...]
    charge_number: float = 1.0

    def __call__(self, x: Any, T: Any, log: Any = np.log) -> Any:
        """Potential (V) of one phase at filling `x` (1) and temperature `T` (K)."""
        thermal = gas_constant / (self.charge_number * FARADAY) * T
        total = self.standard_potential + thermal * (log(1 - x) - log(x))
        m = 2 * x - 1
        for k, strength in enumerate(self.interactions):
            # d/dx of x (1 - x) m^k, with x (1 - x) = (1 - m^2) / 4
            slope = -(m ** (k + 1))
            if k:
                slope = slope + k * (1 - m**2) * m ** (k - 1) / 2
            total = total - strength * slope
        return total

    def energy(self, x: np.ndarray, T: float) -> np.ndarray:
        """Free energy (V: over z F) against the empty host and the metal."""
        x = np.asarray(x, dtype=float)
        mixing = np.where((x > 0) & (x < 1), 1.0, 0.0)
        inside = np.where(mixing > 0, x, 0.5)
        entropy = mixing * (inside * np.log(inside) + (1 - inside) * np.log1p(-inside))
        excess = sum(a * (2 * x - 1) ** k for k, a in enumerate(self.interactions))
        thermal = gas_constant * T / (self.charge_number * FARADAY)
        return -self.standard_potential * x + thermal * entropy + x * (1 - x) * excess


def hull(energetics: xr.Dataset, *, charge_number: float = 1.0, seed: int = 0) -> xr.Dataset:
    r"""Stable compositions of a host and the voltage steps between them, at zero temperature.

    .. math:: U = -\frac{\Delta E_f}{z F \Delta x}

    between neighbours on the lower convex hull of the formation energies per formula unit of host,
    from the empty host and the metal. Samples of the energies within their errors tell how surely
    each composition is stable and what error a voltage has.

    Parameters
    ----------
    energetics : xarray.Dataset
        An ENERGETICS with `formation_energy` (J mol-1; stoichiometry); it is checked first.
    charge_number : float
        :math:`z` (1) of the ion.
    seed : int
        Of the samples.

    Returns
    -------
    xarray.Dataset
        `energy_above_hull` (J mol-1) and `stability` (1: share of the samples in which it is on
        the hull, nan if errors are not known), dims (stoichiometry,); `lower_stoichiometry`,
        `upper_stoichiometry` (1) and `voltage` (V) with `_std`, dims (step,).

    Raises
    ------
    ContractError
        Lists every breach of ENERGETICS.
    ValueError
        Lists every fault: no formation energies, fewer than two compositions, one given twice, a
        charge number that is not positive.

    References
    ----------
    Aydinol, Kohan, Ceder, Cho, Joannopoulos 1997, https://doi.org/10.1103/PhysRevB.56.1354.
    """
    x, energy, error = _energies(energetics, charge_number)
    kept = _lower_hull(x, energy)
    unit = charge_number * FARADAY
    voltage = -np.diff(energy[kept]) / np.diff(x[kept]) / unit
    known = bool(np.all(np.isfinite(error)))
    share = np.full(len(x), np.nan)
    voltage_std = np.full(len(voltage), np.nan)
    if known:
        rng = np.random.default_rng(seed)
        stable, at_middle = np.zeros(len(x)), []
        middle = 0.5 * (x[kept][1:] + x[kept][:-1])
        for _ in range(SAMPLES):
            sample = energy + error * rng.standard_normal(len(x))
            corners = _lower_hull(x, sample)
            stable[corners] += 1
            step = np.clip(np.searchsorted(x[corners], middle) - 1, 0, len(corners) - 2)
            slope = np.diff(sample[corners]) / np.diff(x[corners])
            at_middle.append(-slope[step] / unit)
        share = stable / SAMPLES
        voltage_std = np.std(at_middle, axis=0)
    line = np.interp(x, x[kept], energy[kept])
    return xr.Dataset(
        {
            "energy_above_hull": ("stoichiometry", energy - line, {"units": "J mol-1"}),
            "stability": ("stoichiometry", share, {"units": "1"}),
            "lower_stoichiometry": ("step", x[kept][:-1], {"units": "1"}),
            "upper_stoichiometry": ("step", x[kept][1:], {"units": "1"}),
            "voltage": ("step", voltage, {"units": "V"}),
            "voltage_std": ("step", voltage_std, {"units": "V"}),
        },
        coords={"stoichiometry": ("stoichiometry", x, {"units": "1"})},
        attrs={"reference": "metal of the ion", "charge_number": float(charge_number)},
    )


def mixing(
    energetics: xr.Dataset, *, terms: int | None = None, charge_number: float = 1.0
) -> Mixing:
    r"""Fit a Redlich-Kister free energy to formation energies from the empty to the full host.

    Least squares in :math:`U_0` and :math:`A_k`, with the energies' errors as weights if they are
    known. The number of terms is that with the least corrected Akaike criterion if not given.

    Parameters
    ----------
    energetics : xarray.Dataset
        An ENERGETICS with `formation_energy` (J mol-1; stoichiometry) of disordered compositions
        from 0 to 1; it is checked first.
    terms : int, optional
        How many :math:`A_k` (1).
    charge_number : float
        :math:`z` (1) of the ion.

    Returns
    -------
    Mixing

    Raises
    ------
    ContractError
        Lists every breach of ENERGETICS.
    ValueError
        As `hull`, if stoichiometries leave 0 to 1, or there are too few for the terms.
    """
    x, energy, error = _energies(energetics, charge_number)
    faults = []
    if x[0] < 0 or x[-1] > 1:
        faults.append(f"stoichiometries run from {x[0]:g} to {x[-1]:g}, expected within 0 to 1")
    inside = x > 0  # the empty host is the reference: it has nothing to tell
    count = int(inside.sum())
    if terms is not None and not 0 <= terms < count:
        faults.append(f"{terms} terms need {terms + 1} compositions that hold ions, not {count}")
    if faults:
        raise ValueError("Mixing: " + "; ".join(faults) + ".")
    known = bool(np.all(np.isfinite(error[inside])))
    weight = 1 / error[inside] if known else np.ones(count)
    volts = energy[inside] / (charge_number * FARADAY)
    weight = weight * charge_number * FARADAY if known else weight
    best: tuple[float, np.ndarray] | None = None
    for number in range(min(8, count - 2)) if terms is None else (terms,):
        columns = [-x[inside]] + [
            x[inside] * (1 - x[inside]) * (2 * x[inside] - 1) ** k for k in range(number)
        ]
        design = np.stack(columns, axis=1)
        found = np.linalg.lstsq(weight[:, None] * design, weight * volts, rcond=None)[0]
        off = float(np.sum((weight * (volts - design @ found)) ** 2))
        free = number + 1 + (0 if known else 1)
        cost = off if known else count * np.log(max(off / count, 1e-24))
        spare = count - free - 1
        criterion = cost + 2 * free + (2 * free * (free + 1) / spare if spare > 0 else np.inf)
        if best is None or criterion < best[0]:
            best = (criterion, found)
    if best is None:
        raise ValueError(
            f"Mixing: {count} compositions that hold ions are too few to choose the terms; give "
            "their number."
        )
    return Mixing(float(best[1][0]), tuple(best[1][1:].tolist()), charge_number)


def open_circuit_potential(
    free_energy: Mixing,
    *,
    temperature: float,
    window: tuple[float, float] = (0.005, 0.995),
    knots: int = 121,
    name: str = "open-circuit potential",
) -> Curve:
    r"""Equilibrium potential of a host: that of the lower hull of its free energy, never rising.

    Where the host phase-separates its free energy is not convex, and the common tangent replaces
    the loop of `Mixing` by a plateau (Maxwell's construction).

    Parameters
    ----------
    free_energy : Mixing
        Of one phase.
    temperature : float
        Temperature (K).
    window : tuple of float
        Lowest and highest filling (1), strictly within 0 to 1.
    knots : int
        Number of knots (1), denser towards the ends.
    name : str
        What it is.

    Returns
    -------
    Curve
        Potential (V) against stoichiometry (1), for ``overrides`` under
        ``"Negative electrode OCP [V]"`` or the positive one.

    Raises
    ------
    ValueError
        Lists every fault of the arguments.
    """
    faults = []
    if not (np.isfinite(temperature) and temperature > 0):
        faults.append(f"temperature is {temperature} K, but must be positive and finite")
    if not 0 < window[0] < window[1] < 1:
        faults.append(f"the window is {window}, expected two fillings between 0 and 1")
    if knots < 5:
        faults.append(f"knots is {knots}, expected 5 or more")
    if faults:
        raise ValueError("Open-circuit potential: " + "; ".join(faults) + ".")
    x = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, FINE))
    corners = _lower_hull(x, free_energy.energy(x, temperature))
    gaps = [
        (x[a], x[b])
        for a, b in pairwise(corners)
        if b - a > 2  # a tangent that leaves points out
    ]
    gaps = [_binodal(free_energy, gap, temperature) for gap in gaps]
    places = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, knots + 2)[1:-1])
    places = window[0] + (window[1] - window[0]) * (places - places[0]) / (places[-1] - places[0])
    inside = np.zeros(len(places), dtype=bool)
    for low, high in gaps:
        inside |= (places > low) & (places < high)
    edges = [edge for gap in gaps for edge in gap if window[0] < edge < window[1]]
    places = np.unique(np.concatenate([places[~inside], edges]))
    values = free_energy(np.clip(places, 1e-12, 1 - 1e-12), temperature)
    for low, high in gaps:
        held = (places >= low) & (places <= high)
        level = free_energy.energy(np.array([low, high]), temperature)
        values[held] = -(level[1] - level[0]) / (high - low)
    return Curve(
        tuple(places.tolist()), tuple(np.minimum.accumulate(values).tolist()), "V", name=name
    )


def solid_diffusivity(energetics: xr.Dataset, *, draw: int | None = None) -> Curve:
    """Diffusivity of the ion in its host against stoichiometry, as a cell reads it.

    Parameters
    ----------
    energetics : xarray.Dataset
        An ENERGETICS with `solid_diffusivity` (m2 s-1; stoichiometry), the chemical one; it is
        checked first.
    draw : int, optional
        Posterior draw to take; the estimates if not given.

    Returns
    -------
    Curve
        Diffusivity (m2 s-1), its logarithm interpolated, at the Dataset's temperature.

    Raises
    ------
    ContractError
        Lists every breach of ENERGETICS.
    ValueError
        If there is no diffusivity, or the draw does not exist.
    """
    checked = check(energetics, ENERGETICS)
    if "solid_diffusivity" not in checked:
        raise ValueError("Electrode: there is no solid_diffusivity (m2 s-1; stoichiometry).")
    ordered = checked.sortby("stoichiometry")
    values = ordered["solid_diffusivity"]
    if draw is not None:
        count = ordered.sizes.get("draw", 0)
        if not 0 <= draw < count:
            raise ValueError(f"Electrode: draw is {draw}, but there are {count}.")
        values = ordered["solid_diffusivity_draw"].isel(draw=draw)
    return Curve(
        tuple(ordered["stoichiometry"].values.tolist()),
        tuple(values.values.tolist()),
        "m2 s-1",
        logarithmic=True,
        name="solid diffusivity",
    )


def _energies(
    energetics: xr.Dataset, charge_number: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    checked = check(energetics, ENERGETICS)
    faults = []
    if not (np.isfinite(charge_number) and charge_number > 0):
        faults.append(f"charge_number is {charge_number}, but must be positive and finite")
    if "formation_energy" not in checked:
        faults.append("there is no formation_energy (J mol-1; stoichiometry)")
    elif "stoichiometry" not in checked.coords:
        faults.append("formation_energy has no coordinate stoichiometry")
    else:
        count = len(np.unique(checked["stoichiometry"]))
        if count < 2:
            faults.append(f"there is {count} composition; a voltage needs two")
        elif count < checked.sizes["stoichiometry"]:
            faults.append("a stoichiometry is given twice; keep its lowest energy")
    if faults:
        raise ValueError("Electrode: " + "; ".join(faults) + ".")
    ordered = checked.sortby("stoichiometry")
    return (
        ordered["stoichiometry"].values.astype(float),
        ordered["formation_energy"].values,
        ordered["formation_energy_std"].values,
    )


def _lower_hull(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the lower convex hull of points sorted by x (Andrew's chain)."""
    chain: list[int] = []
    for i in range(len(x)):
        while len(chain) > 1:
            a, b = chain[-2], chain[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            chain.pop()
        chain.append(i)
    return np.array(chain)


def _binodal(
    free_energy: Mixing, gap: tuple[float, float], temperature: float
) -> tuple[float, float]:
    """Ends of a miscibility gap, sharpened by Newton's method on the common tangent."""
    low, high = gap
    for _ in range(30):
        ends = np.array([low, high])
        step = 1e-5 * np.minimum(ends, 1 - ends)
        level = free_energy(ends, temperature)
        slope = (free_energy(ends + step, temperature) - free_energy(ends - step, temperature)) / (
            2 * step
        )
        energy = free_energy.energy(ends, temperature)
        chord = -(energy[1] - energy[0]) / (high - low)
        # U(low) = U(high) = chord; the chord's own slope vanishes at the solution
        change = (chord - level) / slope
        change = np.clip(
            change, -0.5 * np.minimum(ends, 1 - ends), 0.5 * np.minimum(ends, 1 - ends)
        )
        low, high = float(low + change[0]), float(high + change[1])
        if np.abs(change).max() < 1e-13:
            break
    return low, high
