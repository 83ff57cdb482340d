"""A cell as plain numbers and tables, read once from a ``pybamm.ParameterValues``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from continuum.cell import pybamm
from continuum.cell_particles import particle_memories
from couplers.residual.features import END

GAS_CONSTANT = float(pybamm.constants.R.value)
FARADAY = float(pybamm.constants.F.value)
CONCENTRATIONS = np.linspace(1.0, 8001.0, 8001)  # mol m-3, of the electrolyte's tables
STOICHIOMETRIES = np.linspace(5e-5, 1 - 5e-5, 40001)
# what memories that become shells still resolve (s), and how many there are in a decade of rates
SHELL_TIME, SHELLS_PER_DECADE = 0.1, 3
ROUNDING = 1e-8


@dataclass(frozen=True, eq=False)
class Electrode:
    """One porous electrode at one temperature; the arrays are tables or memories.

    `memory_rates` (s-1) and `memory_weights` (1) are those of
    `continuum.cell_particles.particle_memories`. Where the solid
    diffusivity depends on the stoichiometry, `particle_diffusivity` is the smallest one, to which
    the memories belong.
    """

    thickness: float  # m
    porosity: float
    electrolyte_transport: float  # porosity ** Bruggeman coefficient
    area_density: float  # m-1, of particle surface
    conductivity: float  # S m-1, effective
    particle_radius: float  # m
    particle_diffusivity: float  # m2 s-1
    maximum_concentration: float  # mol m-3
    rate: float  # j0 = rate sqrt(c_e x (1 - x)), A m-2 (mol m-3)^-1/2
    potential: np.ndarray  # V, on STOICHIOMETRIES
    potential_known: tuple[float, float]  # stoichiometries within which it is not extrapolated
    stoichiometry_empty: float
    stoichiometry_full: float
    memory_rates: np.ndarray
    memory_weights: np.ndarray
    diffusivity_ratio: np.ndarray | None = None  # to the smallest, on STOICHIOMETRIES; if not 1


@dataclass(frozen=True, eq=False)
class Cell:
    """A lithium-ion cell at one temperature, as the batched solvers read it."""

    negative: Electrode
    positive: Electrode
    separator_thickness: float  # m
    separator_porosity: float
    separator_transport: float
    area: float  # m2, of all electrode pairs in parallel
    capacity: float  # A h
    temperature: float  # K
    concentration: float  # mol m-3, of the electrolyte at rest
    transference_number: float
    diffusivity: np.ndarray  # m2 s-1, on CONCENTRATIONS
    conductivity: np.ndarray  # S m-1, on CONCENTRATIONS
    thermodynamic_factor: np.ndarray  # on CONCENTRATIONS
    lower_voltage: float  # V
    upper_voltage: float  # V

    @property
    def known(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Stoichiometries within which each electrode's potential is known, negative first."""
        return self.negative.potential_known, self.positive.potential_known

    @property
    def thermal_voltage(self) -> float:
        """RT/F (V)."""
        return GAS_CONSTANT * self.temperature / FARADAY


def read_cell(values: pybamm.ParameterValues, *, temperature: float | None = None) -> Cell:
    r"""Read a cell from PyBaMM's parameters and check that the batched solvers can hold it.

    Parameters
    ----------
    values : pybamm.ParameterValues
        A complete set without inputs. PyBaMM's functions are evaluated as PyBaMM does. The solid
        diffusivities may depend on the stoichiometry.
    temperature : float, optional
        Temperature (K) of the cell, uniform and constant; the set's ambient one if not given.

    Returns
    -------
    Cell
        Numbers, and tables on `STOICHIOMETRIES` and `CONCENTRATIONS`.

    Raises
    ------
    ValueError
        Lists every fault: a solid diffusivity that is not positive throughout, an
        exchange-current density that is not proportional to
        :math:`\sqrt{c_\mathrm{e} x (1 - x)}`, a transference number that depends on the
        concentration, a contact resistance, something that is lacking.

    Examples
    --------
    >>> cell = read_cell(pybamm.ParameterValues("Marquis2019"))
    >>> round(cell.capacity, 4), cell.transference_number
    (0.6806, 0.4)
    """
    parameters = pybamm.LithiumIonParameters()
    faults: list[str] = []
    try:
        T = float(values["Ambient temperature [K]"] if temperature is None else temperature)
        at_empty_and_full = pybamm.lithium_ion.get_min_max_stoichiometries(values)
        x0, x100, y100, y0 = (float(value) for value in at_empty_and_full)
        negative = _electrode(values, parameters.n, T, (x0, x100), faults)
        positive = _electrode(values, parameters.p, T, (y0, y100), faults)
        salt = pybamm.Array(CONCENTRATIONS[:, None])
        diffusivity = _evaluated(values, parameters.D_e(salt, pybamm.Scalar(T)), salt.size)
        conductivity = _evaluated(values, parameters.kappa_e(salt, pybamm.Scalar(T)), salt.size)
        transference = _evaluated(values, parameters.t_plus(salt, pybamm.Scalar(T)), salt.size)
        chi = _evaluated(values, parameters.chi(salt, pybamm.Scalar(T)), salt.size)
        if np.ptp(transference) > ROUNDING:
            faults.append("the transference number depends on the concentration")
        contact = values.get("Contact resistance [Ohm]", 0)
        if contact != 0:
            faults.append(f"there is a contact resistance of {contact} ohm, expected 0")
        in_series = values.get("Number of cells connected in series to make a battery", 1)
        if in_series != 1:
            faults.append(f"there are {in_series} cells in series, expected 1")
        number = {
            name: float(values[name])
            for name in (
                "Separator thickness [m]",
                "Separator porosity",
                "Separator Bruggeman coefficient (electrolyte)",
                "Electrode height [m]",
                "Electrode width [m]",
                "Number of electrodes connected in parallel to make a cell",
                "Nominal cell capacity [A.h]",
                "Initial concentration in electrolyte [mol.m-3]",
                "Lower voltage cut-off [V]",
                "Upper voltage cut-off [V]",
            )
        }
    except KeyError as error:
        lacking = str(error.args[0]).split(" not found")[0]
        raise ValueError(
            f"These parameter values are no full lithium-ion cell: {lacking} is lacking."
        ) from error
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"These parameter values cannot be evaluated as they stand ({error}); inputs such as "
            "'[input]' must be given their numbers first."
        ) from error
    if faults:
        raise ValueError("The batched solvers cannot hold this cell: " + "; ".join(faults) + ".")
    porosity = number["Separator porosity"]
    # without salt gradients, where the cation carries all current, there is no factor to be found
    mobile = transference < 1
    factor = np.divide(chi, 2 * (1 - transference), out=np.ones_like(chi), where=mobile)
    return Cell(
        negative=negative,
        positive=positive,
        separator_thickness=number["Separator thickness [m]"],
        separator_porosity=porosity,
        separator_transport=porosity ** number["Separator Bruggeman coefficient (electrolyte)"],
        area=number["Electrode height [m]"]
        * number["Electrode width [m]"]
        * number["Number of electrodes connected in parallel to make a cell"],
        capacity=number["Nominal cell capacity [A.h]"],
        temperature=T,
        concentration=number["Initial concentration in electrolyte [mol.m-3]"],
        transference_number=float(transference[0]),
        diffusivity=diffusivity,
        conductivity=conductivity,
        thermodynamic_factor=factor,
        lower_voltage=number["Lower voltage cut-off [V]"],
        upper_voltage=number["Upper voltage cut-off [V]"],
    )


def potential_known(
    values: pybamm.ParameterValues, domain: pybamm.DomainLithiumIonParameters
) -> tuple[float, float]:
    """Stoichiometries between which an open-circuit potential is that of its law or its table.

    Beyond a table PyBaMM's compiled and uncompiled solves continue it differently. A law is taken
    to hold to `END` from 0 and 1.
    """
    T = values["Ambient temperature [K]"]
    symbol = values.process_symbol(domain.prim.U(pybamm.StateVector(slice(0, 1)), T))
    low, high = END, 1 - END
    for part in symbol.pre_order():
        if not isinstance(part, pybamm.Interpolant):
            continue
        grid, middle = np.ravel(part.x[0]), 0.5 * (low + high)
        # PyBaMM clips the stoichiometry before it looks into the table
        looked_up = part.children[0].evaluate(y=np.array([[middle]]))
        if np.isclose(np.ravel(looked_up)[0], middle):
            low, high = max(low, float(grid[0])), min(high, float(grid[-1]))
    return low, high


def _evaluated(
    values: pybamm.ParameterValues, symbol: pybamm.Symbol | float, size: int
) -> np.ndarray:
    found = values.process_symbol(symbol) if isinstance(symbol, pybamm.Symbol) else symbol
    number = found.evaluate() if isinstance(found, pybamm.Symbol) else found
    return np.array(np.broadcast_to(np.ravel(np.asarray(number, dtype=float)), (size,)))


def _electrode(
    values: pybamm.ParameterValues,
    domain: pybamm.DomainLithiumIonParameters,
    temperature: float,
    empty_and_full: tuple[float, float],
    faults: list[str],
) -> Electrode:
    name = domain.domain.capitalize()
    T = pybamm.Scalar(temperature)
    maximum = float(values.evaluate(domain.prim.c_max))
    radius = float(values[f"{name} particle radius [m]"])
    few = np.linspace(0.02, 0.98, 9)
    x = pybamm.Array(STOICHIOMETRIES[:, None])
    solid = _evaluated(values, domain.prim.D(x * maximum, T), STOICHIOMETRIES.size)
    wrong = STOICHIOMETRIES[~(np.isfinite(solid) & (solid > 0))]
    if wrong.size:
        faults.append(
            f"the {name.lower()} particle's diffusivity is not positive at some stoichiometries "
            f"from {wrong[0]:.4g} to {wrong[-1]:.4g}"
        )
        solid = np.ones_like(solid)
    diffusivity, ratio = float(solid.min()), None
    if np.ptp(solid) <= ROUNDING * solid.max():
        rates, weights = particle_memories(radius, diffusivity)
    else:
        ratio = solid / diffusivity
        rates, weights = particle_memories(
            radius, diffusivity, shortest_time=SHELL_TIME, per_decade=SHELLS_PER_DECADE
        )
    salt = np.array([50.0, 1000.0, 3000.0])
    rate = np.array(
        [
            _evaluated(
                values,
                domain.prim.j0(
                    pybamm.Array(np.full((9, 1), c)), pybamm.Array(few[:, None] * maximum), T
                ),
                9,
            )
            / np.sqrt(c * few * (1 - few))
            for c in salt
        ]
    )
    if np.ptp(rate) > ROUNDING * rate.max():
        faults.append(
            f"the {name.lower()} exchange-current density is not proportional to "
            "sqrt(c_e x (1 - x))"
        )
    porosity = float(values[f"{name} electrode porosity"])
    fraction = float(values[f"{name} electrode active material volume fraction"])
    return Electrode(
        thickness=float(values[f"{name} electrode thickness [m]"]),
        porosity=porosity,
        electrolyte_transport=porosity
        ** float(values[f"{name} electrode Bruggeman coefficient (electrolyte)"]),
        area_density=3 * fraction / radius,
        conductivity=float(values[f"{name} electrode conductivity [S.m-1]"])
        * (1 - porosity) ** float(values[f"{name} electrode Bruggeman coefficient (electrode)"]),
        particle_radius=radius,
        particle_diffusivity=diffusivity,
        maximum_concentration=maximum,
        rate=float(rate.ravel()[0]),
        potential=_evaluated(values, domain.prim.U(x, T), STOICHIOMETRIES.size),
        potential_known=potential_known(values, domain),
        stoichiometry_empty=empty_and_full[0],
        stoichiometry_full=empty_and_full[1],
        memory_rates=rates,
        memory_weights=weights,
        diffusivity_ratio=ratio,
    )
