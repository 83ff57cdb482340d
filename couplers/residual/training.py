"""Train a corrector: the ensemble, the student, the box and the band."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from continuum.cell import pybamm
from couplers.residual.checking import shares
from couplers.residual.corrector import FLOOR, NETWORKS, Corrector, Layers, conformal, dense
from couplers.residual.data import (
    Design,
    cell_hash,
    fast,
    generate,
    held_out,
    slow,
    unseen,
)
from couplers.residual.features import KINDS, as_published, kind, memory_times
from couplers.residual.model import described
from couplers.residual.parameters import read_cell

TEACHER, STUDENT, DOUBT = 64, 14, 32  # hidden width of each network
MEMBERS = 3
EPOCHS, STUDENT_EPOCHS, DOUBT_EPOCHS = 40, 100, 20
SAMPLES, BATCH = 300_000, 1024
DOUBT_SAMPLES, DOUBT_QUANTILE = 100_000, 0.97
UNIT = 4e-3  # V
HUBER = 0.5  # in that unit
LEARNING_RATE = 6e-3
BOX_MARGIN = 0.05  # of the width of the box of features
FLAGGED = 0.02  # the share of calibration samples with the largest doubt
NEVER_FLAGGED = 1.5e-3  # V, doubt below which it does not abstain
PROFILES = 384
MOST_DEPLETED = 0.1
ENOUGH = 20  # profiles of a class that have a band of their own
LARGE = 3.0  # mV


class Network(torch.nn.Module):
    """Two hidden layers of tanh."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.first = torch.nn.Linear(inputs, width)
        self.second = torch.nn.Linear(width, width)
        self.last = torch.nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs."""
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))

    def arrays(self) -> Layers:
        """The weights as plain arrays."""
        return tuple(
            (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
            for layer in (self.first, self.second, self.last)
        )


def corrected(network: Network, x: torch.Tensor) -> torch.Tensor:
    """The correction in its unit: the outputs times the last features, the active ones."""
    said = network(x)
    return (said * x[:, -said.shape[-1] :]).sum(-1)


def miss(network: Network, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """What a correction is trained on: Huber's loss."""
    return torch.nn.functional.huber_loss(corrected(network, x), y, delta=HUBER)


def samples(
    datasets: Mapping[str, xr.Dataset],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Static features, active features (1) and residual (V) of every sample that is there."""
    static, active, residual = [], [], []
    for data in datasets.values():
        there = np.isfinite(data["residual"].values)
        static.append(data["static"].values[there])
        active.append(data["active"].values[there])
        residual.append(data["residual"].values[there])
    return np.concatenate(static), np.concatenate(active), np.concatenate(residual)


def train(
    learning: Mapping[str, xr.Dataset],
    calibration: Mapping[str, xr.Dataset],
    *,
    memory_times: np.ndarray,
    cell: str,
    about: Mapping[str, Any],
    seed: int = 0,
    members: int = MEMBERS,
    epochs: int = EPOCHS,
    student_epochs: int = STUDENT_EPOCHS,
    most_samples: int = SAMPLES,
    progress: Callable[[int, int], None] | None = None,
) -> Corrector:
    """Train on some profiles and calibrate the band on others.

    Parameters
    ----------
    learning : mapping
        Datasets of `couplers.residual.data.reference` to learn from.
    calibration : mapping
        Others, of profiles that are exchangeable with those to come, for the band alone.
    memory_times : numpy.ndarray
        Time constants (s) of the memories.
    cell : str
        Fingerprint of the cell.
    about : mapping
        Kept with the corrector: flat strings and numbers.
    seed : int
        Seed (1) of weights and batches.
    members, epochs, student_epochs, most_samples : int
        Size of the ensemble (1), passes over the data (1), and the samples kept of it (1).
    progress : callable, optional
        Called as ``progress(done, total)`` in passes.
    """
    static, active, residual = samples(learning)
    rng = np.random.default_rng(seed)
    both = np.concatenate([static, active], axis=-1)
    lowest, highest = both.min(axis=0), both.max(axis=0)
    margin = BOX_MARGIN * np.maximum(highest - lowest, 1e-3)
    if len(residual) > most_samples:
        pick = rng.choice(len(residual), most_samples, replace=False)
        static, active, residual = static[pick], active[pick], residual[pick]
    mean = static.mean(0).astype(float)
    scale = static.std(0).astype(float) + 1e-6
    stimulus = np.sqrt((active.astype(float) ** 2).mean(0)) + 1e-9
    x = torch.as_tensor(
        np.concatenate([(static - mean) / scale, active / stimulus], -1), dtype=torch.float32
    )
    y = torch.as_tensor(residual / UNIT, dtype=torch.float32)
    total = members * epochs + student_epochs
    state = {"done": 0}

    def told() -> None:
        state["done"] += 1
        if progress is not None:
            progress(state["done"], total)

    def fitted(width: int, y: torch.Tensor, epochs: int, seed: int) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(x.shape[1], active.shape[1], width)
        return fit(network, miss, x, y, epochs=epochs, seed=seed, told=told)

    teachers = [fitted(TEACHER, y, epochs, seed + k) for k in range(members)]
    with torch.no_grad():
        wise = torch.stack([corrected(network, x) for network in teachers]).mean(0)
    small = fitted(STUDENT, 0.5 * (wise + y), student_epochs, seed + 99)
    corrector = Corrector(
        static_mean=mean,
        static_scale=scale,
        active_scale=stimulus,
        unit=UNIT,
        student=small.arrays(),
        teachers=tuple(network.arrays() for network in teachers),
        lowest=lowest - margin,
        highest=highest + margin,
        doubt=(),
        largest_doubt=np.full(2, np.inf),
        factor=np.ones((len(NETWORKS), len(KINDS), 2)),
        abstained_band=0.0,
        memory_times=np.asarray(memory_times, dtype=float),
        cell=cell,
        about={
            **about,
            "seed": seed,
            "samples": len(residual),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )
    return calibrate(corrector, calibration, learning=learning, seed=seed)


def calibrate(
    corrector: Corrector,
    calibration: Mapping[str, xr.Dataset],
    *,
    learning: Mapping[str, xr.Dataset] | None = None,
    seed: int = 0,
) -> Corrector:
    """Fit the doubt, the limit of abstention and the band to profiles not learnt from.

    Half of the profiles, drawn at random, fit the doubt, a high quantile of the error at each
    sample, together with those learnt from, which are more, though flattered; and its limit. The
    rest sets the factors of the band, so that the one does not flatter the other: one for currents
    that are steady by `couplers.residual.features.kind`, and of the others one with the set's own
    electrolyte and one with drawn ones. A profile counts where the corrector does not abstain. What
    is promised holds for profiles drawn as those of a class were; a drive cycle, or a C-rate left
    out, is only like them.
    """
    rng = np.random.default_rng(seed)
    fitting, scoring = {}, {}
    for name, data in calibration.items():
        order = rng.permutation(data.sizes["draw"])
        fitting[name], scoring[name] = (data.isel(draw=half) for half in np.array_split(order, 2))
    looked_at = []
    for each in (fitting, learning or {}):
        if each:
            static, active, residual = samples(each)
            inside = np.flatnonzero(corrector.outside(static, active) <= 0)
            if len(inside) > DOUBT_SAMPLES:
                inside = rng.choice(inside, DOUBT_SAMPLES, replace=False)
            said, terms, _ = corrector.terms(static[inside], active[inside])
            looked_at.append((terms, np.abs(said - residual[inside]).T, np.abs(residual)))
    x = torch.as_tensor(np.concatenate([terms for terms, _, _ in looked_at]), dtype=torch.float32)
    y = torch.as_tensor(
        np.log(np.concatenate([error for _, error, _ in looked_at]) + FLOOR), dtype=torch.float32
    )

    def loss(network: Network, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        over = y - network(x)
        return torch.maximum(DOUBT_QUANTILE * over, (DOUBT_QUANTILE - 1) * over).mean()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(x.shape[1], len(NETWORKS), DOUBT)
        with torch.no_grad():
            network.last.bias.add_(y.mean(0))
    doubt = fit(network, loss, x, y, epochs=DOUBT_EPOCHS, seed=seed).arrays()
    terms, _, size = looked_at[0]
    doubts = np.exp(dense(doubt, terms))
    limits = np.maximum(np.quantile(doubts, 1 - FLAGGED, axis=0), NEVER_FLAGGED)
    classes = (len(NETWORKS), len(KINDS), 2)
    limited = replace(
        corrector,
        doubt=doubt,
        largest_doubt=limits,
        factor=np.ones(classes),
        abstained_band=float(np.quantile(size, 0.99)),
    )
    scores: dict[tuple[int, int, int], list[float]] = {}
    for data in scoring.values():
        kinds = kind(data["c_rate"].values, data["time"].values)
        owns = as_published(data["static"].values[:, 0]).astype(int)
        for which, found in enumerate(errors(limited, data).values()):
            ratio = np.abs(found["error"].values) / found["band"].values
            ratio[found["abstained"].values] = np.nan
            for k, row in enumerate(ratio):
                if np.isfinite(row).any():
                    place = (which, int(kinds[k]), int(owns[k]))
                    scores.setdefault(place, []).append(float(np.nanmax(row)))
    factor = np.empty(classes)
    for which, each, own in np.ndindex(*classes):
        # steady ones of all electrolytes count together: C-rates left out are harder than those in
        first = (0, 1) if each else (own,)
        # a class with too few profiles is not told from its like, then from no other
        for alike in (((each,), first), ((each,), (0, 1)), (range(len(KINDS)), (0, 1))):
            keys = product((which,), *alike)
            known = [score for key in keys for score in scores.get(key, [])]
            if len(known) >= ENOUGH:
                break
        factor[which, each, own] = conformal(known)
    return replace(limited, factor=factor)


def errors(corrector: Corrector, data: xr.Dataset) -> dict[str, xr.Dataset]:
    """Error of the corrected voltage (V) on reference data, with the band and the abstentions.

    Parameters
    ----------
    corrector : Corrector
        The corrector.
    data : xarray.Dataset
        Of `couplers.residual.data.reference`.

    Returns
    -------
    dict of xarray.Dataset
        For ``"student"`` and ``"ensemble"``: `error`, `band`, `spme_error`, `unguarded_error`
        (V), `abstained`, with the dims draw, time; nan (False) where the reference has ended.
    """
    residual = data["residual"].values
    there = np.isfinite(residual)
    dims = ("draw", "time")
    result = {}
    kinds = kind(data["c_rate"].values, data["time"].values)
    kinds = np.broadcast_to(kinds[:, None], there.shape)
    both = corrector.both(data["static"].values, data["active"].values, kind=kinds)
    for network, said in both.items():
        result[network] = xr.Dataset(
            {
                "error": (dims, said.voltage - residual, {"units": "V"}),
                "unguarded_error": (dims, said.unguarded - residual, {"units": "V"}),
                "band": (dims, np.where(there, said.band, np.nan), {"units": "V"}),
                "spme_error": (dims, -residual, {"units": "V"}),
                "abstained": (dims, said.abstained & there),
            },
            coords={"time": data["time"]},
        )
    return result


def fit(
    network: Network,
    loss: Callable[[Network, torch.Tensor, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    epochs: int,
    seed: int,
    told: Callable[[], None] = lambda: None,
) -> Network:
    """Lower ``loss(network, x, y)`` over batches of rows; `told` is called after each pass."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), LEARNING_RATE, weight_decay=1e-5, fused=True
    )
    steps = (len(y) + BATCH - 1) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=epochs * steps
    )
    for _ in range(epochs):
        order = torch.randperm(len(y), generator=generator)
        for k in range(0, len(y), BATCH):
            pick = order[k : k + BATCH]
            now = loss(network, x[pick], y[pick])
            optimiser.zero_grad()
            now.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        told()
    return network


def designed(
    highest: float, *, profiles: int = PROFILES, slow_profiles: int | None = None, seed: int = 0
) -> dict[str, Design]:
    """What is learnt from (``"fast"``, ``"slow"``), what calibrates, and what is held out."""
    steady_ones = profiles if slow_profiles is None else slow_profiles
    return {
        "fast": fast(4 * seed + 1, profiles, highest=highest),
        "slow": slow(4 * seed + 2, steady_ones, highest=highest),
        "calibration fast": fast(4 * seed + 3, profiles // 2, highest=highest),
        "calibration slow": slow(4 * seed + 4, profiles // 2, highest=highest),
        **held_out(highest),
        **unseen(highest=highest),
    }


def corrector_for(
    values: pybamm.ParameterValues,
    *,
    name: str,
    highest: float,
    folder: Path,
    profiles: int = PROFILES,
    slow_profiles: int | None = None,
    workers: int = 1,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Corrector, dict[str, Any]]:
    """Make the data, train, calibrate and judge: a corrector for a user's own cell.

    Parameters
    ----------
    values : pybamm.ParameterValues
        The cell; see `couplers.residual.parameters.read_cell` for what it may be.
    name : str
        Kept with the corrector.
    highest : float
        Highest C-rate (1) of the profiles. Where the electrolyte is used up, SPMe itself fails and
        no correction of its voltage helps: stay below.
    folder : pathlib.Path
        Where the reference data go; what is already there is not made again.
    profiles : int
        Number of fast and of slow profiles to learn from (1); half as many calibrate the band.
    slow_profiles : int, optional
        Number of slow profiles to learn from (1), if another: at rest after a current that nearly
        used up the electrolyte, what a cell remembers is long, and few profiles show it.
    workers : int
        Number of processes (1).
    seed : int
        Seed (1).
    progress : callable, optional
        Called as ``progress(what, done, total)``.

    Returns
    -------
    corrector, judged
        The corrector, and for each split of profiles not learnt from the errors of `judge`.

    Raises
    ------
    ValueError
        If the cell is not one that can be held, or if the electrolyte is used up in so many
        profiles that the C-rate must come down.
    """
    cell = read_cell(values)
    designs = designed(highest, profiles=profiles, slow_profiles=slow_profiles, seed=seed)

    def making(done: int, total: int) -> None:
        if progress is not None:
            progress("reference", done, total)

    def learning(done: int, total: int) -> None:
        if progress is not None:
            progress("training", done, total)

    found = generate(cell, designs, folder, workers=workers, progress=making)
    used_up = float(np.mean([data["depleted"].mean() for data in (found["fast"], found["slow"])]))
    if used_up > MOST_DEPLETED:
        raise ValueError(
            f"The electrolyte is used up in {100 * used_up:.0f} % of the profiles up to "
            f"{highest:g}C: no correction of a voltage helps there. Lower the highest C-rate."
        )
    digest = hashlib.sha256("".join(sorted(d.fingerprint for d in designs.values())).encode())
    corrector = train(
        {key: found[key] for key in ("fast", "slow")},
        {key: found[key] for key in found if key.startswith("calibration")},
        memory_times=memory_times(cell),
        cell=cell_hash(cell),
        about={
            **described(values),
            "set": name,
            "highest_c_rate": highest,
            "data": digest.hexdigest()[:16],
            "profiles": profiles,
            "slow_profiles": len(designs["slow"].kind),
            "used_up": used_up,
        },
        seed=seed,
        progress=learning,
    )
    unlearnt = {key: errors(corrector, found[key]) for key in found if key not in ("fast", "slow")}
    calibration = [
        (found[key], own["ensemble"]["unguarded_error"].values)
        for key, own in unlearnt.items()
        if key.startswith("calibration")
    ]
    checked = {"checked": shares(cell, calibration)}
    corrector = replace(corrector, about={**corrector.about, **checked})
    return corrector, {key: _judged(own) for key, own in unlearnt.items()}


def judge(
    corrector: Corrector, datasets: Mapping[str, xr.Dataset]
) -> dict[str, dict[str, dict[str, float]]]:
    """Errors of SPMe and of both networks on reference data, in mV; shares as fractions.

    `rms` and `max` are over the samples where the corrector does not abstain, `spme_rms` over the
    same; `overall_rms` over all, with 0 correction where it abstains. `covered` is the share of
    profiles that the band holds from start to end. `flagged` is the share of the samples with an
    error of the network above 3 mV where it abstains; `false_flags` the share of samples where it
    abstains although the network was within 3 mV.
    """
    return {name: _judged(errors(corrector, data)) for name, data in datasets.items()}


def _judged(both: Mapping[str, xr.Dataset]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for network, found in both.items():
        error, spme = (1e3 * found[key].values for key in ("error", "spme_error"))
        band, away = 1e3 * found["band"].values, found["abstained"].values
        there = np.isfinite(error)
        kept = there & ~away
        wrong = np.abs(1e3 * found["unguarded_error"].values) > LARGE
        held = [
            bool((np.abs(error[k][kept[k]]) <= band[k][kept[k]]).all())
            for k in range(len(error))
            if kept[k].any()
        ]
        table[network] = {
            "rms": _rms(error[kept]),
            "max": float(np.abs(error[kept]).max(initial=0.0)),
            "spme_rms": _rms(spme[kept]),
            "overall_rms": _rms(error[there]),
            "overall_spme_rms": _rms(spme[there]),
            "abstained": float(away[there].mean()),
            "covered": float(np.mean(held)) if held else np.nan,
            "half_width": float(band[kept].mean()) if kept.any() else np.nan,
            "large": float(wrong[there].mean()),
            "flagged": float(away[there & wrong].mean()) if wrong[there].any() else np.nan,
            "false_flags": float((away & ~wrong)[there].mean()),
            "profiles": len(held),
        }
    return table


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else np.nan
