"""Steady polarisation of a slab of electrolyte: in closed form, by FEM, and in a PyBaMM half-cell.

The half-cell's DFN is given a porous electrode so thin and open that its separator is the slab.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

from continuum.cell import pybamm
from continuum.concentrated import polarise
from continuum.inputs import FARADAY, Electrolyte
from couplers.battery import parameter_values

LONG = 40.0  # s, many times thickness^2 / D
THIN = 2e-7  # m


def exact_limit(electrolyte: Electrolyte, thickness: float) -> float:
    r"""Current density (A m-2) that empties the slab at one end.

    :math:`iL/F = \int_0^{c_1} D / (1 - t_+) dc`, with :math:`c_1` from the salt in the slab.
    """

    def weight(c: float) -> float:
        T = electrolyte.temperature
        return electrolyte.diffusivity(c, T) / (1 - electrolyte.transference_number(c, T))

    def integral(function: Callable[[float], float], highest: float) -> float:
        return quad(function, 1e-9, highest, epsabs=0, epsrel=1e-10)[0]

    def surplus(highest: float) -> float:
        mean = integral(lambda c: c * weight(c), highest) / integral(weight, highest)
        return mean - electrolyte.concentration

    highest = brentq(surplus, 1.01 * electrolyte.concentration, 6 * electrolyte.concentration)
    return FARADAY / thickness * integral(weight, highest)


def last_in_slab(electrolyte: Electrolyte, thickness: float, current: float) -> float:
    """Concentration (mol m-3) where the cations leave, by `continuum.concentrated`."""
    field = polarise(electrolyte, thickness=thickness, current_density=current)
    return float(field["concentration"][0, -1])


def last_in_half_cell(electrolyte: Electrolyte, thickness: float, current: float) -> float:
    """The same in PyBaMM's half-cell DFN."""
    values = parameter_values(electrolyte, base="Xu2019")
    area = values["Electrode height [m]"] * values["Electrode width [m]"]
    values.update(
        {
            "Separator thickness [m]": thickness,
            "Separator porosity": 1.0,
            "Separator Bruggeman coefficient (electrolyte)": 1.0,
            "Positive electrode thickness [m]": THIN,
            "Positive electrode porosity": 0.9,
            "Positive electrode Bruggeman coefficient (electrolyte)": 0.0,
            "Positive electrode active material volume fraction": 0.1,
            "Positive electrode exchange-current density [A.m-2]": 1e6,
            "Positive electrode OCP [V]": 3.0,
            "Positive particle diffusivity [m2.s-1]": 1e-6,
            "Maximum concentration in positive electrode [mol.m-3]": 1e12,
            "Initial concentration in positive electrode [mol.m-3]": 5e11,
            "Exchange-current density for lithium metal electrode [A.m-2]": 1e4,
            "Lower voltage cut-off [V]": -100.0,
            "Upper voltage cut-off [V]": 100.0,
            "Current function [A]": current * area,
            "Nominal cell capacity [A.h]": 1.0,
        }
    )
    simulation = pybamm.Simulation(
        pybamm.lithium_ion.DFN({"working electrode": "positive"}),
        parameter_values=values,
        solver=pybamm.IDAKLUSolver(rtol=1e-7, atol=1e-8),
        var_pts={"x_n": 3, "x_s": 200, "x_p": 5, "r_n": 3, "r_p": 3},
    )
    solution = simulation.solve([0, LONG], t_interp=np.array([0, LONG]))
    return float(solution["Electrolyte concentration [mol.m-3]"].entries[-1, -1])


def limit(
    last: Callable[[Electrolyte, float, float], float],
    electrolyte: Electrolyte,
    thickness: float,
    about: float,
) -> float:
    """Current density (A m-2) at which `last` would be 0, from two steady states just below."""
    near, nearer = (last(electrolyte, thickness, share * about) for share in (0.98, 0.99))
    return about * (0.99 + 0.01 * nearer / (near - nearer))
