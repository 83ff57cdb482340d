"""Points as a campaign of MD would give them, of a liquid whose Laws are known: Landesfeind's."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.constants import Avogadro, gas_constant

from atomistic.observables.onsager import from_solvent_frame, ionic_conductivity
from continuum.inputs import FARADAY
from couplers.fits import LAWS
from couplers.liquid import landesfeind_ec_emc
from couplers.newman import NEWMAN

CONCENTRATIONS = (200.0, 600.0, 1000.0, 1600.0, 2400.0)  # mol m-3
TEMPERATURES = (268.15, 283.15, 298.15, 318.15)  # K
MOLAR = np.array([6.94e-3, 144.96e-3])  # Li+, PF6-; kg mol-1
DENSITY = 1200.0  # kg m-3
VOLUME = 5.9e-5  # of the salt, m3 mol-1
CHARGE = np.array([1.0, -1.0])


def truth(name: str, c: np.ndarray, T: np.ndarray) -> np.ndarray:
    """A property by its name in NEWMAN."""
    return np.asarray(getattr(landesfeind_ec_emc(), LAWS[name][0])(c, T))


def points(
    concentrations: tuple[float, ...] = CONCENTRATIONS,
    temperatures: tuple[float, ...] = TEMPERATURES,
) -> tuple[np.ndarray, np.ndarray]:
    c, T = np.meshgrid(concentrations, temperatures)
    return c.ravel(), T.ravel()


def properties(
    noise: float,
    *,
    seed: int = 0,
    stated: float | None = None,
    concentrations: tuple[float, ...] = CONCENTRATIONS,
    temperatures: tuple[float, ...] = TEMPERATURES,
) -> xr.Dataset:
    """NEWMAN with relative `noise`, of t+ relative to itself or to 0.1; `stated` is claimed."""
    rng = np.random.default_rng(seed)
    c, T = points(concentrations, temperatures)
    claimed = noise if stated is None else stated
    out = xr.Dataset(
        {
            "temperature": ("condition", T, {"units": "K"}),
            "salt_concentration": ("condition", c, {"units": "mol m-3"}),
        },
        attrs={word: allowed[0] for word, allowed in NEWMAN["attrs"].items()},
    )
    for name in LAWS:
        y, xi = truth(name, c, T), rng.standard_normal(len(c))
        units = {"units": NEWMAN["variables"][name]["units"]}
        if name == "transference_number":
            size = np.maximum(abs(y), 0.1)
            seen, error = y + noise * size * xi, claimed * size
        else:
            seen = y * np.exp(noise * xi)
            error = claimed * seen
        out[name] = ("condition", seen, units)
        out[f"{name}_std"] = ("condition", error, units)
    return out


def onsager(
    c: np.ndarray, T: np.ndarray, values: dict[str, np.ndarray], *, molal: np.ndarray
) -> np.ndarray:
    """Solvent-frame matrices (..., ion, ion) of a 1:1 salt with the given properties."""
    spread = values["conductivity"] / FARADAY**2
    area = values["salt_diffusivity"] * c / (2 * gas_constant * T * molal)
    t = values["transference_number"]
    cross = area - t * (1 - t) * spread
    rows = [[cross + t * spread, cross], [cross, cross + (1 - t) * spread]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def transport(*, frame: str = "solvent", draws: int = 60, spread: float = 0.05) -> xr.Dataset:
    """A TRANSPORT of the liquid: matrices, their draws, and a molar thermodynamic factor."""
    rng = np.random.default_rng(3)
    c, T = points()
    values = {name: truth(name, c, T) for name in LAWS}
    molal = values["thermodynamic_factor"] * (1 - c * VOLUME)
    exact = onsager(c, T, values, molal=molal)
    factor = np.exp(spread * rng.standard_normal((len(c), draws)))
    sample = exact[:, None] * factor[..., None, None]
    tilt = 1 + spread * rng.standard_normal((len(c), draws))
    sample[..., 0, 0] *= tilt**2
    sample[..., 0, 1] *= tilt
    sample[..., 1, 0] *= tilt
    if frame == "mass":
        weight = MOLAR / DENSITY
        exact = np.stack(
            [from_solvent_frame(L, np.full(2, n), weight) for L, n in zip(exact, c, strict=True)]
        )
        sample = np.stack(
            [from_solvent_frame(L, np.full(2, n), weight) for L, n in zip(sample, c, strict=True)]
        )
    sample = np.moveaxis(sample, 1, -1)
    one, species = ("condition",), ("condition", "species")
    shape = (len(c), 2)
    drawn = np.moveaxis(sample, -1, 1)
    kappa, kappas = ionic_conductivity(exact, CHARGE), ionic_conductivity(drawn, CHARGE)
    chi = values["thermodynamic_factor"]
    columns = {
        "onsager": ((*species, "partner"), exact, sample, "mol2 J-1 m-1 s-1"),
        "conductivity": (one, kappa, kappas, "S m-1"),
        "thermodynamic_factor": (one, chi, None, "1"),
        "nernst_einstein_conductivity": (one, 1.5 * kappa, None, "S m-1"),
        "self_diffusivity": (species, np.full(shape, 2e-10), None, "m2 s-1"),
    }
    out = xr.Dataset(
        {
            "temperature": (one, T, {"units": "K"}),
            "salt_concentration": (one, c, {"units": "mol m-3"}),
            "charge_number": ("species", CHARGE.copy(), {"units": "1"}),
            "number_density": (species, np.outer(c, [1, 1]) * Avogadro, {"units": "m-3"}),
            "box_length": (one, np.full(len(c), 5e-9), {"units": "m"}),
            "diffusive": (species, np.full(shape, True)),
            "verdict": (species, np.full(shape, "diffusive")),
            "molar_mass": ("species", MOLAR.copy(), {"units": "kg mol-1"}),
            "mass_density": (one, np.full(len(c), DENSITY), {"units": "kg m-3"}),
            "salt_molar_volume": (one, np.full(len(c), VOLUME), {"units": "m3 mol-1"}),
        },
        attrs={
            "frame": frame,
            "finite_size_correction": "none",
            "thermodynamic_factor_definition": "molar",
        },
    )
    for name, (dims, value, draw, units) in columns.items():
        out[name] = (dims, value, {"units": units})
        error = 0.05 * np.abs(value) if draw is None else draw.std(-1)
        out[f"{name}_std"] = (dims, error, {"units": units})
        if draw is not None:
            out[f"{name}_draw"] = ((*dims, "draw"), draw, {"units": units})
    return out
