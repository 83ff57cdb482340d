"""What a continuum solver needs: frozen, validated, SI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike
from scipy.constants import Avogadro, epsilon_0, gas_constant, physical_constants
from scipy.interpolate import PchipInterpolator

from continuum.laws import Law

FARADAY: float = physical_constants["Faraday constant"][0]


@dataclass(frozen=True)
class Electrolyte:
    """An electrolyte as Newman-type models and cell models read it.

    Parameters
    ----------
    conductivity : Law
        Ionic conductivity (S m-1).
    diffusivity : Law
        Salt diffusivity (m2 s-1), thermodynamic factor inside; for a single-ion conductor the
        charge diffusivity of the mobile ion, which carries no concentration gradient.
    transference_number : Law
        Cation transference number in the solvent frame (1).
    thermodynamic_factor : Law
        1 + d ln f / d ln c, molar (1).
    concentration : float
        Concentration of mobile cations, in a liquid the salt (mol m-3).
    temperature : float
        Operating temperature (K).
    single_ion : bool
        True for a solid whose only mobile ion is the cation (transference number 1).
    name : str
        What it is, for tables and figures.

    Raises
    ------
    ValueError
        Lists every fault: wrong units, non-positive values at the operating point, a single-ion
        conductor whose transference number is not 1.
    """

    conductivity: Law
    diffusivity: Law
    transference_number: Law
    thermodynamic_factor: Law
    concentration: float
    temperature: float
    single_ion: bool = False
    name: str = "electrolyte"

    def __post_init__(self) -> None:
        faults = []
        for label, number in (
            ("concentration", self.concentration),
            ("temperature", self.temperature),
        ):
            if not (np.isfinite(number) and number > 0):
                faults.append(f"{label} is {number}, but must be positive and finite")
        for label, units in (
            ("conductivity", "S m-1"),
            ("diffusivity", "m2 s-1"),
            ("transference_number", "1"),
            ("thermodynamic_factor", "1"),
        ):
            law: Law = getattr(self, label)
            if law.units != units:
                faults.append(f"{label} has units {law.units!r}, expected {units!r}")
            elif not faults:
                value = float(law(self.concentration, self.temperature))
                if not np.isfinite(value) or (label != "transference_number" and value <= 0):
                    faults.append(f"{label} is {value} at the operating point, must be positive")
                if label == "transference_number" and self.single_ion and value != 1.0:
                    faults.append(
                        f"transference_number is {value}, but a single-ion conductor has 1"
                    )
        if faults:
            raise ValueError(f"Electrolyte {self.name!r}: " + "; ".join(faults) + ".")


@dataclass(frozen=True)
class Species:
    """An ion in solution.

    Parameters
    ----------
    name : str
        Name, unique in its solution.
    charge_number : float
        Charge (1, in units of e); 0 for a neutral solute.
    concentration : float
        Bulk concentration (mol m-3).
    diffusivity : float or Law
        Diffusivity (m2 s-1); needed only where something moves.
    diameter : float
        Side (m) of the cube that the ion keeps to itself; 0 for a point ion.

    Raises
    ------
    ValueError
        Lists every fault.
    """

    name: str
    charge_number: float
    concentration: float
    diffusivity: float | Law = 1e-9
    diameter: float = 0.0

    def __post_init__(self) -> None:
        faults = []
        if not np.isfinite(self.charge_number):
            faults.append(f"charge_number is {self.charge_number}, but must be finite")
        if not (np.isfinite(self.concentration) and self.concentration > 0):
            faults.append(
                f"concentration (mol m-3) is {self.concentration}, but must be positive and finite"
            )
        if isinstance(self.diffusivity, Law):
            if self.diffusivity.units != "m2 s-1":
                faults.append(
                    f"diffusivity has units {self.diffusivity.units!r}, expected 'm2 s-1'"
                )
        elif not (np.isfinite(self.diffusivity) and self.diffusivity > 0):
            faults.append(
                f"diffusivity (m2 s-1) is {self.diffusivity}, but must be positive and finite"
            )
        if not (np.isfinite(self.diameter) and self.diameter >= 0):
            faults.append(f"diameter (m) is {self.diameter}, but must be 0 or more")
        if faults:
            raise ValueError(f"Species {self.name!r}: " + "; ".join(faults) + ".")

    @property
    def volume(self) -> float:
        """Molar volume (m3 mol-1) that the ion keeps to itself."""
        return Avogadro * self.diameter**3


@dataclass(frozen=True)
class Solution:
    r"""Ions in a dielectric, neutral in the bulk, at rest far from any wall.

    Parameters
    ----------
    species : tuple of Species
        The ions.
    relative_permittivity : float
        Relative permittivity (1).
    temperature : float
        Temperature (K).
    solvent_diameter : float, optional
        Side (m) of the cube of a solvent molecule, which sets the entropy of mixing of ions of
        unequal size; the smallest ion's if not given.

    Raises
    ------
    ValueError
        Lists every fault: names used twice, a charged bulk, ions that fill more than all space.
    """

    species: tuple[Species, ...]
    relative_permittivity: float = 78.49
    temperature: float = 298.15
    solvent_diameter: float | None = None

    def __post_init__(self) -> None:
        faults = []
        names = [ion.name for ion in self.species]
        if not any(ion.charge_number for ion in self.species):
            faults.append("there are no charged species")
        if len(set(names)) < len(names):
            faults.append(f"the species names {names} are not unique")
        for label, number in (
            ("relative_permittivity", self.relative_permittivity),
            ("temperature (K)", self.temperature),
            ("solvent_diameter (m)", self.solvent_diameter),
        ):
            if number is not None and not (np.isfinite(number) and number > 0):
                faults.append(f"{label} is {number}, but must be positive and finite")
        charge = sum(ion.charge_number * ion.concentration for ion in self.species)
        total = sum(abs(ion.charge_number) * ion.concentration for ion in self.species)
        if abs(charge) > 1e-9 * total:
            faults.append(
                f"the bulk carries {charge:g} mol m-3 of charge; change a concentration so that "
                "the charge numbers times the concentrations add up to 0"
            )
        packing = sum(ion.volume * ion.concentration for ion in self.species)
        if packing >= 1:
            faults.append(
                f"the ions fill {packing:.3g} of the bulk, but must leave room: less than 1"
            )
        if faults:
            raise ValueError("Solution: " + "; ".join(faults) + ".")

    @property
    def thermal_voltage(self) -> float:
        """R T / F (V)."""
        return gas_constant * self.temperature / FARADAY

    @property
    def permittivity(self) -> float:
        """Permittivity (F m-1)."""
        return self.relative_permittivity * epsilon_0

    @property
    def ionic_sum(self) -> float:
        """Sum of z^2 c (mol m-3): twice the ionic strength."""
        return sum(ion.charge_number**2 * ion.concentration for ion in self.species)

    @property
    def debye_length(self) -> float:
        r"""Debye length (m), :math:`\sqrt{\varepsilon R T / (F^2 \sum z_i^2 c_i)}`."""
        return float(np.sqrt(self.permittivity * self.thermal_voltage / (FARADAY * self.ionic_sum)))


@dataclass(frozen=True)
class ButlerVolmer:
    r"""Transfer of one ion across a wall, driven by the potential step at the plane of reaction.

    .. math::
        N = k_a \exp\frac{(1-\alpha) n F \Delta}{RT}
            - k_c c \exp\frac{-\alpha n F \Delta}{RT}, \quad \Delta = V - \phi

    is the flux into the solution, with :math:`c` and :math:`\phi` in the solution at the wall
    (Frumkin's correction) and :math:`V` the potential of the electrode.

    Parameters
    ----------
    species : str
        Name of the ion that reacts.
    anodic_rate : float
        :math:`k_a` (mol m-2 s-1).
    cathodic_rate : float
        :math:`k_c` (m s-1).
    transfer_coefficient : float
        :math:`\alpha` (1), between 0 and 1.
    electrons : float
        :math:`n` (1), electrons released for each ion that enters the solution.

    Raises
    ------
    ValueError
        Lists every fault.

    References
    ----------
    Bazant, Chu, Bayly 2005, doi:10.1137/040609938.
    """

    species: str
    anodic_rate: float
    cathodic_rate: float
    transfer_coefficient: float = 0.5
    electrons: float = 1.0

    def __post_init__(self) -> None:
        faults = []
        for label, number in (
            ("anodic_rate (mol m-2 s-1)", self.anodic_rate),
            ("cathodic_rate (m s-1)", self.cathodic_rate),
        ):
            if not (np.isfinite(number) and number >= 0):
                faults.append(f"{label} is {number}, but must be 0 or more and finite")
        if not 0 <= self.transfer_coefficient <= 1:
            faults.append(
                f"transfer_coefficient is {self.transfer_coefficient}, but must lie from 0 to 1"
            )
        if not (np.isfinite(self.electrons) and self.electrons != 0):
            faults.append(f"electrons is {self.electrons}, but must be finite and not 0")
        if faults:
            raise ValueError(f"ButlerVolmer of {self.species!r}: " + "; ".join(faults) + ".")


@dataclass(frozen=True)
class Reaction:
    r"""A reaction in the solution, at the rate :math:`k_f \prod c^{\nu} - k_b \prod c^{\nu}`.

    Parameters
    ----------
    reactants, products : Mapping
        Stoichiometric number (1) of each species, by name.
    forward, backward : float
        Rate constants (mol m-3 s-1 over concentrations in mol m-3 to their powers).

    Raises
    ------
    ValueError
        If a rate is negative or a stoichiometric number is not positive.
    """

    reactants: Mapping[str, float]
    products: Mapping[str, float]
    forward: float
    backward: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "reactants", MappingProxyType(dict(self.reactants)))
        object.__setattr__(self, "products", MappingProxyType(dict(self.products)))
        faults = [
            f"the {label} rate is {rate}, but must be 0 or more and finite"
            for label, rate in (("forward", self.forward), ("backward", self.backward))
            if not (np.isfinite(rate) and rate >= 0)
        ]
        for side in (self.reactants, self.products):
            faults += [
                f"the stoichiometric number of {name!r} is {number}, but must be positive"
                for name, number in side.items()
                if not number > 0
            ]
        if faults:
            raise ValueError("Reaction: " + "; ".join(faults) + ".")


@dataclass(frozen=True)
class Wall:
    """What bounds a solution; a wall given nothing is blocking and carries no charge.

    Parameters
    ----------
    potential : float, optional
        Potential (V) of the electrode against the bulk.
    surface_charge : float, optional
        Charge (C m-2) on the wall; not together with `potential`.
    stern_capacitance : float, optional
        Capacitance (F m-2) of the layer between the electrode and the solution; none if not
        given: the solution then takes the electrode's potential at once.
    concentration : Mapping
        Concentrations (mol m-3) held at the wall, by species name; the others are blocked.
    reaction : ButlerVolmer, optional
        Transfer of one ion.

    Raises
    ------
    ValueError
        Lists every fault.
    """

    potential: float | None = None
    surface_charge: float | None = None
    stern_capacitance: float | None = None
    concentration: Mapping[str, float] = field(default_factory=dict)
    reaction: ButlerVolmer | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "concentration", MappingProxyType(dict(self.concentration)))
        faults = []
        if self.potential is not None and self.surface_charge is not None:
            faults.append("potential and surface_charge are both given; give one")
        for label, number in (
            ("potential (V)", self.potential),
            ("surface_charge (C m-2)", self.surface_charge),
        ):
            if number is not None and not np.isfinite(number):
                faults.append(f"{label} is {number}, but must be finite")
        for label, needs in (
            ("stern_capacitance", self.stern_capacitance),
            ("reaction", self.reaction),
        ):
            if needs is not None and self.potential is None:
                faults.append(f"{label} needs the potential of the electrode")
        if self.stern_capacitance is not None and not (
            np.isfinite(self.stern_capacitance) and self.stern_capacitance > 0
        ):
            faults.append(
                f"stern_capacitance (F m-2) is {self.stern_capacitance}, but must be positive "
                "and finite"
            )
        for name, number in self.concentration.items():
            if not (np.isfinite(number) and number > 0):
                faults.append(
                    f"concentration of {name!r} (mol m-3) is {number}, but must be positive"
                )
        if self.reaction is not None and self.reaction.species in self.concentration:
            faults.append(f"{self.reaction.species!r} reacts, so that it cannot be held as well")
        if faults:
            raise ValueError("Wall: " + "; ".join(faults) + ".")


@dataclass(frozen=True)
class Interface:
    r"""The inner layer of an electrode: what lies between it and the ions that a continuum sees.

    .. math::
        V = V_\mathrm{pzc} + \Delta(\sigma) + \phi_d(\sigma), \qquad
        \Delta(\sigma) = \int_0^\sigma \frac{d\sigma'}{C_H(\sigma')}, \qquad
        \frac1C = \frac1{C_H(\sigma)} + \frac1{C_d(\sigma)}

    with the potential V of the electrode against the bulk and :math:`\phi_d` at the plane of
    closest approach. :math:`1/C_H` is interpolated between its knots by monotone cubics,
    integrated exactly, and constant beyond the last knots.

    Parameters
    ----------
    potential_of_zero_charge : float
        Potential (V) of the uncharged electrode against the bulk.
    surface_charge : tuple of float
        Charges (C m-2) of the electrode at the knots, increasing.
    stern_capacitance : tuple of float
        :math:`C_H` (F m-2) at the knots.
    plane_of_closest_approach : float
        Distance (m) from the electrode at which the continuum begins.
    distance : tuple of float
        Distances (m) from that plane at which the next two are known, increasing.
    relative_permittivity : tuple of float
        Relative permittivity (1) at `distance`; the solution's if empty.
    mean_force : Mapping
        Potential of mean force (J mol-1) beyond electrostatics at `distance`, by species name.

    Raises
    ------
    ValueError
        Lists every fault.
    """

    potential_of_zero_charge: float
    surface_charge: tuple[float, ...]
    stern_capacitance: tuple[float, ...]
    plane_of_closest_approach: float = 0.0
    distance: tuple[float, ...] = ()
    relative_permittivity: tuple[float, ...] = ()
    mean_force: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean_force", MappingProxyType(dict(self.mean_force)))
        faults = []
        for label, number in (
            ("potential_of_zero_charge (V)", self.potential_of_zero_charge),
            ("plane_of_closest_approach (m)", self.plane_of_closest_approach),
        ):
            if not np.isfinite(number):
                faults.append(f"{label} is {number}, but must be finite")
        if len(self.surface_charge) < 2 or len(self.stern_capacitance) != len(self.surface_charge):
            faults.append(
                f"there are {len(self.surface_charge)} charges and {len(self.stern_capacitance)} "
                "capacitances; give two or more of each"
            )
        for label, knots in (
            ("surface_charge (C m-2)", self.surface_charge),
            ("distance (m)", self.distance),
        ):
            if not (np.all(np.isfinite(knots)) and np.all(np.diff(knots) > 0)):
                faults.append(f"{label} must be finite and increase from knot to knot")
        for label, values in (
            ("stern_capacitance (F m-2)", self.stern_capacitance),
            ("relative_permittivity", self.relative_permittivity),
        ):
            if not all(np.isfinite(value) and value > 0 for value in values):
                faults.append(f"{label} has values that are not positive and finite")
        profiles = {"relative_permittivity": self.relative_permittivity, **self.mean_force}
        for label, values in profiles.items():
            wanted = len(self.distance)
            if len(values) != wanted and (values or label != "relative_permittivity"):
                faults.append(f"{label} has {len(values)} values at {wanted} distances")
        if not all(np.all(np.isfinite(values)) for values in self.mean_force.values()):
            faults.append("mean_force has values that are not finite")
        if faults:
            raise ValueError("Interface: " + "; ".join(faults) + ".")

    def capacitance(self, charge: ArrayLike) -> np.ndarray:
        """Capacitance (F m-2) of the inner layer at a charge (C m-2) of the electrode."""
        inside = np.clip(charge, self.surface_charge[0], self.surface_charge[-1])
        return 1 / self._elastance[0](inside)

    def inner_potential(self, charge: ArrayLike) -> np.ndarray:
        """Potential (V) that falls across the inner layer at a charge (C m-2), 0 without charge."""
        elastance, whole = self._elastance

        def integral(sigma: ArrayLike) -> np.ndarray:
            inside = np.clip(sigma, self.surface_charge[0], self.surface_charge[-1])
            return whole(inside) + elastance(inside) * (np.asarray(sigma) - inside)

        return integral(charge) - integral(0.0)

    def permittivity_profile(self, x: np.ndarray) -> np.ndarray:
        """Relative permittivity (1) at points (m; xyz, point) as a solver asks for it."""
        return np.interp(x[0], self.distance, self.relative_permittivity)

    def mean_force_profile(self, species: str, x: np.ndarray) -> np.ndarray:
        """Potential of mean force (J mol-1) of a species at points (m; xyz, point)."""
        return np.interp(x[0], self.distance, self.mean_force[species])

    @cached_property
    def _elastance(self) -> tuple[PchipInterpolator, PchipInterpolator]:
        """1/C_H against charge, and its integral."""
        one = PchipInterpolator(self.surface_charge, 1 / np.asarray(self.stern_capacitance))
        return one, one.antiderivative()
