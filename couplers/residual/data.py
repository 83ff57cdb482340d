"""Reference data: the same currents through a batched P2D and a batched SPMe, as Datasets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from couplers.residual import profiles
from couplers.residual.features import ACTIVE, STATIC, assemble, memory_times, remember
from couplers.residual.layers import ELECTROLYTE
from couplers.residual.p2d import P2D, POINTS, follow
from couplers.residual.parameters import Cell
from couplers.residual.spme import SPMe

SCALE_RANGE = 0.6  # electrolyte scales from this to its inverse
TRANSFERENCE_RANGE = 0.1
FACTOR_RANGE = 0.3
AS_PUBLISHED = 0.3  # the share of profiles with the set's own electrolyte
SPARED = ((0.65, 0.85), (1.4, 1.6))  # C-rates never trained on
HELD_OUT = 20261121  # seed of what is judged by, not of what is trained on
BATCH = 768
FAST, SLOW = 1200, 7200  # s


@dataclass(frozen=True)
class Design:
    """What is run: currents in C-rates, starts, electrolytes; one time grid."""

    name: str
    time: np.ndarray  # s
    c_rate: np.ndarray  # (draw, time)
    state_of_charge: np.ndarray  # (draw,)
    electrolyte: Mapping[str, np.ndarray]  # (draw,) each
    kind: tuple[str, ...]  # of each draw

    @property
    def fingerprint(self) -> str:
        """Hash of all numbers in it."""
        digest = hashlib.sha256(self.name.encode())
        for values in (self.time, self.c_rate, self.state_of_charge, *self.electrolyte.values()):
            digest.update(np.ascontiguousarray(values, dtype=float).tobytes())
        return digest.hexdigest()[:16]

    def part(self, which: slice) -> Design:
        """Some of its draws."""
        return Design(
            self.name,
            self.time,
            self.c_rate[which],
            self.state_of_charge[which],
            {name: values[which] for name, values in self.electrolyte.items()},
            self.kind[which],
        )


def drawn_electrolytes(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Electrolytes over the range that molecular dynamics leaves open, some as published."""
    own = rng.random(count) < AS_PUBLISHED
    found = {}
    for name in ELECTROLYTE:
        if name.endswith("shift"):
            values = rng.uniform(-TRANSFERENCE_RANGE, TRANSFERENCE_RANGE, count)
            found[name] = np.where(own, 0.0, values)
        else:
            reach = -np.log(SCALE_RANGE)
            if name.startswith("thermo"):
                reach = np.log1p(FACTOR_RANGE)
            found[name] = np.where(own, 1.0, np.exp(rng.uniform(-reach, reach, count)))
    return found


def own_electrolytes(count: int) -> dict[str, np.ndarray]:
    """The set's own electrolyte, for each of so many cells."""
    return {name: np.full(count, 0.0 if name.endswith("shift") else 1.0) for name in ELECTROLYTE}


def fast(seed: int, count: int, *, highest: float, duration: int = FAST) -> Design:
    """Random pulses, trips, noise and HPPC tests, one point a second.

    Parameters
    ----------
    seed : int
        Seed (1).
    count : int
        Number of profiles (1).
    highest : float
        Highest C-rate (1).
    duration : int
        Length (s).
    """
    rng = np.random.default_rng(seed)
    points = duration + 1
    makers = [profiles.FAST[k % len(profiles.FAST)] for k in range(count)]
    current = np.array([make(rng, points, highest) for make in makers])
    return Design(
        "fast",
        np.arange(points, dtype=float),
        current,
        rng.uniform(0.15, 1.0, count),
        drawn_electrolytes(rng, count),
        tuple(make.__name__ for make in makers),
    )


def slow(seed: int, count: int, *, highest: float, duration: float = SLOW) -> Design:
    """Constant currents, with rests, second currents and tapers; see `fast`."""
    rng = np.random.default_rng(seed)
    time = profiles.slow_times(duration)
    found = [profiles.steady(rng, time, highest, spared=SPARED) for _ in range(count)]
    return Design(
        "slow",
        time,
        np.array([current for current, _ in found]),
        np.array([start for _, start in found]),
        drawn_electrolytes(rng, count),
        ("steady",) * count,
    )


def held_out(highest: float, *, count: int = 64) -> dict[str, Design]:
    """Profiles that `fast` and `slow` never make: the named cycles, and the spared C-rates.

    The trips, their heights and their starts are drawn anew, from a seed of their own.
    """
    rng = np.random.default_rng(HELD_OUT)
    found = {}
    for name, make in (
        ("US06-like", lambda: profiles.us06_like(int(rng.integers(10_000, 2**31)))),
        ("WLTC-like", lambda: profiles.wltc_like(int(rng.integers(10_000, 2**31)))),
        ("HPPC", lambda: profiles.hppc(pulse=rng.uniform(0.5, 1.0), base=rng.uniform(0.3, 0.8))),
    ):
        cycles = np.array([make() for _ in range(count)])
        found[name] = Design(
            name,
            np.arange(cycles.shape[1], dtype=float),
            rng.uniform(0.5, 1.0, (count, 1)) * highest * cycles,
            rng.uniform(0.4, 0.95, count),
            own_electrolytes(count),
            (name,) * count,
        )
    time = profiles.slow_times(SLOW)
    ranges = [pair for pair in SPARED if pair[1] <= highest]
    rates = np.array([rng.uniform(*ranges[k % len(ranges)]) for k in range(count)])
    rates[-1] = min(highest, 2.0)
    found["constant current"] = Design(
        "constant current",
        time,
        np.repeat(rates[:, None], time.size, axis=1),
        np.ones(count),
        own_electrolytes(count),
        ("constant current",) * count,
    )
    return found


def unseen(*, highest: float, count: int = 64) -> dict[str, Design]:
    """Electrolytes never trained on: within the range, none as published; and far outside it."""
    rng = np.random.default_rng(HELD_OUT + 1)
    found = {}
    for name, reach in (("new electrolytes", 0.85), ("foreign electrolytes", 2.0)):
        base = fast(int(rng.integers(10_000, 2**31)), count, highest=highest)
        sign = rng.choice([-1.0, 1.0], count)
        size = reach * np.log(1 / SCALE_RANGE) * (rng.uniform(0.8, 1, count) if reach > 1 else 1)
        spread = rng.uniform(-1, 1, count) if reach < 1 else sign
        drawn = own_electrolytes(count)
        drawn["diffusivity_scale"] = np.exp(spread * size)
        if reach < 1:
            drawn["conductivity_scale"] = np.exp(rng.uniform(-1, 1, count) * size)
            drawn["transference_number_shift"] = rng.uniform(-0.08, 0.08, count)
            drawn["thermodynamic_factor_scale"] = np.exp(rng.uniform(-0.2, 0.2, count))
        found[name] = Design(name, base.time, base.c_rate, base.state_of_charge, drawn, base.kind)
    return found


def reference(
    cell: Cell,
    design: Design,
    *,
    points: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Run a design through P2D and SPMe, and keep the residual with the features.

    Parameters
    ----------
    cell : Cell
        The cell.
    design : Design
        What to run.
    points : pair of int, optional
        Mesh cells (1) of each electrode and of the separator.
    progress : callable, optional
        Called as ``progress(done, total)`` in cells.

    Returns
    -------
    xarray.Dataset
        `voltage`, `spme_voltage`, `residual` (V; nan where either has ended), `static` and
        `active` features, and the design, with the dims draw, time, feature.
    """
    count = len(design.state_of_charge)
    parts = []
    for start in range(0, count, BATCH):
        piece = design.part(slice(start, start + BATCH))
        parts.append(_run(cell, piece, points))
        if progress is not None:
            progress(min(start + BATCH, count), count)
    return _stacked(parts)


def _run(cell: Cell, design: Design, points: tuple[int, int] | None) -> xr.Dataset:
    mesh = POINTS if points is None else points
    current = design.c_rate * cell.capacity
    soc, drawn = design.state_of_charge, design.electrolyte
    full = follow(P2D(cell, soc, electrolyte=drawn, points=mesh), current, design.time)
    base = SPMe(cell, soc, electrolyte=drawn, points=mesh)
    simple = follow(base, current, design.time, record=base.state)
    memories = remember(design.c_rate, design.time, memory_times(cell))
    states = {name: simple[name].values for name in base.state()}
    broad = {
        name: np.broadcast_to(values[:, None], current.shape) for name, values in drawn.items()
    }
    static, active = assemble(states, design.c_rate, memories, broad)
    residual = full["voltage"].values - simple["voltage"].values
    data = {
        "voltage": (("draw", "time"), full["voltage"].values, {"units": "V"}),
        "spme_voltage": (("draw", "time"), simple["voltage"].values, {"units": "V"}),
        "residual": (("draw", "time"), residual, {"units": "V"}),
        "static": (
            ("draw", "time", "static_feature"),
            np.stack(static, -1).astype(np.float32),
            {"units": "1"},
        ),
        "active": (
            ("draw", "time", "active_feature"),
            np.stack(active, -1).astype(np.float32),
            {"units": "1"},
        ),
        "c_rate": (("draw", "time"), design.c_rate, {"units": "1"}),
        "state_of_charge": ("draw", soc, {"units": "1"}),
        "depleted": ("draw", full["depleted"].values),
        "kind": ("draw", np.array(design.kind)),
        **{name: ("draw", values, {"units": "1"}) for name, values in drawn.items()},
    }
    return xr.Dataset(
        data,
        coords={
            "time": ("time", design.time, {"units": "s"}),
            "static_feature": list(STATIC),
            "active_feature": list(ACTIVE),
        },
        attrs={
            "sign": "discharge positive",
            "reference": "P2D, batched",
            "fingerprint": design.fingerprint,
        },
    )


def joined(designs: Mapping[str, Design]) -> Design:
    """Several designs with one time grid as one, in their order."""
    all_of = list(designs.values())
    return Design(
        "+".join(designs),
        all_of[0].time,
        np.concatenate([d.c_rate for d in all_of]),
        np.concatenate([d.state_of_charge for d in all_of]),
        {name: np.concatenate([d.electrolyte[name] for d in all_of]) for name in ELECTROLYTE},
        sum((d.kind for d in all_of), ()),
    )


def generate(
    cell: Cell,
    designs: Mapping[str, Design],
    folder: Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, xr.Dataset]:
    """Run designs in large batches, each kept in a netCDF file from which a later call resumes.

    Designs with the same time grid run together: a step costs much the same for 50 cells as for
    500.

    Parameters
    ----------
    cell : Cell
        The cell.
    designs : mapping
        Name and design of each.
    folder : pathlib.Path
        Where the files go; a batch of the same profiles of the same cell is taken as it is.
    workers : int
        Number of processes (1).
    progress : callable, optional
        Called as ``progress(done, total)`` in profiles.

    Returns
    -------
    dict
        The Dataset of each name, as `reference` makes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grids: dict[bytes, dict[str, Design]] = {}
    for name, design in designs.items():
        grids.setdefault(design.time.tobytes(), {})[name] = design
    jobs: list[tuple[Path, Design]] = []
    for group in grids.values():
        whole = joined(group)
        for start in range(0, len(whole.kind), BATCH):
            piece = whole.part(slice(start, start + BATCH))
            jobs.append((folder / f"{cell_hash(cell)}-{piece.fingerprint}.nc", piece))
    waiting = [job for job in jobs if not job[0].exists()]
    total = sum(len(piece.kind) for _, piece in jobs)
    done = total - sum(len(piece.kind) for _, piece in waiting)
    if progress is not None:
        progress(done, total)
    if workers > 1 and len(waiting) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(_kept, cell, piece, path): piece for path, piece in waiting}
            for future in as_completed(futures):
                future.result()
                done += len(futures[future].kind)
                if progress is not None:
                    progress(done, total)
    else:
        for path, piece in waiting:
            _kept(cell, piece, path)
            done += len(piece.kind)
            if progress is not None:
                progress(done, total)
    found: dict[str, xr.Dataset] = {}
    place = iter(jobs)
    for group in grids.values():
        count = sum(len(design.kind) for design in group.values())
        parts: list[xr.Dataset] = []
        while sum(part.sizes["draw"] for part in parts) < count:
            with xr.open_dataset(next(place)[0], engine="h5netcdf") as stored:
                parts.append(stored.load())
        whole_data, start = _stacked(parts), 0
        for name, design in group.items():
            found[name] = whole_data.isel(draw=slice(start, start + len(design.kind)))
            start += len(design.kind)
    return {name: found[name] for name in designs}


def _stacked(parts: list[xr.Dataset]) -> xr.Dataset:
    return xr.concat(
        parts,
        dim="draw",
        data_vars="minimal",
        coords="minimal",
        join="exact",
        compat="equals",
        combine_attrs="drop_conflicts",
    )


def _kept(cell: Cell, piece: Design, path: Path) -> None:
    torch.set_num_threads(1)
    made = _run(cell, piece, None)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    made.to_netcdf(unfinished, engine="h5netcdf")
    unfinished.replace(path)


def cell_hash(cell: Cell) -> str:
    """Hash of all numbers of a cell."""
    digest = hashlib.sha256()
    for side in (cell, cell.negative, cell.positive):
        for name, value in sorted(vars(side).items()):
            if isinstance(value, (float, np.ndarray)):
                digest.update(name.encode() + np.ascontiguousarray(value, dtype=float).tobytes())
    return digest.hexdigest()[:12]
