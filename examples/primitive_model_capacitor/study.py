"""Ions between electrodes at constant potential, from MD and from Poisson and Boltzmann.

Where ions feel each other weakly, molecular dynamics of a primitive model (charges in water that
is no more than a permittivity) must give what the Poisson-Boltzmann equation gives: the same charge
of the electrodes, the same potential, the same capacitance. Here that is 0.9 mM of a 1:1
electrolyte between two plates 82 nm apart, Debye length 10 nm, at 0 to 12 kT/e. All voltages and
replicas run in one batch; a run that is stopped goes on from its checkpoint.

What mean field leaves out is known here and no fit: the ions are no points but Gaussians, and each
of them is attracted by its own image in the metal and by the cloud that it gathers (one loop about
mean field, with all images). Together they add 0.4 to 0.7 % to the charge.

The capacitance then goes through the coupler, which takes the diffuse layer off and leaves the
inner one: with it the continuum predicts the charge that MD has.

    python study.py [picoseconds]  # writes primitive_model.nc and primitive_model_capacitor.png

The record beside it was put together from four such runs, two of them with a friction of 0.03 ps-1
in which charges fluctuate more slowly: 134 ns for a voltage in all, 109 ns at 6 and 10 kT/e. There
the two capacitances at 4 kT/e were 2.2 standard errors apart, at the others no more than 1.5. A
fifth run, at 4 kT/e alone and from other places, fluctuates by 0.94 ± 0.05 of what theory expects
where the four had 1.10 ± 0.06, so that this was noise; with it, 224 ns, they are 1.4 apart. The
charge of MD is 0.3 to 0.7 % above Poisson and Boltzmann's, and within 1.5 of its errors, of 0.1 to
0.6 %, of what is expected with all that mean field leaves out. The potential is off by 0.001 to
0.008 kT/e rms, and the charge handed on is 0.994 to 1.014 of that of MD.

References: https://doi.org/10.1103/PhysRevLett.123.195501 (finite field),
https://doi.org/10.1039/C9CP06285H (fluctuations), https://doi.org/10.1007/s101890050023 (loops).
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from ase import Atoms
from scipy.constants import Avogadro, Boltzmann, elementary_charge, gas_constant
from scipy.optimize import brentq

from atomistic.dynamics import Schedule, sample
from atomistic.electrostatics.electrodes import ConstantPotential, Electrode
from atomistic.electrostatics.ewald import COULOMB
from atomistic.electrostatics.geometry import ideal_width, plates
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
VOLTAGES = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0)  # kT/e
HERE = Path(__file__).parent


def cell(seed: int) -> Atoms:
    """Two plates of single layers with ions at random between them."""
    rng = np.random.default_rng(seed)
    atoms, _ = plates(SITES, WIDTH / SITES, GAP, room=6 * UNIT)
    atoms.set_masses([12.0] * len(atoms))
    ions = np.c_[
        rng.uniform(0, WIDTH, (IONS, 2)), rng.uniform(CLOSEST + UNIT, GAP - CLOSEST - UNIT, IONS)
    ]
    salt = Atoms(["Na"] * (IONS // 2) + ["Cl"] * (IONS // 2), positions=ions)
    salt.set_masses([30.0] * IONS)
    return atoms + salt


def potential(voltages: list[float], dtype: torch.dtype = torch.float32) -> Potential:
    """Electrodes at voltages (kT/e), one for each system, and the walls before them."""
    held = plates(SITES, WIDTH / SITES, GAP, room=6 * UNIT)[1]
    width = ideal_width(WIDTH / SITES)
    half = [0.5 * THERMAL * one for one in voltages]
    electrodes = ConstantPotential(
        cell(0),
        {name: Electrode(atoms, width=width) for name, atoms in held.items()},
        {"Na": 1.0, "Cl": -1.0},
        potentials={"left": [-one for one in half], "right": half},
        boundary="finite field",
        widths={"Na": UNIT, "Cl": UNIT},
        relative_permittivity=PERMITTIVITY,
        cutoff=11 * UNIT,
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
        cutoff=11 * UNIT,
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
        friction=0.01,
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


def line(waves: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (Å) between the plates, and waves that are zero at both: their numbers and values."""
    points = (np.arange(2000) + 0.5) * GAP / 2000
    numbers = np.pi / GAP * np.arange(1, waves + 1)
    return points, numbers, np.sin(np.outer(numbers, points))


def interaction(square: np.ndarray | float, width: float) -> np.ndarray:
    """Energy (kT Å2) of two Gaussian ions in waves of a squared wave number (Å-2)."""
    return 4 * np.pi * BJERRUM * np.exp(-np.asarray(square) * width**2 / 2) / square


def mean_field(voltage: float, width: float) -> tuple[float, np.ndarray]:
    """Charge (e) and densities of both ions (Å-3; ion, point) in mean field, by Newton.

    As `continuum`, but of ions of a width (Å) and with their number, not their bulk, given.
    """
    points, numbers, waves = line(200 if width else 500)
    step, area, half = points[1] - points[0], WIDTH**2, IONS / 2
    wall = wall_energy(points[None] * 1e-10) / (gas_constant * TEMPERATURE)
    strength = 2 / GAP * interaction(numbers**2, width)
    potential = np.zeros(len(numbers))
    for _ in range(100):
        felt = voltage * (points / GAP - 0.5) + potential @ waves
        ions = np.exp(-wall - np.array([felt, -felt]))
        ions *= half / area / (ions.sum(1, keepdims=True) * step)
        rest = potential - strength * (waves @ (ions[0] - ions[1])) * step
        answer = np.eye(len(numbers)) + strength[:, None] * spread(ions, waves, step, kept=True)
        change = np.linalg.solve(answer, rest)
        potential = potential - change * min(1.0, 2.0 / np.abs(change @ waves).max())
        if np.abs(change).max() < 1e-11:
            break
    charge = area / (4 * np.pi * BJERRUM * GAP) * voltage
    return float(charge - area / GAP * ((ions[0] - ions[1]) @ points) * step), ions


def spread(ions: np.ndarray, waves: np.ndarray, step: float, *, kept: bool) -> np.ndarray:
    """How the ions' charge varies (Å-2) in two waves, their numbers kept or not."""
    found = (waves * ions.sum(0)) @ waves.T * step
    if kept:
        each = (ions @ waves.T) * step
        found = found - WIDTH**2 / (IONS / 2) * each.T @ each
    return found


def fluctuations(ions: np.ndarray, width: float) -> float:
    r"""Free energy (kT) of ions' fluctuations about mean field: one loop, with all their images.

    .. math:: \tfrac12 \sum_k \ln\det(1 + v_k \chi), \qquad
        v_k = 4\pi l_B\,\frac{e^{-(k^2 + p^2) w^2/2}}{k^2 + p^2}

    over the wave vectors k of the cell along the plates, in waves :math:`\sin pz` that vanish at
    the metal; :math:`\chi` is how ions vary that do not feel each other.
    """
    points, numbers, waves = line(200)
    step = points[1] - points[0]
    varying = {kept: 2 / GAP * spread(ions, waves, step, kept=kept) for kept in (True, False)}
    steps = np.arange(-40, 41)
    squares, count = np.unique(steps[:, None] ** 2 + steps**2, return_counts=True)
    total = 0.0
    for number, times in zip(squares.tolist(), count.tolist(), strict=True):
        square = number * (2 * np.pi / WIDTH) ** 2
        root = np.sqrt(interaction(square + numbers**2, width))
        felt = root > 1e-7 * root.max()
        if square * width**2 > 60:
            break
        one = root[:, None] * varying[number == 0] * root  # along the plates numbers are kept
        total += 0.5 * times * np.linalg.slogdet(np.eye(felt.sum()) + one[felt][:, felt])[1]
    return float(total)


def beyond_mean_field(voltage: float) -> tuple[float, float]:
    r"""Charge (e) of the right plate in mean field of Gaussian ions, and what one loop adds.

    .. math:: Q = Q_w - \frac{d}{dU} \tfrac12 \sum_k \ln\det(1 + v_k \chi)

    First-order perturbation of the free energy at constant voltage and number of ions, in which
    mean field is stationary. At weak coupling the next order is smaller by the same factor again.

    References
    ----------
    Netz and Orland, Eur. Phys. J. E 1, 203 (2000), https://doi.org/10.1007/s101890050023
    """
    step = 0.1
    ends = [fluctuations(mean_field(voltage + one, UNIT)[1], UNIT) for one in (step, -step)]
    return mean_field(voltage, UNIT)[0], (ends[1] - ends[0]) / (2 * step)


def expected_capacitance(voltage: float) -> float:
    """Capacitance (F m-2) of the cell as a slope of the expected charge, at a voltage (kT/e)."""
    step = 0.25
    ends = [sum(beyond_mean_field(voltage + one)) for one in (step, -step)]
    charge = (ends[0] - ends[1]) * elementary_charge
    return charge / (2 * step * THERMAL * (WIDTH * 1e-10) ** 2)


def compare(seen: layers.Layers, model: Potential, voltages: tuple[float, ...]) -> xr.Dataset:
    """Put MD beside the continuum at each voltage, and beside what mean field leaves out."""
    rows = []
    unit = (WIDTH * 1e-10) ** 2 / elementary_charge
    for voltage in voltages:
        md, other = (
            profile(
                seen,
                model.model,
                electrode=electrode,
                voltage=at * THERMAL,
                temperature=TEMPERATURE,
                charge_numbers={"Na": 1.0, "Cl": -1.0},
            )
            for electrode, at in (("left", -voltage), ("right", voltage))
        )
        pb = continuum(voltage)
        inside = (md["z"] > 0) & (md["z"] < GAP * 1e-10)
        z = md["z"].values[inside]
        phi = np.interp(z, pb["x"].values, pb["potential"].values)
        bulk = (z > 0.4 * GAP * 1e-10) & (z < 0.6 * GAP * 1e-10)
        # both electrodes are alike: what either sees is the other's with its sign changed
        seen_by_both = 0.5 * (md["potential"] - other["potential"].interp(z=md["z"])).values
        apart = seen_by_both[inside] - (phi - phi[bulk].mean())
        charge = -float(md["surface_charge"]) * unit
        spread_of_blocks = float(md["surface_charge_std"]) * unit
        points = float(pb["surface_charge"].sel(wall="right")) * unit
        gaussians, loop = beyond_mean_field(voltage)
        rows.append(
            {
                "md_charge": charge,
                "md_charge_std": spread_of_blocks,
                "pb_charge": points,
                "from_width": gaussians - points,
                "from_correlation": loop,
                "off_by_std": (charge - gaussians - loop) / spread_of_blocks,
                "potential_rms": float(np.sqrt((apart**2).mean())) / THERMAL,
                "voltage_drop": -float(md["voltage_drop"]) / THERMAL,
                "bulk_concentration": pb.attrs["bulk_concentration"],
            }
        )
    units = {"bulk_concentration": "mol m-3"}
    units |= dict.fromkeys(("potential_rms", "voltage_drop", "off_by_std"), "1")
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
    worth = [expected_capacitance(voltage) for voltage in VOLTAGES]
    table["expected_cell_capacitance"] = ("voltage", worth, {"units": "F m-2"})
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
    inset = left.inset_axes((0.58, 0.13, 0.4, 0.4))
    above = table["md_charge"] - table["pb_charge"]
    inset.errorbar(table["voltage"], above, table["md_charge_std"], fmt="o", ms=3)
    inset.plot(table["voltage"], table["from_width"] + table["from_correlation"], "C2")
    inset.axhline(0, color="C0")
    inset.set_title("above mean field (e)", fontsize=8)
    inset.tick_params(labelsize=7)
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
    length = float(sys.argv[1]) if len(sys.argv) > 1 else 20000.0
    seen, model = run(length, checkpoint=HERE / "run.pt")
    finish(seen, model, HERE)


if __name__ == "__main__":
    main()
