"""Any solution of PyBaMM as a Dataset with named dims, coordinates and units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
import xarray as xr

from continuum.cell import pybamm


def as_dataset(
    solution: pybamm.Solution,
    *,
    variables: Sequence[str] = ("Voltage [V]", "Current [A]", "Discharge capacity [A.h]"),
) -> xr.Dataset:
    """Turn a PyBaMM solution into a Dataset with named dims, coordinates and units.

    ``"Negative particle concentration [mol.m-3]"`` becomes `negative_particle_concentration` with
    units ``mol m-3`` and PyBaMM's name as `long_name`; a variable without brackets has units 1.
    The axes are ``x`` over the whole cell, and else the axis with its domain, such as
    ``x_separator`` or ``r_negative_particle``, with ``_edges`` at the end for what PyBaMM keeps
    on the edges of its mesh (fluxes); ``time`` (s) comes last. Values are those of the mesh, not
    interpolated.

    Parameters
    ----------
    solution : pybamm.Solution
        Of any model and experiment, also a saved one or one that kept only `output_variables`.
    variables : sequence of str
        PyBaMM's names of what to take.

    Returns
    -------
    xarray.Dataset
        One variable for each name; current positive on discharge; attrs `sign`, `model` and
        `outcome`.

    Raises
    ------
    ValueError
        Lists every fault: names that the solution does not have, with the nearest right one,
        variables with more than two axes in space, two names that become the same.

    Examples
    --------
    >>> simulation = pybamm.Simulation(pybamm.lithium_ion.SPM())
    >>> solution = simulation.solve([0, 600], t_interp=np.linspace(0, 600, 7))
    >>> profile = as_dataset(solution, variables=["X-averaged negative particle concentration"
    ...                                           " [mol.m-3]"])
    >>> dict(profile.sizes)
    {'r_negative_particle': 20, 'time': 7}
    """
    faults, columns, coordinates = [], {}, {}
    only_some = solution.variables_returned
    available = list(solution.data if only_some else solution.all_models[0].variables)
    for name in variables:
        if name not in available:
            near = get_close_matches(name, available, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            faults.append(f"{name!r} is not in the solution{hint}")
            continue
        label, units = _label_and_units(name)
        if label in columns:
            faults.append(f"{name!r} and another name both become {label!r}")
            continue
        axes = _axes(solution[name])
        if axes is None:
            faults.append(f"{name!r} has more than two axes in space, or one that is no line")
            continue
        for axis, points in axes.items():
            coordinates[axis] = (axis, points, {"units": "m"})
        attrs = {"units": units, "long_name": name}
        columns[label] = ((*axes, "time"), np.asarray(solution[name].entries), attrs)
    if faults:
        raise ValueError("Variables of the cell: " + "; ".join(faults) + ".")
    return xr.Dataset(
        columns,
        coords={**coordinates, "time": ("time", solution.t, {"units": "s"})},
        attrs={
            "sign": "discharge positive",
            "model": solution.all_models[0].name,
            "outcome": f"stopped by the {solution.termination}",
            "solver": f"PyBaMM {pybamm.__version__}",
        },
    )


def _label_and_units(name: str) -> tuple[str, str]:
    label, bracket, rest = name.rpartition(" [")
    if not bracket or not rest.endswith("]"):
        label, units = name, "1"
    else:
        units = rest[:-1].replace(".", " ")
    return re.sub(r"\W+", "_", label).strip("_").lower(), units


def _axes(variable: pybamm.ProcessedVariable) -> dict[str, np.ndarray] | None:
    """Points (m) of each axis in space, or None if there are more than two or one is no line."""
    if variable.dimensions > 2:
        return None
    base = variable.base_variables[0]
    levels = [("primary", base.mesh), ("secondary", getattr(base, "secondary_mesh", None))]
    axes = {}
    for index, (level, mesh) in enumerate(levels[: variable.dimensions]):
        domain = base.domains[level]
        if not isinstance(mesh, pybamm.SubMesh1D) or not domain:
            return None
        letter = "r" if "particle" in domain[0] else "x"
        name = letter if len(domain) > 1 else f"{letter}_{domain[0].replace(' ', '_')}"
        if domain[0].endswith("size"):
            return None
        if variable.entries.shape[index] == len(mesh.nodes):
            axes[name] = np.asarray(mesh.nodes)
        else:
            axes[f"{name}_edges"] = np.asarray(mesh.edges)
    return axes
