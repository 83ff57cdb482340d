"""Molten sodium chloride between two electrodes: layers, charge and capacitance with error bars.

Fumi and Tosi's ions at 1100 K stand between two plates of metal held at -1 to 1 V. Pairs at short
range, charges with electrodes at constant potential, and walls are three models that are added up;
all voltages run in one batch, and profiles and charges are gathered while it runs. What comes out
is a PROFILE of each voltage and a CAPACITANCE of one electrode, checked at the border and written
to netCDF.

    python study.py [picoseconds]  # writes molten_salt.nc and molten_salt_capacitor.png

References: https://doi.org/10.1016/0022-3697(64)90159-3 (ions),
https://doi.org/10.1063/1.2464084 (a molten salt at an electrode).
"""

import sys
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from ase import Atoms
from ase.constraints import FixAtoms

from atomistic.dynamics import Schedule, sample
from atomistic.electrostatics.electrodes import ConstantPotential, Electrode
from atomistic.electrostatics.walls import Walls
from atomistic.observables import layers
from atomistic.observables.capacitance import capacitance
from atomistic.observables.interface import profile
from atomistic.potentials.compose import Among, Sum
from atomistic.potentials.ionic import sodium_chloride
from atomistic.potentials.load import Potential
from atomistic.schema import CAPACITANCE, PROFILE
from couplers.contract import check

TEMPERATURE = 1100.0
SITES, SPACING, GAP = 8, 2.5, 24.0  # of the square plates (Å)
PAIRS = 116  # of ions: the density of the melt between the walls
VOLTAGES = (-1.0, -0.5, 0.0, 0.5, 1.0)
REACH = 2.6  # Å from a plate at which its wall has kT
HERE = Path(__file__).parent


def cell(seed: int) -> Atoms:
    """Two plates with a shaken grid of ions between them."""
    side = SITES * SPACING
    steps = np.arange(SITES) * SPACING
    plane = np.array([(x, y) for x in steps for y in steps])
    plates = [np.c_[plane, np.full(len(plane), z)] for z in (0.0, GAP)]
    rng = np.random.default_rng(seed)
    count = (6, 6, 7)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in count], indexing="ij"), -1).reshape(-1, 3)
    even = grid.sum(1) % 2 == 0
    chosen = [rng.permutation(np.flatnonzero(one))[:PAIRS] for one in (even, ~even)]
    room = np.array([side / count[0], side / count[1], (GAP - 2 * REACH - 1.6) / (count[2] - 1)])
    ions = grid[np.concatenate(chosen)] * room + [0.0, 0.0, REACH + 0.8]
    ions += rng.uniform(-0.15, 0.15, ions.shape)
    return Atoms(
        ["C"] * (2 * len(plane)) + ["Na"] * PAIRS + ["Cl"] * PAIRS,
        positions=np.vstack([*plates, ions]),
        cell=(side, side, GAP + 4.0),
        pbc=True,
        constraint=FixAtoms(range(2 * len(plane))),
    )


def potential(voltages: tuple[float, ...]) -> Potential:
    """Pairs of ions, charges between electrodes, and walls."""
    sites = SITES**2
    pairs = sodium_chloride(cutoff=9.0, charged=False, dtype=torch.float32)
    half = [0.5 * one for one in voltages]
    electrodes = ConstantPotential(
        cell(0),
        {"left": Electrode(range(sites)), "right": Electrode(range(sites, 2 * sites))},
        {"Na": 1.0, "Cl": -1.0},
        potentials={"left": [-one for one in half], "right": half},
        boundary="finite field",
        cutoff=8.0,
        accuracy=1e-4,
        skin=1.0,
        dtype=torch.float32,
    )
    walls = Walls(
        low=REACH,
        high=GAP - REACH,
        elements=["Na", "Cl"],
        energy=0.095,
        length=0.35,
        dtype=torch.float32,
    )
    return Potential(
        name="Fumi-Tosi NaCl between electrodes",
        model=Sum([electrodes, Among(pairs.model, ["Na", "Cl"]), walls]),
        species=("C", "Na", "Cl"),
        cutoff=9.0,
        closest_approach=pairs.closest_approach,
    )


def run(
    picoseconds: float,
    *,
    voltages: tuple[float, ...] = VOLTAGES,
    checkpoint: Path | None = None,
    seed: int = 1,
) -> tuple[layers.Layers, Potential]:
    """Run all voltages (V) in one batch, watched every 20 fs."""
    model = potential(voltages)
    seen = layers.start(model.model, bins=280, blocks=64)
    schedule = Schedule(
        timestep=2.0,
        equilibration=0.2 * picoseconds,
        production=picoseconds,
        frame_interval=500.0 * picoseconds,
    )
    sample(
        [[cell(seed * 1000 + n) for n in range(len(voltages))]],
        model,
        temperatures=[TEMPERATURE],
        schedule=schedule,
        observers=[seen],
        observe_interval=20.0,
        checkpoint=checkpoint,
        checkpoint_interval=1.0,
        seed=seed,
    )
    return seen, model


def results(
    seen: layers.Layers, model: Potential, voltages: tuple[float, ...] = VOLTAGES
) -> dict[str, xr.Dataset]:
    """Profiles in front of the left plate, and the capacitance of one plate by both methods."""
    found = {}
    for voltage in voltages:
        one = profile(
            seen,
            model.model,
            electrode="left",
            voltage=-voltage,
            temperature=TEMPERATURE,
            charge_numbers={"Na": 1.0, "Cl": -1.0},
        )
        found[f"/profile/{voltage:+.1f} V"] = check(one, PROFILE)
    for method in ("slope", "fluctuation"):
        one = capacitance(
            seen,
            model.model,
            electrode="right",
            temperature=TEMPERATURE,
            method=method,
            alike=True,
            draws=200,
        )
        found[f"/capacitance/{method}"] = check(one, CAPACITANCE)
    return found


def draw(found: dict[str, xr.Dataset], file: Path) -> None:
    """Draw layers, potential, charge and capacitance."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for name, one in found.items():
        if name.startswith("/profile"):
            z = one["z"] * 1e10
            axes[0, 1].plot(z, one["potential"], label=name.split("/")[-1])
    last = found[max(name for name in found if name.startswith("/profile/+"))]
    for ion in last["species"].values:
        axes[0, 0].plot(
            last["z"] * 1e10, last["number_density"].sel(species=ion) * 1e-30, label=ion
        )
    axes[0, 0].set(xlabel="z (Å)", ylabel="number density (Å$^{-3}$)")
    axes[0, 1].set(xlabel="z (Å)", ylabel="potential against the middle (V)")
    for method in ("slope", "fluctuation"):
        one = found[f"/capacitance/{method}"]
        axes[1, 1].errorbar(
            one["potential"],
            100 * one["differential_capacitance"],
            100 * one["differential_capacitance_std"],
            fmt="o-",
            label=method,
        )
    slope = found["/capacitance/slope"]
    axes[1, 0].errorbar(
        slope["potential"],
        100 * slope["surface_charge"],
        100 * slope["surface_charge_std"],
        fmt="o",
    )
    axes[1, 0].set(xlabel="electrode against the middle (V)", ylabel="charge (µC cm$^{-2}$)")
    axes[1, 1].set(xlabel="electrode against the middle (V)", ylabel="capacitance (µF cm$^{-2}$)")
    for one in (axes[0, 0], axes[0, 1], axes[1, 1]):
        one.legend(fontsize=8)
    figure.savefig(file, dpi=150)


def finish(seen: layers.Layers, model: Potential, folder: Path) -> None:
    """Write, print and draw."""
    found = results(seen, model)
    xr.DataTree.from_dict(found).to_netcdf(folder / "molten_salt.nc", engine="h5netcdf")
    for method in ("slope", "fluctuation"):
        one = found[f"/capacitance/{method}"]
        columns = [
            f"{name}{end}"
            for name in ("cell_capacitance", "differential_capacitance", "surface_charge")
            for end in ("", "_std")
        ]
        print(method, one[columns].to_dataframe().round(4).to_string(), sep="\n")
    draw(found, folder / "molten_salt_capacitor.png")


def main() -> None:
    """Run and finish."""
    length = float(sys.argv[1]) if len(sys.argv) > 1 else 8.0
    seen, model = run(length, checkpoint=HERE / "run.pt")
    finish(seen, model, HERE)


if __name__ == "__main__":
    main()
