"""Run molten NaCl, 216 ions at 1100 K, and keep its frames: the data of `transport_nacl`.

    python -m benchmarks.nacl_trajectories FOLDER [minutes]

from the repository's root runs eight replicas in one batch for about `minutes` and writes chunks of
10 ps, ``frames_0000.npz`` and so on, each with positions (float32, Å, every 20 fs), charge current
(e Å/ps) and stress (eV/Å3) every 10 fs. Call it again to go on where it stopped.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch_sim as ts
from ase.build import bulk
from torch_sim.integrators.nvt import NVTVRescaleState, nvt_vrescale_init, nvt_vrescale_step
from torch_sim.units import MetalUnits

from atomistic.potentials.ionic import sodium_chloride

REPLICAS = 8
TEMPERATURE = 1100.0  # K
DENSITY = 1.453  # g/cm3, of this potential at 1 bar (STACIE's documentation, 1728 ions)
TIMESTEP = 2.0  # fs
FRAME, CURRENT = 10, 5  # steps
CHUNK = 5000  # steps
MELT, COOL = 2500, 5000  # steps at 3000 K, and then at 1100 K, before the first frame
DTYPE = torch.float32


def lattice():
    """Rock salt of 216 ions at the density of the melt."""
    edge = (4 * (22.990 + 35.45) / 0.602214076 / DENSITY) ** (1 / 3)
    return bulk("NaCl", "rocksalt", a=edge, cubic=True) * (3, 3, 3)


def steps(state, model, count, temperature, relaxation, keep=None):
    """Take `count` steps; hand each to `keep`."""
    scale = 1e-3 * float(MetalUnits.time)
    kT = torch.full((REPLICAS,), temperature * float(MetalUnits.temperature), dtype=DTYPE)
    for index in range(1, count + 1):
        state = nvt_vrescale_step(model, state, dt=TIMESTEP * scale, kT=kT, tau=relaxation * scale)
        if keep is not None:
            keep(state, index)
    return state


def beginning(model):
    """Melt the lattice and bring it to temperature."""
    rng = np.random.default_rng(2026)
    batch = [lattice() for _ in range(REPLICAS)]
    for atoms in batch:
        atoms.positions += 0.1 * rng.standard_normal(atoms.positions.shape)
    state = ts.io.atoms_to_state(batch, "cpu", DTYPE)
    state.rng = 2026
    hot = torch.full((REPLICAS,), 3000.0 * float(MetalUnits.temperature), dtype=DTYPE)
    state = nvt_vrescale_init(state, model, kT=hot)
    state = steps(state, model, MELT, 3000.0, 50.0)
    state = steps(state, model, COOL // 2, TEMPERATURE, 50.0)
    return steps(state, model, COOL // 2, TEMPERATURE, 1000.0)


def saved(state):
    """What a restart needs."""
    names = (
        "positions", "momenta", "forces", "energy", "masses", "cell", "pbc", "atomic_numbers",
        "system_idx",
    )  # fmt: skip
    return {name: getattr(state, name) for name in names} | {"rng": state.rng.get_state()}


def restored(values):
    """The state that `saved` wrote."""
    values = dict(values)
    generator = values.pop("rng")
    state = NVTVRescaleState(**values)
    state.rng = 0
    state.rng.set_state(generator)
    return state


def main(folder, minutes):
    """Run chunks until the time is up."""
    torch.set_num_threads(1)
    deadline = time.monotonic() + 60 * minutes
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = sodium_chloride(dtype=DTYPE).model
    restart = folder / "restart.pt"
    if restart.is_file():
        values = torch.load(restart, weights_only=False)
        done, state = values.pop("done"), restored(values)
    else:
        done, state = 0, beginning(model)
        torch.save(saved(state) | {"done": 0}, restart)
    last = {}
    model.register_forward_hook(lambda _, given, out: last.update(out))  # the state drops stress
    charge = torch.where(state.atomic_numbers == 11, 1.0, -1.0)[:, None]
    while True:
        begun = time.monotonic()
        frames, currents, stresses = [], [], []

        def keep(state, index):
            if index % FRAME == 0:
                frames.append(state.positions.reshape(REPLICAS, -1, 3).numpy().copy())  # noqa: B023
            if index % CURRENT == 0:
                velocity = state.momenta / state.masses[:, None] * float(MetalUnits.time)
                current = (charge * velocity).reshape(REPLICAS, -1, 3).sum(1)
                currents.append(current.numpy())  # noqa: B023
                kinetic = torch.einsum(
                    "ax,ay->axy", state.momenta, state.momenta / state.masses[:, None]
                ).reshape(REPLICAS, -1, 3, 3).sum(1)  # fmt: skip
                volume = torch.linalg.det(state.cell).abs()[:, None, None]
                stresses.append((last["stress"] - kinetic / volume).numpy())  # noqa: B023

        state = steps(state, model, CHUNK, TEMPERATURE, 1000.0, keep)
        np.savez(
            folder / f"frames_{done:04d}.npz",
            position=np.stack(frames, 1),
            current=np.stack(currents, 1),
            stress=np.stack(stresses, 1),
            cell=state.row_vector_cell.numpy(),
            numbers=state.atomic_numbers.numpy()[: len(state.positions) // REPLICAS],
        )
        done += 1
        torch.save(saved(state) | {"done": done}, restart)
        took = time.monotonic() - begun
        kelvin = (state.calc_kT() / float(MetalUnits.temperature)).tolist()
        print(done, f"{took:.0f} s", [round(value) for value in kelvin], flush=True)
        if time.monotonic() + 1.05 * took > deadline:
            break


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 9.0)
