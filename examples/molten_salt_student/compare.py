"""Hold the committee of molten NaCl against its teacher: forces, structure, diffusion, cost.

    python compare.py teacher FOLDER   # the teacher's run: 64 ions, 1100 K; goes on where it was
    python compare.py students FOLDER  # the students' from the same start, for the same time
    python compare.py electrodes FOLDER  # labels what the runs of the capacitor's study saved
    python compare.py forces FOLDER    # errors on held-out, the teacher's and the students' frames
    python compare.py field FOLDER     # what the teacher misses of electrodes' field, by depth
    python compare.py cost FOLDER      # CPU time a step, beside the teacher and plain torch-sim
    python compare.py                  # reads what is kept here and prints it: 8 s

FOLDER is where `train.py` worked. The runs are kept as ``teacher_1100K.nc`` and
``students_1100K.nc`` (positions, thinned) and all numbers in ``compared.json`` beside this script.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch_sim as ts
import xarray as xr
from ase import Atoms
from ase.io import read, write

sys.path.insert(0, str(Path(__file__).parent))
import frames
import train

from atomistic.dynamics import Schedule, sample
from atomistic.learning import distil
from atomistic.observables.self_diffusion import self_diffusivity
from atomistic.observables.structure import radial_distribution
from atomistic.potentials.committee import Committee
from atomistic.potentials.load import Potential, load
from atomistic.units import ANGSTROM

HERE = Path(__file__).parent
CAPACITOR = HERE.parent / "molten_salt_capacitor"
KEPT = {"teacher": HERE / "teacher_1100K.nc", "students": HERE / "students_1100K.nc"}
RECORD = HERE / "compared.json"
TEMPERATURE = 1100.0
SCHEDULE = Schedule(timestep=5.0, equilibration=0.4, production=9.0, frame_interval=50.0)
REPLICAS = 2  # runs of each student, of other velocities and noise
PAIRS = [("Na", "Cl"), ("Na", "Na"), ("Cl", "Cl")]


def student(member: int) -> Potential:
    """Load the short range of a member."""
    return load(str(HERE / f"member_{member}" / "nep.txt"), device="cpu")


def start(folder: Path) -> Atoms:
    """A frame of the melt at the temperature and density of the comparison."""
    labelled = read(folder / "round_2.extxyz", ":")
    chosen = [
        one
        for one in labelled
        if train.kind(one) == "bulk"
        and one.info["temperature"] == TEMPERATURE
        and abs(one.cell[0, 0] - frames.LENGTH) < 1e-6
    ]
    atoms = chosen[-1].copy()
    atoms.info = {}
    return atoms


def run(
    atoms: Atoms, potential: Potential, replicas: int, seed: int, saved: Path | None = None
) -> xr.Dataset:
    """Run from one start at the temperature of the comparison."""
    return sample(
        [[atoms] * replicas], potential, temperatures=[TEMPERATURE], schedule=SCHEDULE, seed=seed,
        checkpoint=saved, checkpoint_interval=0.2,
    )  # fmt: skip


def keep(found: xr.Dataset, who: str) -> None:
    """Write a run to the file of its own."""
    found.attrs["made_by"] = f"compare.py, one CPU core, {SCHEDULE.timestep:g} fs, Bussi"
    found.to_netcdf(
        KEPT[who],
        engine="h5netcdf",
        encoding={"position": {"zlib": True, "complevel": 9, "shuffle": True}},
    )


def pair(value: float, error: float) -> list[float | None]:
    """Round a number and its error; None for one that the run was too short to say."""
    return [round(each, 3) if np.isfinite(each) else None for each in (value, error)]


def ratio(one: Sequence[float | None], other: Sequence[float | None]) -> list[float | None]:
    """Ratio of two numbers, each with its error, with its own."""
    if None in (*one, *other):
        return [None, None]
    (a, da), (b, db) = one, other
    return pair(a / b, a / b * float(np.hypot(da / a, db / b)))


def displacement(seen: xr.Dataset) -> tuple[float, float]:
    """Mean squared displacement (Å2) in half a picosecond, and its error from blocks of time.

    Blocks are of one displacement each, with the start anywhere; ions of a block count as one.
    """
    lag = round(0.5e-12 / float(seen["time"][1] - seen["time"][0]))
    place = seen["position"].values[0] / ANGSTROM
    square = ((place[:, lag:] - place[:, :-lag]) ** 2).sum(-1).mean(-1)
    blocks = [one.mean() for row in square for one in np.array_split(row, square.shape[1] // lag)]
    return float(square.mean()), float(np.std(blocks, ddof=1) / np.sqrt(len(blocks)))


def diffusion_and_structure() -> dict[str, object]:
    """Diffusivities and radial distribution functions of both kept runs, held together."""
    found: dict[str, dict[str, object]] = {}
    curves, moved = {}, {}
    for who, path in KEPT.items():
        with xr.open_dataset(path, engine="h5netcdf") as kept:
            seen = kept.load()
        result = self_diffusivity(seen, chosen=["Na", "Cl"])
        curve = radial_distribution(seen, pairs=PAIRS, maximum=6.3 * ANGSTROM, bins=63, frames=150)
        curves[who] = curve["radial_distribution"].values[0]
        moved[who] = {
            ion: displacement(seen.isel(atom=seen["symbol"] == ion)) for ion in ("Na", "Cl")
        }
        found[who] = {
            "self_diffusivity_1e-9_m2_s": {
                ion: pair(
                    1e9 * result["self_diffusivity"].sel(species=ion).item(),
                    1e9 * result["self_diffusivity_std"].sel(species=ion).item(),
                )
                for ion in ("Na", "Cl")
            },
            "mean_squared_displacement_in_0.5_ps_angstrom2": {
                ion: pair(*one) for ion, one in moved[who].items()
            },
            "first_peak_NaCl_angstrom_height": [
                round(float(curve["distance"][curves[who][0].argmax()]) / ANGSTROM, 2),
                round(float(curves[who][0].max()), 2),
            ],
        }
    ratios = {"self_diffusivity": {}, "mean_squared_displacement": {}}
    for ion in ("Na", "Cl"):
        ratios["self_diffusivity"][ion] = ratio(
            *(found[who]["self_diffusivity_1e-9_m2_s"][ion] for who in ("students", "teacher"))
        )
        ratios["mean_squared_displacement"][ion] = ratio(
            *(moved[who][ion] for who in ("students", "teacher"))
        )
    apart = np.abs(curves["students"] - curves["teacher"])
    return {
        **found,
        "students_over_teacher": ratios,
        "radial_distribution_mean_difference": {
            "-".join(pair): round(float(apart[number].mean()), 3)
            for number, pair in enumerate(PAIRS)
        },
    }


def errors_on_frames(folder: Path) -> dict[str, object]:
    """Errors of each member on held-out frames, the teacher's run and the students' own."""
    teacher = load(train.TEACHER, device="cpu")
    rounds = [read(folder / f"round_{number}.extxyz", ":") for number in (1, 2)]
    held_out = [one for part in rounds for one in part][:: train.EVERY]
    sets = {"held out": held_out}
    symbols = ["Na"] * 32 + ["Cl"] * 32
    for who, path in KEPT.items():
        if not path.is_file():
            continue
        with xr.open_dataset(path, engine="h5netcdf") as kept:
            place = kept["position"].values[0].reshape(-1, 64, 3) / ANGSTROM
            cell = kept["cell"].values[0, 0] / ANGSTROM
        some = place[:: max(1, len(place) // 16)]
        met = [Atoms(symbols, positions=one, cell=cell, pbc=True) for one in some]
        sets[f"{who}' own frames" if who[-1] == "s" else f"{who}'s own frames"] = distil.label(
            met, teacher
        )
    own = folder / "capacitor.extxyz"
    if own.is_file():
        met = read(own, ":")
        sets["students' own frames between electrodes"] = met
    found: dict[str, object] = {}
    for name, labelled in sets.items():
        found[name] = {
            f"member_{member}": train.by_kind(labelled, student(member))
            for member in range(1, train.MEMBERS + 1)
        }
    return found


def from_the_capacitor() -> list[Atoms]:
    """Frames that the students met between electrodes, from the checkpoints of that study."""
    spec = importlib.util.spec_from_file_location("capacitor", CAPACITOR / "study.py")
    assert spec is not None
    assert spec.loader is not None
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    found = []
    for member in range(1, train.MEMBERS + 1):
        saved = torch.load(CAPACITOR / f"run_{member}.pt", weights_only=False)
        model = study.learnt(study.VOLTAGES, member)
        systems = len(study.VOLTAGES)
        last = saved["state"]["positions"].numpy().reshape(systems, -1, 3)
        for system in range(systems):
            atoms = study.cell(0)
            atoms.positions = last[system]
            atoms.info = {"temperature": study.TEMPERATURE, "member": member}
            found += frames.ions_alone([atoms], model, system)
    return found


def missed_field(folder: Path) -> dict[str, object]:
    """How much of the field that electrodes had on the ions the teacher misses, by depth.

    What is left of its forces less those of charges and of a student, on each ion times its
    charge, regressed on the field.
    """
    short = student(1)
    met = [
        one
        for number in (1, 2)
        for one in read(folder / f"round_{number}.extxyz", ":")
        if train.kind(one) == "electrodes"
    ]
    field = np.array([one.info.pop("field") for one in met]) / train.PERMITTIVITY
    left = train.rest(met)  # with no field noted, only Ewald's sum is taken off
    depth, force, on = [], [], []
    for one, own, strength in zip(left, distil.label(left, short), field, strict=True):
        charge = np.array([frames.CHARGES[symbol] for symbol in one.symbols])
        depth.append(np.minimum(one.positions[:, 2], frames.GAP - one.positions[:, 2]))
        force.append(charge * (one.get_forces() - own.get_forces())[:, 2])
        on.append(np.full(len(one), strength))
    place, push, strength = (np.concatenate(each) for each in (depth, force, on))
    edges = [2.0, 3.2, 4.0, 5.0, 6.0, 7.0, 8.5, 10.0, 12.0]
    share, expected = [], []
    for low, high in itertools.pairwise(edges):
        here = (place >= low) & (place < high)
        share.append(float((push[here] @ strength[here]) / (strength[here] @ strength[here])))
        expected.append(float(train.unseen(place[here])[0].mean()))
    middle = [float(one[place > 8.0].mean()) for one, place in zip(force, depth, strict=True)]
    return {
        "distance_from_plates_angstrom": edges,
        "missed": np.round(share, 2).tolist(),
        "taken_off": np.round(expected, 2).tolist(),
        "correlation_in_the_middle": round(float(np.corrcoef(middle, field)[0, 1]), 3),
        "field_rms_V_per_angstrom": round(float(field.std()), 3),
        "frames": len(met),
    }


def best(call: Callable[[], object], repeats: int) -> float:
    """Best CPU time of some calls (s)."""
    call()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


def cost(folder: Path) -> dict[str, object]:
    """CPU time per ion and step (µs), of the models and of our layer over plain torch-sim's."""
    from torch_sim.integrators.nvt import nvt_vrescale_init, nvt_vrescale_step
    from torch_sim.units import MetalUnits

    atoms = start(folder)
    batch = 8
    short = student(1)
    members = [student(member) for member in range(1, train.MEMBERS + 1)]
    state = ts.io.atoms_to_state([atoms] * batch, torch.device("cpu"), torch.float64)
    count = batch * len(atoms)
    teacher = load(train.TEACHER, device="cpu").model
    alone = ts.io.atoms_to_state([atoms], torch.device("cpu"), teacher.dtype)
    whole = train.whole(short)
    evaluated = {
        "student_short_range": best(lambda: short.model(state), 20) / count,
        "student_with_charges": best(lambda: whole.model(state), 10) / count,
        "three_students": best(lambda: Committee([one.model for one in members])(state), 10)
        / count,
        "teacher": best(lambda: teacher(alone), 4) / len(atoms),
    }
    # the same 100 steps, by `sample` and by torch-sim's own functions in a loop
    steps = 100
    kT = torch.tensor(TEMPERATURE * float(MetalUnits.temperature), dtype=torch.float64)
    unit = 1e-3 * float(MetalUnits.time)

    def plain() -> None:
        moving = state.clone()
        moving.rng = 1
        moving = nvt_vrescale_init(moving, whole.model, kT=kT)
        for _ in range(steps):
            moving = nvt_vrescale_step(whole.model, moving, dt=4 * unit, kT=kT, tau=100 * unit)

    schedule = Schedule(timestep=4.0, equilibration=0.0, production=0.4, frame_interval=20.0)

    def ours() -> None:
        sample([[atoms] * batch], whole, temperatures=[TEMPERATURE], schedule=schedule, seed=1)

    times = {"sample": np.inf, "torch_sim": np.inf}
    for _ in range(4):  # in turns, so that a busy machine slows both
        times["torch_sim"] = min(times["torch_sim"], best(plain, 1))
        times["sample"] = min(times["sample"], best(ours, 1))
    micro = {name: round(1e6 * value, 2) for name, value in evaluated.items()}
    return {
        "microseconds_per_ion_and_evaluation": micro,
        "teacher_over_student_with_charges": round(
            evaluated["teacher"] / evaluated["student_with_charges"], 1
        ),
        "microseconds_per_ion_and_step": {
            name: round(1e6 * value / steps / count, 2) for name, value in times.items()
        },
        "sample_over_torch_sim": round(times["sample"] / times["torch_sim"], 4),
        "systems_ions": [batch, len(atoms)],
    }


def record(name: str, value: object) -> None:
    """Put numbers into the file that is kept."""
    kept = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    kept[name] = value
    RECORD.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(value, indent=1))


def main(what: str, folder: Path) -> None:
    """Do one of the things above."""
    if what == "teacher":
        saved = folder / "teacher.pt"
        keep(run(start(folder), load(train.TEACHER, device="cpu"), 1, 5, saved), "teacher")
    elif what == "students":
        runs = [
            run(start(folder), train.whole(student(member)), REPLICAS, 50 + member)
            for member in range(1, train.MEMBERS + 1)
        ]
        keep(xr.concat(runs, "replica", data_vars="minimal"), "students")
    elif what == "electrodes":
        met = distil.label(from_the_capacitor(), load(train.TEACHER, device="cpu"))
        write(folder / "capacitor.extxyz", met)
    elif what == "forces":
        record("forces", errors_on_frames(folder))
    elif what == "field":
        record("field", missed_field(folder))
    elif what == "cost":
        record("cost", cost(folder))
    if what in ("teacher", "students", "again") and all(path.is_file() for path in KEPT.values()):
        record("diffusion_and_structure", diffusion_and_structure())


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        main(sys.argv[1], Path(sys.argv[2]))
    else:
        print(json.dumps({**json.loads(RECORD.read_text()), **diffusion_and_structure()}, indent=1))
