r"""How energies answer to a field: dipoles, adsorption, vibrations, work functions.

.. math:: E(F) = E_0 - \mu F - \tfrac12 \alpha F^2

of a molecule, a surface or an adsorption energy, whose :math:`\mu` and :math:`\alpha` are then the
differences that shift it in the field of a double layer (the Stark effect of its energy). So it is
with a quantum of vibration, :math:`E = hc\,\tilde\nu`, whose slope :math:`d\tilde\nu/dF` is the
Stark tuning rate of spectroscopy. A layer of dipoles shifts the work function of the surface under
it,

.. math:: \Delta\Phi = -\frac{e\,\mu N \theta}{\varepsilon_0}
          \frac{1}{1 + 9\alpha (N\theta)^{3/2} / (4\pi\varepsilon_0)}

with N sites per area of which a share :math:`\theta` is taken; :math:`\mu` is positive if its
positive end points away from the surface, which lowers the work function.

References
----------
Topping, Proc. R. Soc. A 114, 67 (1927), https://doi.org/10.1098/rspa.1927.0025

Lambert, Phys. Rev. Lett. 51, 2233 (1983), https://doi.org/10.1103/PhysRevLett.51.2233.2

Ciampi, Darwish, Aitken, Diez-Perez, Coote, Chem. Soc. Rev. 47, 5146 (2018),
https://doi.org/10.1039/C8CS00352A
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch_sim as ts
import xarray as xr
from ase import Atoms
from scipy import constants
from scipy.optimize import curve_fit, linear_sum_assignment
from torch_sim.models.interface import ModelInterface

from atomistic.electrostatics.coulomb import Coulomb
from atomistic.electrostatics.electrodes import ConstantPotential
from atomistic.electrostatics.geometry import Electrode
from atomistic.units import ANGSTROM, ELECTRONVOLT

SI_FIELD = 1.0 / ANGSTROM  # V m-1, of a V Å-1
SI_DIPOLE = ELECTRONVOLT * ANGSTROM  # C m, of an e Å
SI_POLARISABILITY = ELECTRONVOLT * ANGSTROM**2  # C m2 V-1, of an e Å2 V-1
QUANTUM = constants.h * constants.c / ELECTRONVOLT  # eV, of a m-1
STIFFNESS = ELECTRONVOLT / ANGSTROM**2 / constants.atomic_mass  # s-2, of an eV Å-2 u-1
SOFTEST = 0.05  # eV Å-2 with which a step to rest reckons at least
FARTHEST = 0.1  # Å, of a step to rest
MOST_STEPS = 40  # to rest


def expansion(
    energy: Sequence[float], field: Sequence[float], *, error: float | None = None
) -> xr.Dataset:
    """Fit dipole moment (C m) and polarisability (C m2 V-1) to energies in fields.

    Parameters
    ----------
    energy : sequence of float
        Energies (eV) in each field.
    field : sequence of float
        Fields (V m-1) along the direction that is asked for, three or more; on both sides of none.
    error : float, optional
        Standard error (eV) of an energy; from the scatter about the fit if not given and there are
        more than three fields.

    Returns
    -------
    xarray.Dataset
        ``energy`` (eV) without a field, ``dipole_moment`` and ``polarisability``, each with
        ``_std``.

    Raises
    ------
    ValueError
        If there are too few fields, or not as many energies.

    Examples
    --------
    >>> found = expansion([-0.11, 0.0, 0.09], [-1e9, 0.0, 1e9])
    >>> round(float(found["dipole_moment"]) / 3.33564e-30, 3)  # Debye
    -4.803
    """
    strength = np.asarray(field, float) / SI_FIELD
    value = np.asarray(energy, float)
    if len(strength) < 3 or value.shape != strength.shape or len(np.unique(strength)) < 3:
        raise ValueError(
            f"expansion: {value.size} energies in {len(np.unique(strength))} different fields were "
            "given; give one energy for each of three fields or more."
        )
    scale = np.abs(strength).max()
    design = np.column_stack(
        [np.ones_like(strength), -strength / scale, -0.5 * (strength / scale) ** 2]
    )
    best, _, _, _ = np.linalg.lstsq(design, value, rcond=None)
    inverse = np.linalg.inv(design.T @ design)
    freedom = len(value) - 3
    if error is None:
        rest = value - design @ best
        error = float(np.sqrt(rest @ rest / freedom)) if freedom else np.nan
    spread = np.sqrt(np.diag(inverse)) * (error if error > 0 else np.nan)
    rows = {
        "energy": (1.0, 1.0, "eV"),
        "dipole_moment": (scale, SI_DIPOLE, "C m"),
        "polarisability": (scale**2, SI_POLARISABILITY, "C m2 V-1"),
    }
    out = {}
    for n, (name, (size, unit, label)) in enumerate(rows.items()):
        out[name] = ((), best[n] / size * unit, {"units": label})
        out[f"{name}_std"] = ((), spread[n] / size * unit, {"units": label})
    return xr.Dataset(out, attrs={"sign": "positive end towards larger z"})


def adsorption_in_field(
    structure: Atoms,
    electrode: Electrode,
    charges: Mapping[str, float],
    *,
    fields: Sequence[float],
    short_range: ModelInterface | None = None,
    cutoff: float = 9.0,
    accuracy: float = 1e-9,
) -> xr.Dataset:
    r"""Adsorption energy (eV) of a neutral adsorbate on a metal in fields along z.

    .. math:: \Delta E(F) = E_\text{both}(F) - E_\text{metal}(F) - E_\text{adsorbate}(F)

    with the adsorbate's layer, at the same distances, far from the metal as the reference. The
    metal answers to the field and to the adsorbate with its charges, which are solved for.

    Parameters
    ----------
    structure : ase.Atoms
        Metal and adsorbate; the third cell vector along z, as high as what it holds.
    electrode : Electrode
        The metal.
    charges : mapping of str to float
        Charges (e) of the adsorbate's elements.
    fields : sequence of float
        Fields (V m-1) in vacuum, three or more; positive ones point to larger z.
    short_range : torch_sim ModelInterface, optional
        What acts between atoms beside charges.
    cutoff, accuracy : float
        Of Ewald's sums (Å; 1).

    Returns
    -------
    xarray.Dataset
        ``adsorption_energy`` (eV) and ``dipole_moment_in_field`` (C m; of all charges) by
        ``field`` (V m-1), and what `expansion` makes of the adsorption energy.

    Raises
    ------
    ValueError
        If the adsorbate is charged, or as `expansion` and ConstantPotential say.
    """
    strength = np.asarray(fields, float)
    rest = np.setdiff1d(np.arange(len(structure)), electrode.atoms)
    adsorbate, metal = structure[rest], structure[list(electrode.atoms)]
    total = sum(charges.get(symbol, 0.0) for symbol in adsorbate.get_chemical_symbols())
    if abs(total) > 1e-9:
        raise ValueError(
            f"adsorption_in_field: the adsorbate carries {total:+.3g} e; far away in a field it "
            "has no energy of its own. Give a neutral one, or one with its counter-ion."
        )
    inner = (strength / SI_FIELD).tolist()

    def energies(atoms: Atoms, held: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        model = ConstantPotential(
            atoms,
            {"metal": Electrode(tuple(held), **_kept(electrode))},
            charges,
            potentials={"metal": [0.0] * len(inner)},
            fields=inner,
            cutoff=cutoff,
            accuracy=accuracy,
        )
        found = model(_batch(atoms, len(inner)))
        charge = found["charges"].reshape(len(inner), -1).numpy()
        return found["energy"].numpy(), charge @ atoms.positions[:, 2]

    both, dipole = energies(structure, electrode.atoms)
    alone, _ = energies(metal, range(len(metal)))
    layer = Coulomb(charges, slab=True, cutoff=cutoff, accuracy=accuracy)(_batch(adsorbate, 1))
    own = layer["charges"].numpy() @ adsorbate.positions[:, 2]
    apart = float(layer["energy"][0]) - own * np.asarray(inner)
    value = both - alone - apart
    if short_range is not None:
        parts = [
            float(short_range(_batch(one, 1))["energy"][0]) for one in (structure, metal, adsorbate)
        ]
        value = value + parts[0] - parts[1] - parts[2]
    return expansion(value.tolist(), strength.tolist()).assign(
        adsorption_energy=("field", value, {"units": "eV"}),
        dipole_moment_in_field=("field", dipole * SI_DIPOLE, {"units": "C m"}),
        field=("field", strength, {"units": "V m-1"}),
    )


def vibrations_in_field(
    structure: Atoms,
    electrode: Electrode,
    charges: Mapping[str, float],
    *,
    fields: Sequence[float],
    moving: Sequence[int],
    short_range: ModelInterface,
    cutoff: float = 9.0,
    accuracy: float = 1e-9,
    step: float = 0.005,
    tolerance: float = 1e-4,
) -> xr.Dataset:
    r"""Vibrations of an adsorbate on a metal in fields along z, and their Stark tuning rates.

    .. math:: \tilde\nu(F) = \tilde\nu_0 - \frac{1}{hc}
        \left( \Delta\mu\,F + \tfrac12 \Delta\alpha\,F^2 \right), \qquad
        \frac{d\tilde\nu}{dF} = -\frac{\Delta\mu}{hc}

    Harmonic, from central differences of forces, each field at the geometry in which the moving
    atoms come to rest in it: a field changes a frequency through the anharmonicity of a bond that
    it stretches. Modes are numbered at the weakest field and followed from there by their shape.

    Parameters
    ----------
    structure : ase.Atoms
        Metal and adsorbate, not far from rest; the third cell vector along z, as high as what it
        holds.
    electrode : Electrode
        The metal.
    charges : mapping of str to float
        Charges (e) of the adsorbate's elements.
    fields : sequence of float
        Fields (V m-1) in vacuum, three or more; positive ones point to larger z, as before an
        electrode below that is charged positively.
    moving : sequence of int
        Atoms that move, none of the metal.
    short_range : torch_sim ModelInterface
        What acts between atoms beside charges.
    cutoff, accuracy : float
        Of Ewald's sums (Å; 1).
    step : float
        Displacement (Å) of the differences.
    tolerance : float
        Force (eV Å-1) that is rest.

    Returns
    -------
    xarray.Dataset
        ``wavenumber`` (m-1; field, mode), negative where it is imaginary, of modes in rising order;
        ``stark_tuning_rate`` (V-1, a m-1 for a V m-1: 1 cm-1 for a MV cm-1 is 1e-6),
        ``dipole_moment_difference`` (C m) and ``polarisability_difference`` (C m2 V-1) of each
        mode at no field with ``_std``; ``displacement`` (1; mode, atom, xyz), its shape.

    Raises
    ------
    ValueError
        If `moving` is empty or names atoms of the metal or beyond the structure, or as
        `expansion` and ConstantPotential say.
    RuntimeError
        If the moving atoms do not come to rest.
    """
    index = [int(atom) for atom in moving]
    wrong = sorted({n for n in index if n in set(electrode.atoms) or not 0 <= n < len(structure)})
    if not index or wrong:
        raise ValueError(
            f"vibrations_in_field: moving is {index}; name one atom or more of the adsorbate"
            + (f", which {wrong} are not." if wrong else ".")
        )
    strength = (np.asarray(fields, float) / SI_FIELD).tolist()
    size, shape = 3 * len(index), (len(strength), 6 * len(index) + 1)
    shifts = np.vstack([np.zeros((1, size)), step * np.eye(size), -step * np.eye(size)])
    model = ConstantPotential(
        structure,
        {"metal": electrode},
        charges,
        potentials={"metal": [0.0] * int(np.prod(shape))},
        fields=np.repeat(strength, shape[1]).tolist(),
        cutoff=cutoff,
        accuracy=accuracy,
    )
    place = np.tile(structure.positions[index].ravel(), (len(strength), 1))
    for _ in range(MOST_STEPS):
        batch = []
        for row in (place[:, None] + shifts).reshape(-1, len(index), 3):
            batch.append(structure.copy())
            batch[-1].positions[index] = row
        state = ts.io.atoms_to_state(batch, torch.device("cpu"), torch.float64)
        force = model(state)["forces"] + short_range(state)["forces"]
        force = force.numpy().reshape(*shape, -1, 3)[:, :, index].reshape(*shape, size)
        hessian = (force[:, size + 1 :] - force[:, 1 : size + 1]) / (2 * step)
        hessian = 0.5 * (hessian + hessian.transpose(0, 2, 1))
        if np.abs(force[:, 0]).max() < tolerance:
            break
        value, vector = np.linalg.eigh(hessian)
        along = np.einsum("fxm,fx->fm", vector, force[:, 0]) / np.maximum(np.abs(value), SOFTEST)
        place = place + np.einsum("fxm,fm->fx", vector, along).clip(-FARTHEST, FARTHEST)
    else:
        raise RuntimeError(
            f"vibrations_in_field: after {MOST_STEPS} steps a force of "
            f"{np.abs(force[:, 0]).max():.2g} eV Å-1 is left; start nearer to rest, or raise "
            "tolerance."
        )
    root = np.sqrt(np.repeat(structure.get_masses()[index], 3))
    value, vector = np.linalg.eigh(hessian / root / root[:, None])
    weakest = int(np.abs(strength).argmin())
    for n in range(len(strength)):
        same = linear_sum_assignment(-((vector[weakest].T @ vector[n]) ** 2))[1]
        value[n], vector[n] = value[n][same], vector[n][:, same]
    omega = np.sign(value) * np.sqrt(np.abs(value) * STIFFNESS)
    number = omega / (2 * np.pi * constants.c)
    each = [expansion((QUANTUM * row).tolist(), fields) for row in number.T]
    out = xr.concat(each, dim="mode")[["dipole_moment", "polarisability"]]
    spread = xr.concat(each, dim="mode")[["dipole_moment_std", "polarisability_std"]]
    per_wave = -1.0 / (constants.h * constants.c)
    found: dict[str, tuple[object, ...]] = {
        "wavenumber": (("field", "mode"), number, {"units": "m-1"})
    }
    for name in ("dipole_moment", "polarisability"):
        units = {"units": str(out[name].attrs["units"])}
        found[f"{name}_difference"] = ("mode", out[name].values, units)
        found[f"{name}_difference_std"] = ("mode", spread[f"{name}_std"].values, units)
    for end, source in (("", out["dipole_moment"]), ("_std", spread["dipole_moment_std"])):
        factor = per_wave if not end else abs(per_wave)
        found[f"stark_tuning_rate{end}"] = ("mode", factor * source.values, {"units": "V-1"})
    shapes = vector[weakest].T.reshape(size, len(index), 3)
    found["displacement"] = (("mode", "atom", "xyz"), shapes, {"units": "1"})
    return xr.Dataset(
        found,
        coords={"field": ("field", np.asarray(fields, float), {"units": "V m-1"}), "atom": index},
        attrs={"sign": "a positive field points to larger z"},
    )


def _kept(electrode: Electrode) -> dict[str, float]:
    """Return what an electrode is made of, but for its atoms."""
    return {
        "width": electrode.width,
        "thomas_fermi_length": electrode.thomas_fermi_length,
        "atomic_density": electrode.atomic_density,
    }


def _batch(atoms: Atoms, number: int) -> ts.SimState:
    return ts.io.atoms_to_state([atoms] * number, torch.device("cpu"), torch.float64)


def work_function_shift(dipole_moment: float, *, area: float) -> float:
    r"""Shift of a work function (eV) by a dipole (C m) on an area (m2) of its surface.

    .. math:: \Delta\Phi = -\frac{e \mu}{\varepsilon_0 A}

    Parameters
    ----------
    dipole_moment : float
        Along the outward normal, images in the metal included (C m): of all charges of a slab with
        the adsorbate on its upper side.
    area : float
        Area of the cell (m2).

    Examples
    --------
    >>> debye = 3.33564e-30
    >>> round(work_function_shift(debye, area=20e-20), 3)
    -1.884
    """
    return -dipole_moment / (constants.epsilon_0 * area)


def depolarisation(
    coverage: Sequence[float],
    shift: Sequence[float],
    *,
    site_density: float,
    error: Sequence[float] | None = None,
) -> xr.Dataset:
    """Dipole moment (C m) and polarisability (C m2 V-1) of an adsorbate from work functions.

    Fits the module's second equation; what comes out is what `couplers.matching.dipole_potential`
    takes.

    Parameters
    ----------
    coverage : sequence of float
        Shares of the sites that are taken (1), two or more.
    shift : sequence of float
        Shift of the work function (eV) at each.
    site_density : float
        Sites per area (m-2).
    error : sequence of float, optional
        Standard errors of the shifts (eV).

    Returns
    -------
    xarray.Dataset
        ``dipole_moment`` and ``polarisability`` with ``_std`` (nan from two coverages).

    Raises
    ------
    ValueError
        If there are fewer than two coverages above zero, or not as many shifts.
    """
    theta, value = np.asarray(coverage, float), np.asarray(shift, float)
    if theta.shape != value.shape or (theta > 0).sum() < 2:
        raise ValueError(
            f"depolarisation: {value.size} shifts at {int((theta > 0).sum())} coverages above zero "
            "were given; give a shift for each of two coverages or more."
        )
    density = site_density * theta * ANGSTROM**2  # Å-2
    per_volt = constants.epsilon_0 / ELECTRONVOLT * ANGSTROM  # e V-1 Å-1

    def topping(n: np.ndarray, dipole: float, weakening: float) -> np.ndarray:
        return -dipole * n / per_volt / (1 + 9 * weakening * n**1.5)

    taken = theta > 0
    first = -value[taken][0] * per_volt / density[taken][0]
    spread = None if error is None else np.asarray(error, float)[taken]
    best, covariance = (
        curve_fit(
            topping,
            density[taken],
            value[taken],
            p0=[first, 1.0],
            sigma=spread,
            absolute_sigma=error is not None,
        )
        if taken.sum() > 2
        else (_through_two(density[taken], value[taken], per_volt), None)
    )
    errors = np.full(2, np.nan) if covariance is None else np.sqrt(np.diag(covariance))
    errors = np.where((errors > 0) & np.isfinite(errors), errors, np.nan)
    volume = 4 * np.pi * constants.epsilon_0 * ANGSTROM**3  # C m2 V-1, of an Å3
    return xr.Dataset(
        {
            "dipole_moment": ((), best[0] * SI_DIPOLE, {"units": "C m"}),
            "dipole_moment_std": ((), errors[0] * SI_DIPOLE, {"units": "C m"}),
            "polarisability": ((), best[1] * volume, {"units": "C m2 V-1"}),
            "polarisability_std": ((), errors[1] * volume, {"units": "C m2 V-1"}),
        },
        attrs={"sign": "positive end away from the surface"},
    )


def _through_two(density: np.ndarray, shift: np.ndarray, per_volt: float) -> np.ndarray:
    """Solve for the two numbers that two coverages determine: linear in 1/shift."""
    # n / shift = -(per_volt / dipole) (1 + 9 w n^1.5)
    ratio = density / shift
    power = 9 * density**1.5
    slope = (ratio[1] - ratio[0]) / (power[1] - power[0])
    start = ratio[0] - slope * power[0]
    return np.array([-per_volt / start, slope / start])
