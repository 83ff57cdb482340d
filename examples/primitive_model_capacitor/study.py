"""Ions between electrodes at constant potential, from MD and from Poisson and Boltzmann.

Where ions feel each other weakly, molecular dynamics of a primitive model (charges in water that
is no more than a permittivity) must give what the Poisson-Boltzmann equation gives: the same charge
of the electrodes, the same potential, the same capacitance. Here that is 0.9 mM of a 1:1
electrolyte between two plates 82 nm apart, Debye length 10 nm, at 0 to 12 kT/e. All voltages and
replicas run in one batch; a run that is stopped goes on from its checkpoint.

The capacitance then goes through the coupler, which takes the diffuse layer off and leaves the
inner one: with it the continuum predicts the charge that MD has.

    python study.py [picoseconds]  # writes primitive_model.nc and primitive_model_capacitor.png

References: https://doi.org/10.1103/PhysRevLett.123.195501 (finite field),
https://doi.org/10.1039/C9CP06285H (fluctuations).
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from ase import Atoms
from ase.constraints import FixAtoms
from scipy.constants import Avogadro, Boltzmann, elementary_charge, gas_constant
from scipy.optimize import brentq
from scipy.special import erfc

from atomistic.dynamics import Schedule, sample
from atomistic.electrostatics.electrodes import ConstantPotential, Electrode
from atomistic.electrostatics.ewald import COULOMB
from atomistic.electrostatics.walls import Walls
from atomistic.observables import layers
from atomistic.observables.capacitance import capacitance
from atomistic.observables.interface import profile
from atomistic.potentials.compose import Sum
from atomistic.potentials.load import Potential
from continuum import double_layer
from continuum.inputs import Solution, Species, Wall
from continuum.poisson_boltzmann import solve
from couplers.matching import match

TEMPERATURE, PERMITTIVITY = 298.15, 78.49
THERMAL = Boltzmann * TEMPERATURE / elementary_charge  # V
BJERRUM = COULOMB / (PERMITTIVITY * THERMAL)  # Å
UNIT = BJERRUM / 0.7  # Å; the Debye length is ten of it
WIDTH, GAP, SITES = 40 * UNIT, 80 * UNIT, 12
CLOSEST, SOFT = 3 * UNIT, 0.5 * UNIT  # where a wall has kT, and its e-folding length
IONS = 136
VOLTAGES = (0.0, 2.0, 4.0, 8.0, 12.0)  # kT/e
HERE = Path(__file__).parent


def ideal_width(spacing: float) -> float:
    """Width (Å) of Gaussians with which a square lattice of them is an ideal plane of metal."""
    steps = np.arange(-40, 41)
    k = 2 * np.pi / spacing * np.hypot(*np.meshgrid(steps, steps)).ravel()
    k = k[k > 0]

    def offset(width: float) -> float:
        waves = (2 * np.pi / k * erfc(k * width / np.sqrt(2))).sum()
        return float(waves - 2 * np.sqrt(2 * np.pi) * np.pi / np.pi * width)

    return float(brentq(offset, 0.1 * spacing, 0.5 * spacing))


def cell(seed: int) -> Atoms:
    """Two plates of single layers with ions at random between them."""
    rng = np.random.default_rng(seed)
    steps = np.arange(SITES) * WIDTH / SITES
    plane = np.array([(x, y) for x in steps for y in steps])
    plates = [np.c_[plane, np.full(len(plane), z)] for z in (0.0, GAP)]
    ions = np.c_[
        rng.uniform(0, WIDTH, (IONS, 2)), rng.uniform(CLOSEST + UNIT, GAP - CLOSEST - UNIT, IONS)
    ]
    symbols = ["C"] * (2 * len(plane)) + ["Na"] * (IONS // 2) + ["Cl"] * (IONS // 2)
    atoms = Atoms(
        symbols,
        positions=np.vstack([*plates, ions]),
        cell=(WIDTH, WIDTH, GAP + 6 * UNIT),
        pbc=True,
        constraint=FixAtoms(range(2 * len(plane))),
    )
    atoms.set_masses([12.0] * (2 * len(plane)) + [30.0] * IONS)
    return atoms


def potential(voltages: list[float], dtype: torch.dtype = torch.float32) -> Potential:
    """Electrodes at voltages (kT/e), one for each system, and the walls before them."""
    sites = SITES**2
    width = ideal_width(WIDTH / SITES)
    half = [0.5 * THERMAL * one for one in voltages]
    electrodes = ConstantPotential(
        cell(0),
        {
            "left": Electrode(range(sites), width=width),
            "right": Electrode(range(sites, 2 * sites), width=width),
        },
        {"Na": 1.0, "Cl": -1.0},
        potentials={"left": [-one for one in half], "right": half},
        boundary="finite field",
        widths={"Na": UNIT, "Cl": UNIT},
        relative_permittivity=PERMITTIVITY,
        cutoff=14 * UNIT,
        accuracy=7e-4,
        skin=5 * UNIT,
        dtype=dtype,
    )
    walls = Walls(
        low=CLOSEST,
        high=GAP - CLOSEST,
        elements=["Na", "Cl"],
        energy=THERMAL,
        length=SOFT,
        dtype=dtype,
    )
    return Potential(
        name="primitive model",
        model=Sum([electrodes, walls]),
        species=("C", "Na", "Cl"),
        cutoff=14 * UNIT,
    )


def run(
    picoseconds: float,
    *,
    voltages: tuple[float, ...] = VOLTAGES,
    replicas: int = 2,
    checkpoint: Path | None = None,
    seed: int = 1,
    begin: Callable[[float, int], Atoms] = lambda voltage, seed: cell(seed),  # of the ions
) -> tuple[layers.Layers, Potential]:
    """Run all voltages (kT/e) and replicas in one batch, watched."""
    each = [one for one in voltages for _ in range(replicas)]
    model = potential(each)
    seen = layers.start(model.model, bins=400, blocks=64)
    schedule = Schedule(
        timestep=500.0,
        equilibration=0.1 * picoseconds,
        production=picoseconds,
        frame_interval=0.5e3 * picoseconds,
    )
    sample(
        [[begin(voltage, seed * 1000 + n) for n, voltage in enumerate(each)]],
        model,
        temperatures=[TEMPERATURE],
        schedule=schedule,
        observers=[seen],
        observe_interval=5e3,
        friction=0.03,
        checkpoint=checkpoint,
        checkpoint_interval=1000.0,
        seed=seed,
    )
    return seen, model


def solution(concentration: float) -> Solution:
    """Make the electrolyte of a bulk concentration (mol m-3)."""
    return Solution(
        (Species("Na", 1, concentration), Species("Cl", -1, concentration)),
        relative_permittivity=PERMITTIVITY,
        temperature=TEMPERATURE,
    )


def wall_energy(x: np.ndarray) -> np.ndarray:
    """Energy (J mol-1) of an ion at the walls, at distances (m) from the left electrode."""
    z = x[0] / 1e-10
    low, high = (CLOSEST - z) / SOFT, (z - GAP + CLOSEST) / SOFT
    return gas_constant * TEMPERATURE * (np.exp(low) + np.exp(high))


def continuum(voltage: float) -> xr.Dataset:
    """Solve Poisson and Boltzmann's equation for the same ions between the same plates."""
    forces = {"Na": wall_energy, "Cl": wall_energy}
    half = 0.5 * THERMAL * voltage

    def field(concentration: float) -> xr.Dataset:
        return solve(
            solution(concentration),
            {"left": Wall(potential=-half), "right": Wall(potential=half)},
            length=GAP * 1e-10,
            mean_force=forces,
        )

    def held(concentration: float) -> float:
        """Ions (1) of one kind in the cell, beyond those that MD has."""
        found = field(concentration)
        inside = np.trapezoid(found["concentration"].sel(species="Na"), found["x"])
        return float(inside) * Avogadro * (WIDTH * 1e-10) ** 2 - IONS / 2

    mean = IONS / 2 / (WIDTH**2 * GAP * 1e-30) / Avogadro
    found = brentq(held, 0.005 * mean, 2.0 * mean, xtol=1e-6 * mean)
    return field(found).assign_attrs(bulk_concentration=found)


def compare(seen: layers.Layers, model: Potential, voltages: tuple[float, ...]) -> xr.Dataset:
    """Put MD beside the continuum at each voltage."""
    rows = []
    unit = (WIDTH * 1e-10) ** 2 / elementary_charge
    for voltage in voltages:
        md = profile(
            seen,
            model.model,
            electrode="left",
            voltage=-voltage * THERMAL,
            temperature=TEMPERATURE,
            charge_numbers={"Na": 1.0, "Cl": -1.0},
        )
        pb = continuum(voltage)
        inside = (md["z"] > 0) & (md["z"] < GAP * 1e-10)
        z = md["z"].values[inside]
        phi = np.interp(z, pb["x"].values, pb["potential"].values)
        bulk = (z > 0.4 * GAP * 1e-10) & (z < 0.6 * GAP * 1e-10)
        apart = md["potential"].values[inside] - (phi - phi[bulk].mean())
        rows.append(
            {
                "md_charge": -float(md["surface_charge"]) * unit,
                "md_charge_std": float(md["surface_charge_std"]) * unit,
                "pb_charge": float(pb["surface_charge"].sel(wall="right")) * unit,
                "potential_rms": float(np.sqrt((apart**2).mean())) / THERMAL,
                "voltage_drop": -float(md["voltage_drop"]) / THERMAL,
                "bulk_concentration": pb.attrs["bulk_concentration"],
            }
        )
    units = {"bulk_concentration": "mol m-3", "potential_rms": "1", "voltage_drop": "1"}
    return xr.Dataset(
        {
            name: ("voltage", [row[name] for row in rows], {"units": units.get(name, "e")})
            for name in rows[0]
        },
        coords={"voltage": ("voltage", list(voltages), {"units": "1", "long_name": "kT/e"})},
    )


def capacitances(seen: layers.Layers, model: Potential) -> dict[str, xr.Dataset]:
    """Capacitance of one electrode by both methods; both electrodes are alike."""
    return {
        method: capacitance(
            seen,
            model.model,
            electrode="right",
            temperature=TEMPERATURE,
            method=method,
            alike=True,
            draws=200,
        )
        for method in ("slope", "fluctuation")
    }


def handed_over(found: xr.Dataset, table: xr.Dataset) -> xr.Dataset:
    """Let the continuum predict each charge of MD from the inner layer that the others show.

    Ions that went to the plates are missing in the middle, so each voltage has its own solution.
    """
    concentration = np.interp(
        abs(found["cell_voltage"].values) / THERMAL,
        table["voltage"].values,
        table["bulk_concentration"].values,
    )
    charge = found["surface_charge"].values
    zero = float(found["potential_of_zero_charge"])
    diffuse = [
        float(double_layer.surface_potential(solution(one), sigma))
        for one, sigma in zip(concentration, charge, strict=True)
    ]
    drop = found["potential"].values - zero - diffuse
    rows = []
    for n, at in enumerate(found["potential"].values.tolist()):
        if abs(at - zero) < 0.5 * THERMAL:
            continue
        others = np.arange(len(charge)) != n
        line = np.polynomial.Polynomial.fit(charge[others], drop[others], 1)
        met = match(
            solution(concentration[n]),
            lambda sigma, line=line: zero + float(line(sigma)),
            potentials=[at],
        )
        rows.append(
            met.assign(
                md_surface_charge=("potential", [charge[n]], {"units": "C m-2"}),
                md_inner_potential=("potential", [drop[n]], {"units": "V"}),
            )
        )
    return xr.concat(rows, dim="potential")


def finish(seen: layers.Layers, model: Potential, folder: Path) -> dict[str, xr.Dataset]:
    """Compare, hand over, write and draw."""
    import matplotlib.pyplot as plt

    table = compare(seen, model, VOLTAGES)
    both = capacitances(seen, model)
    over = handed_over(both["slope"], table)
    parts = {"/charge": table, "/handed_over": over, **both}
    xr.DataTree.from_dict(parts).to_netcdf(folder / "primitive_model.nc", engine="h5netcdf")
    print(table.to_dataframe().round(4).to_string())
    for name, one in both.items():
        columns = ["cell_voltage", "cell_capacitance", "cell_capacitance_std"]
        columns += ["differential_capacitance", "differential_capacitance_std"]
        print(name, one[columns].to_dataframe().round(6).to_string(), sep="\n")
    print("handed over", (over["surface_charge"] / over["md_surface_charge"]).values.round(4))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.errorbar(table["voltage"], table["md_charge"], table["md_charge_std"], fmt="o", label="MD")
    left.plot(table["voltage"], table["pb_charge"], label="Poisson-Boltzmann")
    left.set(xlabel="voltage (kT/e)", ylabel="charge (e)")
    left.legend()
    for name, one in both.items():
        right.errorbar(
            one["potential"] / THERMAL,
            100 * one["differential_capacitance"],
            100 * one["differential_capacitance_std"],
            fmt="o-",
            label=name,
        )
    right.set(xlabel="potential against the bulk (kT/e)", ylabel="capacitance (µF cm$^{-2}$)")
    right.legend()
    figure.savefig(folder / "primitive_model_capacitor.png", dpi=150)
    return parts


def main() -> None:
    """Run and finish."""
    length = float(sys.argv[1]) if len(sys.argv) > 1 else 13200.0
    seen, model = run(length, checkpoint=HERE / "run.pt")
    finish(seen, model, HERE)


if __name__ == "__main__":
    main()
