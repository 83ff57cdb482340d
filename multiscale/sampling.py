"""Molecular dynamics of a study: every potential, temperature and replica, on what is there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.constants import angstrom

from multiscale.case import Case
from multiscale.executors import Progress, quiet_imports, spread

if TYPE_CHECKING:
    from ase import Atoms

BLOCKS = 5
LATTICE_DRAWS = 100  # of each replica


def simulate(case: Case, *, progress: Progress | None = None) -> xr.DataTree:
    """Run the molecular dynamics: every potential, temperature and replica.

    Each run first anneals at the hottest temperature, so that the mobile ions find their places in
    this arrangement of the others, which takes too long where it is cold. It then finds its cell
    at constant pressure and is sampled at constant volume; one more constant-pressure run of each
    potential gives the lattice parameter. All temperatures and replicas of a potential are one
    batch; on a CPU the temperatures are split where there are more worker processes than
    potentials.

    Parameters
    ----------
    case : Case
        Sections structure, potential and dynamics are read.
    progress : callable, optional
        Called with (done, total, text).

    Returns
    -------
    xarray.DataTree
        ``/trajectory``, a TRAJECTORY whose replicas are those of all potentials, and ``/lattice``
        with ``lattice_parameter`` (m) at every temperature, whose draws are the equal-weight
        mixture of all replicas, and ``local``, ``locality``: whether each potential sees as far
        as the ions' screening asks for, in a sentence.
    """
    from atomistic.potentials.load import choose_device

    section = case.dynamics
    on_cpu = choose_device(case.potential.device).type == "cpu"
    members = case.committee()
    temperatures = list(section.temperatures_K)
    workers = section.workers if on_cpu else 1
    parts = min(-(-workers // len(members)), len(temperatures))
    batches = [part.tolist() for part in np.array_split(temperatures, parts)]
    tasks = [
        (case, member, tuple(batch), True) for member in range(len(members)) for batch in batches
    ]
    tasks += [
        (case, member, (section.lattice_temperature_K,), False) for member in range(len(members))
    ]
    results = spread(_dynamics, tasks, workers=workers, progress=progress)
    sampled = len(members) * len(batches)
    by_member = [
        results[member * len(batches) : (member + 1) * len(batches)]
        for member in range(len(members))
    ]
    trajectory = _joined([_joined([run[0] for run in row], "condition") for row in by_member])
    lattice = _joined(
        [
            _joined([row_cells for _, row_cells in [*row, last]], "condition")
            for row, last in zip(by_member, results[sampled:], strict=True)
        ]
    )
    rng = np.random.default_rng(section.seed)
    shape = (lattice.sizes["condition"], lattice.sizes["replica"], LATTICE_DRAWS)
    draws = lattice["lattice_parameter_replica"].values[..., None] + (
        lattice["lattice_parameter_replica_std"].values[..., None] * rng.standard_normal(shape)
    )
    draws = draws.reshape(shape[0], -1)
    lattice["lattice_parameter"] = ("condition", draws.mean(1), {"units": "m"})
    lattice["lattice_parameter_std"] = ("condition", draws.std(1), {"units": "m"})
    lattice["lattice_parameter_draw"] = (("condition", "draw"), draws, {"units": "m"})
    return xr.DataTree.from_dict({"/trajectory": trajectory, "/lattice": lattice})


def _joined(parts: Sequence[xr.Dataset], dim: str = "replica") -> xr.Dataset:
    """Join Datasets along `dim`; what lacks the dim is the same in all of them."""
    return xr.concat(
        parts, dim=dim, data_vars="minimal", coords="minimal", compat="equals", join="exact"
    )


def _dynamics(
    case: Case,
    member: int,
    temperatures: tuple[float, ...],
    sampled: bool,
    progress: Progress,
) -> tuple[xr.Dataset | None, xr.Dataset]:
    """Run one potential at some temperatures: the trajectory if wanted, and the cell."""
    with quiet_imports():
        from atomistic.dynamics import Schedule, equilibrate, sample
        from atomistic.potentials.load import load
        from atomistic.potentials.locality import locality

    section, name = case.dynamics, case.committee()[member]
    potential = load(name, device=case.potential.device)
    structures = case.structures(section.replicas)
    seen = locality(
        potential,
        structures[0],
        charges=case.transport.charges,
        mobile=[case.transport.mobile],
        temperature=max(section.temperatures_K),
    )
    label = f"{Path(name).name} at {', '.join(f'{T:g}' for T in temperatures)} K"
    lengths = (section.anneal_ps, section.cell_ps if sampled else section.lattice_ps)
    schedule = partial(
        Schedule, timestep=section.timestep_fs, frame_interval=section.frame_interval_fs
    )
    anneal, find_cell = (schedule(equilibration=t / 2, production=t / 2) for t in lengths)
    find_motion = schedule(equilibration=section.equilibration_ps, production=section.production_ps)
    before, first, second = (
        plan.warm_up + plan.frames * plan.stride for plan in (anneal, find_cell, find_motion)
    )
    total = before + first + second * sampled
    seeds = np.random.SeedSequence([section.seed, member, *map(round, temperatures), sampled])
    anneal_seed, cell_seed, motion_seed = (int(word) for word in seeds.generate_state(3))
    (structures,), _ = equilibrate(
        structures,
        potential,
        temperatures=[max(section.temperatures_K)],
        schedule=anneal,
        pressure=section.pressure_GPa,
        seed=anneal_seed,
        progress=lambda done, *_: progress(done, total, label),
    )
    for atoms in structures:
        atoms.set_momenta(np.zeros((len(atoms), 3)))  # drawn anew at each temperature
    thermalised, cells = equilibrate(
        structures,
        potential,
        temperatures=temperatures,
        schedule=find_cell,
        pressure=section.pressure_GPa,
        seed=cell_seed,
        progress=lambda done, *_: progress(before + done, total, label),
    )
    lattice = _lattice(cells, structures, case.structure.repeat, name).assign(
        local=("replica", [seen.holds] * len(structures)),
        locality=("replica", [seen.outcome] * len(structures)),
    )
    if not sampled:
        return None, lattice
    trajectory = sample(
        thermalised,
        potential,
        temperatures=temperatures,
        schedule=find_motion,
        seed=motion_seed,
        progress=lambda done, *_: progress(before + first + done, total, label),
    )
    return trajectory, lattice


def _lattice(
    cells: xr.Dataset, structures: Sequence[Atoms], repeat: Sequence[int], name: str
) -> xr.Dataset:
    """Mean length (m) of the first lattice vector of each replica, with its block error."""
    given = np.array([atoms.cell.lengths()[0] / repeat[0] for atoms in structures]) * angstrom
    scale = cells["length_scale"].transpose("condition", "replica", "frame").values
    blocks = np.stack([part.mean(-1) for part in np.array_split(scale, BLOCKS, axis=-1)])
    error = blocks.std(0, ddof=1) / np.sqrt(BLOCKS)
    dims = ("condition", "replica")
    return xr.Dataset(
        {
            "temperature": cells["temperature"],
            "lattice_parameter_replica": (dims, scale.mean(-1) * given, {"units": "m"}),
            "lattice_parameter_replica_std": (dims, error * given, {"units": "m"}),
            "potential_name": ("replica", [name] * len(structures)),
        }
    )
