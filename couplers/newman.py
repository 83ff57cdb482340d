r"""From a TRANSPORT to Newman's four properties: frames, signs and definitions, by their words.

=================================== ======================= =====================================
attribute                           words                   what the word says
=================================== ======================= =====================================
``frame``                           solvent, mass           frame of `onsager` and of
                                                            `transference_number`
``transference_number_of``          cation, anion           whose number it is
``thermodynamic_factor_definition`` molar, molal            1 + d ln f / d ln c, or
                                                            1 + d ln gamma / d ln m
=================================== ======================= =====================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.constants import Avogadro

from atomistic.observables.onsager import (
    ionic_conductivity,
    salt_diffusion,
    to_solvent_frame,
    transference,
)
from atomistic.schema import TRANSPORT
from couplers.contract import ContractError, check

AGREEMENT = 1e-6  # relative, of a salt diffusivity with the matrix it belongs to
_ESTIMATE: dict[str, Any] = {"dims": ("condition",), "estimate": True, "optional": True}
_OPTIONAL = {
    "molar_mass": {"dims": ("species",), "units": "kg mol-1", "above": 0.0, "optional": True},
    "mass_density": {"dims": ("condition",), "units": "kg m-3", "above": 0.0, "optional": True},
    "salt_molar_volume": {"dims": ("condition",), "units": "m3 mol-1", "optional": True},
}
WORDS = {
    "thermodynamic_factor": ("thermodynamic_factor_definition", ("molar", "molal")),
    "transference_number": ("transference_number_of", ("cation", "anion")),
}

NEWMAN: dict[str, Any] = {
    "name": "NEWMAN",
    "variables": {
        "temperature": {"dims": ("condition",), "units": "K", "above": 0.0},
        "salt_concentration": {"dims": ("condition",), "units": "mol m-3", "above": 0.0},
        "conductivity": {**_ESTIMATE, "units": "S m-1", "above": 0.0},
        "salt_diffusivity": {**_ESTIMATE, "units": "m2 s-1", "above": 0.0},
        "transference_number": {**_ESTIMATE, "units": "1"},
        "thermodynamic_factor": {**_ESTIMATE, "units": "1", "above": 0.0},
    },
    "attrs": {
        "frame": ("solvent",),
        "transference_number_of": ("cation",),
        "thermodynamic_factor_definition": ("molar",),
    },
}


def newman(transport: xr.Dataset, *, seed: int = 0) -> xr.Dataset:
    r"""Give the four properties of a 1:1 salt in a solvent as Newman's equations read them.

    .. math::
        \kappa = F^2 S, \qquad t_+^0 = \frac{L^0_{++} - L^0_{+-}}{S}, \qquad
        D = \frac{2RT}{c} \frac{L^0_{++} L^0_{--} - (L^0_{+-})^2}{S}
            \Bigl(1 + \frac{d \ln \gamma_\pm}{d \ln m}\Bigr),

    .. math::
        \chi = 1 + \frac{d \ln f_\pm}{d \ln c}
             = \Bigl(1 + \frac{d \ln \gamma_\pm}{d \ln m}\Bigr)
               \Bigl(1 - \frac{d \ln c_0}{d \ln c}\Bigr), \qquad
        1 - \frac{d \ln c_0}{d \ln c} = \frac{1}{1 - c \bar V},

    with :math:`S = L_{++} + L_{--} - 2 L_{+-}`, the solvent's frame marked 0, and constant partial
    molar volumes. A mass-frame matrix is taken to the solvent's frame by the congruence of
    `atomistic.observables.onsager.to_solvent_frame`; without a matrix the number itself is,

    .. math::
        t_+^0 = \frac{t_+^M - c M_- / \rho}{1 - c (M_+ + M_-) / \rho}.

    Every draw is converted as a whole, so that the four keep their correlations.

    ============================ ==============================================================
    symbol                       variable
    ============================ ==============================================================
    :math:`c`                    ``salt_concentration``, or the cations' ``number_density``
    :math:`L_{ij}`               ``onsager``, in ``frame``
    :math:`\kappa, t_+, D, \chi` ``conductivity``, ``transference_number``,
                                 ``salt_diffusivity``, ``thermodynamic_factor``
    :math:`M_i, \rho`            ``molar_mass``, ``mass_density``: needed in the mass frame
    :math:`\bar V`               ``salt_molar_volume``: needed to change the definition of the
                                 factor, and for D from a matrix, which contains the molal one
    ============================ ==============================================================

    Parameters
    ----------
    transport : xarray.Dataset
        A TRANSPORT of a liquid, or only the four properties over ``condition`` with their words;
        with `onsager` it must carry `onsager_draw`.
    seed : int
        Seed of the draws of a thermodynamic factor that comes with ``_std`` only.

    Returns
    -------
    xarray.Dataset
        NEWMAN: `conductivity` (S m-1) and, where they follow, `salt_diffusivity` (m2 s-1),
        `transference_number` (1, cation, solvent frame) and `thermodynamic_factor` (1, molar),
        with ``_std`` and ``_draw``. Conditions that are not diffusive are left out, and the
        attribute ``left_out`` says how many.

    Raises
    ------
    ContractError
        Lists every breach of the schema, missing convention words among them.
    ValueError
        Lists every other fault: not a 1:1 salt, a frame that cannot be converted, a variable
        that a conversion needs, a salt diffusivity that does not belong to the matrix, a cation
        that carries more than the whole current.

    References
    ----------
    Newman, Thomas-Alyea, Electrochemical Systems, 3rd ed., chapter 12, ISBN 0471477567;
    Miller, J. Phys. Chem. 70, 2639 (1966), https://doi.org/10.1021/j100880a033
    """
    matrix = "onsager" in transport
    transport = check(transport, _schema(transport, matrix=matrix))
    known = np.ones(transport.sizes["condition"], dtype=bool)
    for name in NEWMAN["variables"]:
        if f"{name}_std" in transport:
            known &= np.isfinite(transport[name].values)
    kept = np.flatnonzero(known)
    left_out = len(known) - len(kept)
    transport = transport.isel(condition=kept)
    _refuse(transport, matrix=matrix)
    charge, cation = _charges(transport)
    c = _concentration(transport, cation)
    T = transport["temperature"].values
    columns = {
        name: (transport[name].values, _draws(transport, name), transport[f"{name}_std"].values)
        for name in NEWMAN["variables"]
        if f"{name}_std" in transport
    }
    shrink = 1.0
    if "salt_molar_volume" in transport:
        shrink = 1.0 - c * transport["salt_molar_volume"].values
    if "thermodynamic_factor" in columns:
        value, draws, std = columns["thermodynamic_factor"]
        if matrix and draws is None and np.isfinite(std).all():
            rng = np.random.default_rng(seed)
            noise = rng.standard_normal((len(c), transport.sizes["draw"]))
            draws = value[:, None] * np.exp((std / value)[:, None] * noise)
        columns["thermodynamic_factor"] = (value, draws, std)
    if matrix:
        columns |= _from_matrix(transport, columns, charge, cation, c, T, shrink)
    elif "transference_number" in columns:
        columns["transference_number"] = _solvent_number(
            transport, columns["transference_number"], cation, c
        )
    if "thermodynamic_factor" in columns and _word(transport, "thermodynamic_factor") == "molal":
        columns["thermodynamic_factor"] = _affine(
            columns["thermodynamic_factor"], 0.0, 1.0 / shrink
        )
    number = columns.get("transference_number")
    if number is not None and (number[0] >= 1).any():
        raise ValueError(
            f"Newman: transference_number is {number[0].max():.3g} in the solvent frame, but must "
            "be below 1; check the words of frame and transference_number_of."
        )
    return _dataset(transport, columns, c, left_out)


def _schema(transport: xr.Dataset, *, matrix: bool) -> dict[str, Any]:
    """What the gate asks for: the words of what is there, and no more."""
    declared: dict[str, Any] = dict(TRANSPORT)
    whole = matrix or "self_diffusivity" in transport
    base = declared if whole else NEWMAN
    attrs = dict(declared["attrs"]) if whole else {"frame": declared["attrs"]["frame"]}
    for name, (word, allowed) in WORDS.items():
        if name in transport and not (matrix and name == "transference_number"):
            attrs[word] = allowed
    return {
        "name": f"{base['name']} of a liquid",
        "variables": {**base["variables"], **_OPTIONAL},
        "attrs": attrs,
    }


def _refuse(transport: xr.Dataset, *, matrix: bool) -> None:
    frame = transport.attrs["frame"]
    faults = []
    if not transport.sizes["condition"]:
        faults.append("no condition is diffusive")
    if frame not in ("solvent", "mass"):
        faults.append(f"the frame is {frame!r}, but only 'mass' is converted to 'solvent'")
    needs_number = matrix or "transference_number" in transport
    if frame == "mass" and needs_number:
        faults += [
            f"{name} is missing, which the step from the mass frame to the solvent's needs"
            for name in ("molar_mass", "mass_density", "charge_number")
            if name not in transport
        ]
    factor = "thermodynamic_factor" in transport
    molal = factor and _word(transport, "thermodynamic_factor") == "molal"
    if factor and (matrix or molal) and "salt_molar_volume" not in transport:
        faults.append(
            "salt_molar_volume (m3 mol-1) is missing, which tells the molar thermodynamic factor "
            "from the molal one"
        )
    if matrix and "onsager_draw" not in transport:
        faults.append("onsager_draw is missing, which carries the errors of what follows from it")
    if "salt_concentration" not in transport and "number_density" not in transport:
        faults.append("salt_concentration (mol m-3) is missing")
    if "charge_number" in transport:
        charge = sorted(transport["charge_number"].values.tolist())
        if charge != [-1.0, 1.0]:
            said = ", ".join(f"{one:+g}" for one in charge)
            faults.append(f"the ions have the charges {said}, but must be those of a 1:1 salt")
    elif matrix:
        faults.append("charge_number is missing")
    if faults:
        raise ValueError("Newman: " + "; ".join(faults) + ".")


def _word(transport: xr.Dataset, name: str) -> str:
    return str(transport.attrs[WORDS[name][0]])


def _charges(transport: xr.Dataset) -> tuple[np.ndarray, int]:
    charge = transport["charge_number"].values if "charge_number" in transport else np.array([1.0])
    return charge, int(np.argmax(charge > 0))


def _concentration(transport: xr.Dataset, cation: int) -> np.ndarray:
    if "salt_concentration" in transport:
        return transport["salt_concentration"].values
    return transport["number_density"].values[:, cation] / Avogadro


def _draws(transport: xr.Dataset, name: str) -> np.ndarray | None:
    """Draws (condition, draw) if there are any."""
    if f"{name}_draw" not in transport:
        return None
    return transport[f"{name}_draw"].transpose("condition", "draw").values


Column = tuple[np.ndarray, np.ndarray | None, np.ndarray]


def _affine(column: Column, shift: Any, scale: Any) -> Column:
    """Take shift + scale * x of a value, its draws and its error, each (condition)."""
    value, draws, std = column
    shift, scale = np.broadcast_arrays(shift, scale * np.ones_like(value))
    moved = None if draws is None else shift[:, None] + scale[:, None] * draws
    return shift + scale * value, moved, np.abs(scale) * std


def _solvent_number(transport: xr.Dataset, column: Column, cation: int, c: np.ndarray) -> Column:
    if _word(transport, "transference_number") == "anion":
        column = _affine(column, 1.0, -1.0)
    if transport.attrs["frame"] == "mass":
        share = c[:, None] * transport["molar_mass"].values
        share = share / transport["mass_density"].values[:, None]
        scale = 1.0 / (1.0 - share.sum(1))
        column = _affine(column, -share[:, 1 - cation] * scale, scale)
    return column


def _from_matrix(
    transport: xr.Dataset,
    columns: dict[str, Column],
    charge: np.ndarray,
    cation: int,
    c: np.ndarray,
    T: np.ndarray,
    shrink: Any,
) -> dict[str, Column]:
    """Conductivity, transference number and, with a factor, salt diffusivity of the matrix."""
    L = transport["onsager"].values
    sample = transport["onsager_draw"].transpose("condition", "draw", "species", "partner").values
    if transport.attrs["frame"] == "mass":
        weight = transport["molar_mass"].values / transport["mass_density"].values[:, None]
        ions = np.repeat(c[:, None], 2, axis=1)
        L = np.stack([to_solvent_frame(*row) for row in zip(L, ions, weight, strict=True)])
        sample = np.stack(
            [to_solvent_frame(*row) for row in zip(sample, ions, weight, strict=True)]
        )
    found = {
        "conductivity": (ionic_conductivity(L, charge), ionic_conductivity(sample, charge)),
        "transference_number": (
            transference(L, charge)[..., cation],
            transference(sample, charge)[..., cation],
        ),
    }
    if "thermodynamic_factor" in columns:
        molar = _word(transport, "thermodynamic_factor") == "molar"
        value, draws, _ = _affine(columns["thermodynamic_factor"], 0.0, shrink if molar else 1.0)
        wide = value[:, None] if draws is None else draws
        # D is proportional to T / c and to the factor
        D, drawn = (
            scale * salt_diffusion(each, 1.0, 1.0, 1.0)
            for each, scale in ((L, T / c * value), (sample, (T / c)[:, None] * wide))
        )
        if "salt_diffusivity" in columns:
            given = columns["salt_diffusivity"][0]
            wrong = np.flatnonzero(abs(given - D) > AGREEMENT * abs(D))
            if len(wrong):
                raise ValueError(
                    f"Newman: salt_diffusivity is {given[wrong[0]]:.5g} m2 s-1 at condition "
                    f"{wrong[0]}, but the Onsager matrix and the thermodynamic factor give "
                    f"{D[wrong[0]]:.5g}; check the words of the frame and of the factor."
                )
        found["salt_diffusivity"] = (D, drawn)
    return {name: (value, draws, draws.std(1)) for name, (value, draws) in found.items()}


def _dataset(
    transport: xr.Dataset, columns: dict[str, Column], c: np.ndarray, left_out: int
) -> xr.Dataset:
    T = transport["temperature"].values
    out = xr.Dataset(
        {
            "temperature": ("condition", T, {"units": "K"}),
            "salt_concentration": ("condition", c, {"units": "mol m-3"}),
        },
        attrs={word: allowed[0] for word, allowed in NEWMAN["attrs"].items()}
        | {"left_out": f"{left_out} of {left_out + len(c)} conditions"},
    )
    for name, (value, draws, std) in columns.items():
        units = {"units": NEWMAN["variables"][name]["units"]}
        out[name] = ("condition", value, units)
        out[f"{name}_std"] = ("condition", np.where(std > 0, std, np.nan), units)
        if draws is not None:
            out[f"{name}_draw"] = (("condition", "draw"), draws, units)
    if "draw" in out.sizes and "member" in transport.coords:
        out = out.assign_coords(member=transport["member"])
    try:
        return check(out, NEWMAN)
    except ContractError as error:
        raise ValueError(f"Newman: what follows is not physical. {error}") from error
