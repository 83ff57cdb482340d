r"""A liquid electrolyte from twenty simulated points to the voltage of a cell, with its error bar.

Molecular dynamics of a salt in its solvent gives, at each concentration and temperature, an Onsager
matrix with its posterior, in the frame where the centre of mass rests. A battery model reads four
functions of (c, T) in the frame of the solvent: conductivity, salt diffusivity, transference number
and thermodynamic factor. The way there:

1. `newman`: frame, sign and definitions, draw by draw, so that the four keep their correlation;
2. `fit_laws`: four Laws at once, their forms averaged by evidence, with a posterior;
3. `binary_electrolyte`: each draw as the electrolyte of a Doyle-Fuller-Newman cell;
4. `propagate`: the discharge of every draw, here or on many processes, failures counted;
5. `budget` and `worth_lengthening_liquid`: where the millivolts come from, and which point to
   simulate longer.

So that the answer can be judged, the twenty points here are not simulated: they are the measured
functions of LiPF6 in EC:EMC 3:7, seen through the noise of a short run, 10 % on each.

    python study.py            # 15 s on one core; writes liquid_electrolyte.png

Reference: https://doi.org/10.1149/2.0571912jes (Landesfeind, Gasteiger 2019).
"""

from pathlib import Path

import numpy as np
import xarray as xr
from scipy.constants import Avogadro, gas_constant

from atomistic.observables.onsager import from_solvent_frame, ionic_conductivity
from continuum.inputs import FARADAY, Electrolyte
from couplers.electrolyte import binary_electrolyte
from couplers.fits import LAWS, evaluate, fit_laws
from couplers.liquid import landesfeind_ec_emc
from couplers.newman import newman
from couplers.propagation import band, discharges, propagate
from couplers.uncertainty import budget, worth_lengthening_liquid

CONCENTRATIONS = (200.0, 600.0, 1000.0, 1600.0, 2400.0)  # mol m-3
TEMPERATURES = (268.15, 283.15, 298.15, 318.15)  # K
NOISE = 0.1  # of each of the four properties
DENSITY = 1200.0  # kg m-3
MOLAR_MASS = np.array([6.94e-3, 144.96e-3])  # Li+ and PF6-, kg mol-1
SALT_VOLUME = 5.9e-5  # m3 mol-1
OPERATION = {"concentration": 1000.0, "temperature": 298.15}
LABELS = {
    "conductivity": ("conductivity (S/m)", 1.0),
    "salt_diffusivity": ("salt diffusivity (10⁻¹⁰ m²/s)", 1e10),
    "transference_number": ("transference number", 1.0),
    "thermodynamic_factor": ("thermodynamic factor", 1.0),
}


def measured(*, draws: int = 400, seed: int = 1) -> xr.Dataset:
    """Make the TRANSPORT of a campaign: matrices in the mass frame, with a posterior."""
    rng = np.random.default_rng(seed)
    c, T = (one.ravel() for one in np.meshgrid(CONCENTRATIONS, TEMPERATURES))
    # one draw of noise for what the run happened to give, the others for what it says of itself
    noise = NOISE * rng.standard_normal((3, len(c), 1 + draws))
    noise[:, :, 1:] += noise[:, :, :1]
    salt = landesfeind_ec_emc()
    kappa, D, anion = (
        value[:, None] * np.exp(noise[index])
        for index, value in enumerate(
            (salt.conductivity(c, T), salt.diffusivity(c, T), 1 - salt.transference_number(c, T))
        )
    )
    factor = salt.thermodynamic_factor(c, T)
    spread, t = kappa / FARADAY**2, 1 - anion
    molal = factor * (1 - c * SALT_VOLUME)
    area = D * (c / (2 * gas_constant * T * molal))[:, None]
    cross = area - t * (1 - t) * spread
    matrix = np.array([[cross + t * spread, cross], [cross, cross + (1 - t) * spread]])
    matrix = np.moveaxis(matrix, (0, 1), (-2, -1))  # condition, draw, species, partner
    weight = MOLAR_MASS / DENSITY
    matrix = np.stack(
        [from_solvent_frame(L, np.full(2, n), weight) for L, n in zip(matrix, c, strict=True)]
    )
    charge = np.array([1.0, -1.0])
    conductivity = ionic_conductivity(matrix, charge)
    one, species = ("condition",), ("condition", "species")
    seen = factor * np.exp(NOISE * rng.standard_normal(len(c)))
    columns = {
        "onsager": ((*species, "partner"), matrix[:, 0], np.moveaxis(matrix[:, 1:], 1, -1)),
        "conductivity": (one, conductivity[:, 0], conductivity[:, 1:]),
        "thermodynamic_factor": (one, seen, None),
        "nernst_einstein_conductivity": (one, 1.3 * conductivity[:, 0], None),
        "self_diffusivity": (species, np.tile(D[:, :1], 2), None),
    }
    units = ("mol2 J-1 m-1 s-1", "S m-1", "1", "S m-1", "m2 s-1")
    out = xr.Dataset(
        {
            "temperature": (one, T, {"units": "K"}),
            "salt_concentration": (one, c, {"units": "mol m-3"}),
            "charge_number": ("species", charge, {"units": "1"}),
            "number_density": (species, np.outer(c, [1, 1]) * Avogadro, {"units": "m-3"}),
            "box_length": (one, np.full(len(c), 5e-9), {"units": "m"}),
            "diffusive": (species, np.full((len(c), 2), True)),
            "verdict": (species, np.full((len(c), 2), "diffusive")),
            "molar_mass": ("species", MOLAR_MASS, {"units": "kg mol-1"}),
            "mass_density": (one, np.full(len(c), DENSITY), {"units": "kg m-3"}),
            "salt_molar_volume": (one, np.full(len(c), SALT_VOLUME), {"units": "m3 mol-1"}),
        },
        coords={"species": ["Li+", "PF6-"]},
        attrs={
            "frame": "mass",
            "finite_size_correction": "none",
            "thermodynamic_factor_definition": "molar",
        },
    )
    for unit, (name, (dims, value, sample)) in zip(units, columns.items(), strict=True):
        out[name] = (dims, value, {"units": unit})
        error = NOISE * np.abs(value) if sample is None else sample.std(-1)
        out[f"{name}_std"] = (dims, error, {"units": unit})
        if sample is not None:
            out[f"{name}_draw"] = ((*dims, "draw"), sample, {"units": unit})
    return out


def electrolytes(laws: xr.Dataset, count: int) -> list[Electrolyte]:
    """Make the electrolyte of each of the first draws of the posterior."""
    return [
        binary_electrolyte(laws, **OPERATION, draw=draw, name="LiPF6 in EC:EMC 3:7, simulated")
        for draw in range(count)
    ]


def voltages(laws: xr.Dataset, *, count: int = 200) -> xr.Dataset:
    """Discharge a cell at 1C with each of them; `labels` say whose each draw is."""
    result = propagate(discharges, electrolytes(laws, count))
    labels = {
        name: laws[name][:count].drop_vars("draw", errors="ignore") for name in ("member", "form")
    }
    return result.assign_coords(labels)


def at_half(cell: xr.Dataset) -> xr.DataArray:
    """Voltage of each draw (V) when half of the nominal capacity has passed."""
    half = 0.5 * float(cell["current"][0])  # A h at 1C
    place = int(np.argmin(np.abs(cell["capacity"][0].values - half)))
    return cell["voltage"][0, :, place].assign_attrs(units="V")


def draw(points: xr.Dataset, laws: xr.Dataset, cell: xr.Dataset, path: Path) -> None:
    """Plot the Laws with their bands against the points, and the discharge with its band."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    colours = ("#4477aa", "#228833", "#ccbb44", "#cc6677")
    c = np.linspace(1.0, 2600.0, 120)
    salt = landesfeind_ec_emc()
    for ax, (name, (label, scale)) in zip(axes.ravel()[[0, 1, 3, 4]], LABELS.items(), strict=True):
        for T, colour in zip(TEMPERATURES, colours, strict=True):
            at = evaluate(laws, c, np.full_like(c, T))
            low, high = np.percentile(at[f"{name}_draw"] * scale, [2.5, 97.5], axis=1)
            ax.fill_between(c / 1000, low, high, color=colour, alpha=0.25, lw=0)
            ax.plot(c / 1000, at[name] * scale, color=colour, lw=1.5, label=f"{T:g} K")
            inside = c >= CONCENTRATIONS[0]
            exact = getattr(salt, LAWS[name][0])(c[inside], T) * scale
            ax.plot(c[inside] / 1000, exact, color=colour, lw=1, ls=":")
            own = points.isel(condition=points["temperature"].values == T)
            ax.errorbar(
                own["salt_concentration"] / 1000,
                own[name] * scale,
                2 * own[f"{name}_std"] * scale,
                fmt="o",
                ms=3.5,
                lw=1,
                color=colour,
            )
        ax.set(xlabel="salt (mol/L)", ylabel=label)
    axes[0, 1].set_ylim(0, 12)
    axes[1, 0].set_ylim(-1, 1)
    axes[1, 1].set_ylim(0, 8)
    axes[0, 0].legend(frameon=False, fontsize=8)
    truth = discharges([salt])
    charge = cell["capacity"][0].values
    volts = band(cell["voltage"])["voltage"][:, 0].values
    for ax, zero, factor in (
        (axes[0, 2], 0.0, 1.0),
        (axes[1, 2], truth["voltage"][0, 0].values, 1e3),
    ):
        ax.fill_between(
            charge,
            factor * (volts[0] - zero),
            factor * (volts[2] - zero),
            color="#aa3377",
            alpha=0.3,
        )
        ax.plot(charge, factor * (volts[1] - zero), color="#aa3377", label="median and 95 %")
        ax.plot(charge, factor * (truth["voltage"][0, 0] - zero), color="k", ls=":", label="truth")
        ax.set(xlabel="capacity (A h)")
    axes[0, 2].set(ylabel="voltage at 1C (V)")
    axes[1, 2].set(ylabel="voltage − truth (mV)", ylim=(-25, 25))
    axes[0, 2].legend(frameon=False, fontsize=8)
    figure.suptitle(
        "points with 2 s.d., fitted Laws with 95 % bands, dotted: the truth", fontsize=10
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    points = newman(measured())
    laws = fit_laws(points)
    print(f"Misfit: {laws.attrs['misfit']}.")
    here = evaluate(laws, np.array([1000.0]), np.array([298.15]))
    salt = landesfeind_ec_emc()
    for name, (label, scale) in LABELS.items():
        low, high = np.percentile(here[f"{name}_draw"][0] * scale, [2.5, 97.5])
        exact = getattr(salt, LAWS[name][0])(1000.0, 298.15) * scale
        value = float(here[name][0]) * scale
        print(f"{label}: {value:.3f} ({low:.3f} – {high:.3f}), true {exact:.3f}")
    cell = voltages(laws)
    print(cell.attrs["draws"])
    half = at_half(cell)
    print(f"voltage at half: {1e3 * float(half.std('draw')):.1f} mV (1 s.d.)")
    parts = budget(half, labels={"fit": "form"})
    for source in parts["source"].values:
        print(f"  {source}: {1e3 * float(parts['standard_deviation'].sel(source=source)):.1f} mV")
    everyone = xr.DataArray(
        np.pad(half.values, (0, laws.sizes["draw"] - half.size), constant_values=np.nan),
        dims="draw",
        attrs={"units": "V"},
    )
    print(worth_lengthening_liquid(points, laws, everyone).attrs["advice"])
    path = Path(__file__).with_name("liquid_electrolyte.png")
    draw(points, laws, cell, path)
    print(f"figure: {path.name}")
