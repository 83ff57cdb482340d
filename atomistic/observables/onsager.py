r"""Onsager matrix, transference number and salt diffusivity of a liquid, from one joint posterior.

Conventions: fluxes :math:`J_i = -\sum_j L_{ij} \nabla \tilde\mu_j` over the ions, with
:math:`L_{ij} = \lim_t \langle \Delta R_i \cdot \Delta R_j \rangle / (6 t V k_B T N_A^2)` and
:math:`\Delta R_i` the summed displacement of species i. A frame is a weighted mean of fluxes that
vanishes, :math:`\sum_i w_i J_i + w_0 J_0 = 0`, so matrices of two frames differ by an exact
congruence (`from_solvent_frame`, `to_solvent_frame`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from scipy import constants, stats

from atomistic.observables.displacements import observe, species
from atomistic.observables.self_diffusion import self_diffusivity
from atomistic.units import mass

FARADAY = constants.Avogadro * constants.e  # C mol-1


def from_solvent_frame(
    onsager: np.ndarray, concentration: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    r"""Take an Onsager matrix (mol2 J-1 m-1 s-1) from the solvent's frame to another.

    .. math:: L = P L^0 P^T, \qquad P_{ij} = \delta_{ij} - c_i w_j

    Parameters
    ----------
    onsager : numpy.ndarray
        Matrix over the ions in the frame where the solvent rests, (..., ion, ion).
    concentration : numpy.ndarray
        Concentration of the ions (mol m-3), (ion,).
    weight : numpy.ndarray
        Weights of the new frame, (ion,): molar mass over density (m3 mol-1) for the mass frame,
        partial molar volumes (m3 mol-1) for the volume frame.

    References
    ----------
    Miller, J. Phys. Chem. 70, 2639 (1966), https://doi.org/10.1021/j100880a033
    """
    change = np.eye(len(concentration)) - np.outer(concentration, weight)
    return change @ onsager @ change.T


def to_solvent_frame(
    onsager: np.ndarray, concentration: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    r"""Take an Onsager matrix (mol2 J-1 m-1 s-1) to the solvent's frame: the exact inverse.

    .. math:: L^0 = G L G^T, \qquad G_{ij} = \delta_{ij} + \frac{c_i w_j}{1 - \sum_k c_k w_k}

    For the mass frame :math:`1 - \sum c w` is the solvent's share of the mass, so this is
    :math:`L_{ij} - (c_i/c_0) L_{0j} - (c_j/c_0) L_{i0} + (c_i c_j / c_0^2) L_{00}` with the
    solvent's row from conservation of momentum.

    Parameters
    ----------
    onsager : numpy.ndarray
        Matrix over the ions, (..., ion, ion).
    concentration, weight : numpy.ndarray
        As for `from_solvent_frame`.

    Raises
    ------
    ValueError
        If the ions take up the whole frame, so that there is no solvent.
    """
    left = 1.0 - concentration @ weight
    if left <= 1e-9:
        raise ValueError("there is no solvent whose frame could be taken; use the mass frame.")
    change = np.eye(len(concentration)) + np.outer(concentration, weight) / left
    return change @ onsager @ change.T


def ionic_conductivity(onsager: np.ndarray, charge: np.ndarray) -> np.ndarray:
    r"""Return the conductivity (S m-1), :math:`F^2 \sum_{ij} z_i z_j L_{ij}`, of any frame.

    Parameters
    ----------
    onsager : numpy.ndarray
        Matrix (mol2 J-1 m-1 s-1), (..., ion, ion).
    charge : numpy.ndarray
        Charge numbers (1), (ion,).
    """
    return FARADAY**2 * np.einsum("i,...ij,j->...", charge, onsager, charge)


def transference(onsager: np.ndarray, charge: np.ndarray) -> np.ndarray:
    r"""Return the transference number (1) of each ion in the matrix's own frame, (..., ion).

    .. math:: t_i = z_i \sum_j z_j L_{ij} / \sum_{kl} z_k z_l L_{kl}
    """
    part = charge * (onsager @ charge)
    return part / part.sum(-1, keepdims=True)


def salt_diffusion(
    onsager: np.ndarray, concentration: float, temperature: float, thermodynamic_factor: float
) -> np.ndarray:
    r"""Return the salt diffusivity (m2 s-1) of a 1:1 electrolyte from its solvent-frame matrix.

    .. math:: D = \frac{2RT}{c}\,
              \frac{L_{++}L_{--} - L_{+-}^2}{L_{++} + L_{--} - 2L_{+-}}
              \left(1 + \frac{d \ln\gamma_\pm}{d \ln m}\right)

    Parameters
    ----------
    onsager : numpy.ndarray
        Matrix (mol2 J-1 m-1 s-1) in the solvent's frame, (..., 2, 2), cation first.
    concentration : float
        Salt concentration (mol m-3).
    temperature : float
        Temperature (K).
    thermodynamic_factor : float
        1 + d ln gamma / d ln m, molal (1).

    References
    ----------
    Newman and Thomas-Alyea, Electrochemical Systems, 3rd ed. (2004), chapter 12.
    """
    spread = onsager[..., 0, 0] + onsager[..., 1, 1] - 2 * onsager[..., 0, 1]
    area = onsager[..., 0, 0] * onsager[..., 1, 1] - onsager[..., 0, 1] ** 2
    scale = 2 * constants.R * temperature / concentration * thermodynamic_factor
    return scale * area / spread


def collective_correlation(
    track: np.ndarray, ions: Sequence[np.ndarray], ordinates: int
) -> tuple[np.ndarray, np.ndarray, int]:
    r"""Return the matrix of collective over independent motion, (ion, ion), S, and its freedom.

    .. math:: P_{ij} = \frac{1}{K} \sum_k
              \frac{\mathrm{Re}\, V_i(k) V_j^*(k)}{\sqrt{S_i(k) S_j(k)}}

    with :math:`V_i` the summed velocity of species i at frequency k and :math:`S_i` what its ions
    would give were they independent; the unit matrix for ideal ions. S, (ion,), is the mean of
    :math:`S_i(k)` (m2).

    Parameters
    ----------
    track : numpy.ndarray
        Positions (m), (replica, frame, atom, xyz).
    ions : sequence of numpy.ndarray
        Mask over atoms of each species.
    ordinates : int
        Number K of lowest frequencies.
    """
    step = np.diff(track, axis=1)
    frames = step.shape[1]
    wave = np.exp(-2j * np.pi * np.arange(1, ordinates + 1)[:, None] * np.arange(frames) / frames)
    rows, power = [], []
    for mask in ions:
        velocity = np.einsum("kf,rfax->rkax", wave, step[:, :, mask], optimize=True)
        alone = (np.abs(velocity) ** 2).sum(2).mean((0, 2))
        rows.append((velocity.sum(2) / np.sqrt(alone)[:, None]).ravel())
        power.append(alone.mean())
    whitened = np.array(rows)
    ratio = (whitened @ whitened.conj().T).real / whitened.shape[1]
    return ratio, np.array(power), 2 * whitened.shape[1]


def about_the_solvent(
    track: np.ndarray, ions: Sequence[np.ndarray], molar: np.ndarray, total: float
) -> np.ndarray:
    r"""Return positions (m) with the solvent at rest, frame by frame.

    The centre of mass of all that is no ion moves by :math:`-\sum_i M_i R_i / (M - \sum_i N_i M_i)`
    while that of the whole rests, so nothing is estimated here and nothing is amplified.

    Parameters
    ----------
    track : numpy.ndarray
        Positions with the centre of mass at rest (m), (replica, frame, atom, xyz).
    ions : sequence of numpy.ndarray
        Mask over atoms of each ion.
    molar : numpy.ndarray
        Molar mass of each ion (kg mol-1), (ion,).
    total : float
        That of the whole system (kg mol-1).
    """
    left = total - sum(mass * mask.sum() for mass, mask in zip(molar, ions, strict=True))
    moved = sum(mass * track[:, :, mask].sum(2) for mass, mask in zip(molar, ions, strict=True))
    return track + (moved / left)[:, :, None]


def onsager(
    observed: xr.Dataset,
    *,
    charges: Mapping[str, float],
    molar_mass: Mapping[str, float] | None = None,
    thermodynamic_factor: float | None = None,
    self_diffusion: xr.Dataset | None = None,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    r"""Onsager matrix (mol2 J-1 m-1 s-1) of a liquid and what follows from it, draw by draw.

    .. math:: L_{ij} = \frac{\sqrt{N_i D_i N_j D_j}\, P_{ij}}{V k_B T N_A^2}, \qquad
              P\,|\,\mathrm{data} \sim \mathcal{W}^{-1}(\nu \hat P, \nu)

    :math:`\hat P` is that of `collective_correlation` below :math:`1/(2 t)`, with t one and a half
    times the latest start lag of the ions, so :math:`\nu = 3 T_\mathrm{total}/t`. Where there is a
    solvent, all that is not an ion, positions are first taken to its frame (`about_the_solvent`):
    a matrix measured in the mass frame would have its errors multiplied by the mass of the whole
    over that of the solvent on the way. :math:`D_i`, measured in the mass frame, follows by the
    ratio of the ions' own low-frequency power in the two frames. Without a solvent the last ion's
    row follows from the others, and the frame stays "mass".

    Parameters
    ----------
    observed : xarray.Dataset
        A TRAJECTORY, or what `displacements.observe` made of one without a host.
    charges : mapping of str to float
        Charge number (1) of each ion, named by the species of its atom or, for a molecular ion, of
        one atom that it has once (P for a hexafluorophosphate).
    molar_mass : mapping of str to float, optional
        Molar mass (kg mol-1) of molecular ions; the atom's own if not given.
    thermodynamic_factor : float, optional
        1 + d ln gamma / d ln m (1); with it a 1:1 salt gets its ``salt_diffusivity``.
    self_diffusion : xarray.Dataset, optional
        What `self_diffusivity` gave for the ions.
    draws : int
        Posterior draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        ``onsager`` (condition, species, partner), ``conductivity``,
        ``nernst_einstein_conductivity``, ``haven_ratio``, ``transference_number`` of the first
        cation and, if asked, ``salt_diffusivity`` (condition), each with ``_std`` and ``_draw``;
        ``freedom``; attribute ``frame``, "solvent" or "mass".

    Raises
    ------
    ValueError
        Lists the faults: fewer than two ions, no neutrality, one sign only, masses beyond the
        whole, a thermodynamic factor for other than a 1:1 salt, an observed host.
    """
    observed = observe(observed, chosen=list(charges))
    names = [name for name in species(observed) if charges.get(name)]
    symbols = observed["symbol"].values.astype(str)
    ions = [symbols == name for name in names]
    count = np.array([mask.sum() for mask in ions])
    charge = np.array([float(charges[name]) for name in names])
    given = dict(molar_mass or {})
    molar = np.array([given.get(name, mass(name) * constants.Avogadro) for name in names])
    total = sum(mass(name) for name in symbols) * constants.Avogadro
    share = molar @ count / total
    faults = []
    if len(names) < 2 or not (charge.min(initial=0) < 0 < charge.max(initial=0)):
        faults.append("a cation and an anion at least are needed")
    elif abs(charge @ count) > 1e-6 * (np.abs(charge) @ count):
        faults.append(f"the ions carry {charge @ count:+g} e together, but must be neutral")
    if share > 1 + 1e-6:
        faults.append(f"the ions weigh {100 * share:.0f} % of the system; check molar_mass")
    if unknown := [name for name in given if name not in names]:
        faults.append(f"molar_mass names {', '.join(unknown)}, which are no ions")
    binary = len(names) == 2 and charge.sum() == 0 and np.abs(charge).max(initial=0) == 1
    if thermodynamic_factor is not None and not binary:
        faults.append("the salt diffusivity is that of a 1:1 salt only")
    if observed.attrs["frame"] != "mass":
        faults.append("the run was observed with a host; observe it without one")
    if faults:
        raise ValueError("onsager: " + "; ".join(faults) + ".")
    if self_diffusion is None:
        self_diffusion = self_diffusivity(observed, chosen=names, draws=draws, seed=seed)
    diffusion = self_diffusion.sel(species=names)
    solvent = share < 1 - 1e-6
    rng = np.random.default_rng([seed, 2])
    volume = np.abs(np.linalg.det(observed["cell"].values)).mean(1)
    temperature = observed["temperature"].values
    conditions, kinds = len(temperature), len(names)
    matrix = np.full((conditions, kinds, kinds), np.nan)
    sample = np.full((conditions, draws, kinds, kinds), np.nan)
    freedom = np.zeros(conditions, dtype=int)
    concentration = count / constants.Avogadro / volume[:, None]
    for condition in range(conditions):
        if not diffusion["diffusive"].values[condition].all():
            continue
        begin = float(diffusion["start_lag"].values[condition].max())
        track = observed["track"].values[condition]
        ordinates = max(2, round(float(observed["duration"]) / (3 * begin)))
        ordinates = min(ordinates, track.shape[1] // 4)
        ratio, power, freedom[condition] = collective_correlation(track, ions, ordinates)
        scale = count / (volume[condition] * constants.k * temperature[condition])
        if solvent:
            resting = about_the_solvent(track, ions, molar, total)
            ratio, about, _ = collective_correlation(resting, ions, ordinates)
            scale = scale * about / power
        root = np.sqrt(scale * diffusion["self_diffusivity"].values[condition])
        roots = np.sqrt(scale * diffusion["self_diffusivity_draw"].values[condition].T)
        free = kinds if solvent else kinds - 1
        posterior = stats.invwishart.rvs(
            df=int(freedom[condition]),
            scale=freedom[condition] * ratio[:free, :free],
            size=draws,
            random_state=rng,
        ).reshape(draws, free, free)
        best = ratio[:free, :free] * np.outer(root[:free], root[:free])
        posterior = posterior * roots[:, :free, None] * roots[:, None, :free]
        rest = np.eye(kinds)[:, :free]
        if not solvent:
            rest[-1] = -molar[:free] / molar[-1]
        best = rest @ best @ rest.T / constants.Avogadro**2
        posterior = rest @ posterior @ rest.T / constants.Avogadro**2
        matrix[condition], sample[condition] = best, posterior

    cation = int(np.argmax(charge > 0))
    ideal = constants.e**2 / (volume * constants.k * temperature)
    self_value = diffusion["self_diffusivity"].values
    self_draw = diffusion["self_diffusivity_draw"].transpose("condition", "draw", "species").values
    ne_value = ideal * (charge**2 * count * self_value).sum(-1)
    ne_draw = ideal[:, None] * (charge**2 * count * self_draw).sum(-1)
    kappa, kappas = ionic_conductivity(matrix, charge), ionic_conductivity(sample, charge)
    found = {
        "onsager": (matrix, sample, "mol2 J-1 m-1 s-1"),
        "conductivity": (kappa, kappas, "S m-1"),
        "nernst_einstein_conductivity": (ne_value, ne_draw, "S m-1"),
        "haven_ratio": (ne_value / kappa, ne_draw / kappas, "1"),
        "transference_number": (
            transference(matrix, charge)[..., cation],
            transference(sample, charge)[..., cation],
            "1",
        ),
    }
    if thermodynamic_factor is not None:
        salt = [
            [
                salt_diffusion(
                    one, concentration[condition, 0], temperature[condition], thermodynamic_factor
                )
                for one in (matrix[condition], sample[condition])
            ]
            for condition in range(conditions)
        ]
        found["salt_diffusivity"] = (
            np.array([row[0] for row in salt]),
            np.stack([row[1] for row in salt]),
            "m2 s-1",
        )
    out = xr.Dataset(
        {
            "temperature": ("condition", temperature, {"units": "K"}),
            "freedom": ("condition", freedom, {"units": "1"}),
        },
        coords={"species": names},
        attrs={"frame": "solvent" if solvent else "mass"},
    )
    for name, (value, posterior, units) in found.items():
        dims = ("condition", "species", "partner")[: value.ndim]
        posterior = np.moveaxis(posterior, 1, -1)
        out[name] = (dims, value, {"units": units})
        out[f"{name}_std"] = (dims, posterior.std(-1), {"units": units})
        out[f"{name}_draw"] = ((*dims, "draw"), posterior, {"units": units})
    return out
