"""Fit networks to labelled frames: balanced loss, averaged weights, early stop, restart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from atomistic.learning.networks import AtomNetwork
from atomistic.learning.prepared import Prepared, predict, prepare

Progress = Callable[[int, int, str], None]

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # on the linear model, in units of its diagonal
PRIOR = 0.3  # of the spread of the forces, the members' own numbers where nothing is known
QUIET = 0.05  # of the last layer, to begin with
LEAST_ENERGY = 1e-4  # eV per atom; frames alike in energy say nothing below it


@dataclass(frozen=True)
class Settings:
    """How a network is fitted.

    Parameters
    ----------
    steps : int
        Most gradient steps.
    batch : int
        Frames a step.
    learning_rate : tuple of float
        First and last step length of Adam (1), along a cosine.
    energy, force, virial : float
        Weight of each kind of label (1), in units of its own spread and per label of its kind.
    average : float
        Memory of the running mean of the weights, per step (1).
    look : int
        Steps between looks at the validation frames.
    patience : int
        Looks without an improvement after which the fit ends.
    share : float
        Of the frames, what each member of a committee sees (1).
    """

    steps: int = 2000
    batch: int = 8
    learning_rate: tuple[float, float] = (2e-2, 1e-4)
    energy: float = 1.0
    force: float = 1.0
    virial: float = 0.1
    average: float = 0.99
    look: int = 50
    patience: int = 20
    share: float = 0.8


@dataclass(frozen=True)
class Fit:
    """A fit that has ended.

    Parameters
    ----------
    network : AtomNetwork
        With the weights that were best on the validation frames.
    loss : float
        Theirs, on the validation frames (1).
    step : int
        When they were reached.
    history : tuple of (int, float)
        Validation loss at each look.
    outcome : str
        Why it ended.
    """

    network: AtomNetwork
    loss: float
    step: int
    history: tuple[tuple[int, float], ...]
    outcome: str


def fit(
    network: AtomNetwork,
    frames: Sequence[Atoms],
    validation: Sequence[Atoms],
    *,
    settings: Settings = Settings(),
    elements: Sequence[str] | None = None,
    layers: int = 0,
    folder: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fit:
    r"""Fit a network, in place, to the energies, forces and stresses that frames carry.

    .. math:: L = \sum_q \frac{w_q}{n_q} \sum_{i=1}^{n_q}
              \Big(\frac{q_i - \hat q_i}{\sigma_q}\Big)^2

    over energies per atom, force components and components of the virial per atom, each divided
    by its spread over the frames and by the number of its labels, so that the weights mean the
    same whatever the units, the size of the frames or the temperature. Features and their
    derivatives are worked out once, so that a step costs no pass over neighbours.

    Parameters
    ----------
    network : AtomNetwork
        What is fitted. If it is fresh, levels and spreads are taken from the frames and the linear
        model is solved for; if it was fitted before, it is tuned from where it stands.
    frames, validation : sequence of Atoms
        Labelled structures, to learn from and to judge by.
    settings : Settings
        How.
    elements : sequence of str, optional
        If given, everything is frozen but the vectors and the energies of the atoms of these
        elements, so that what the network says of others stays as it is. That is enough for an
        element that behaves like something between the known ones.
    layers : int
        Of a frozen network, how many of its last layers are fitted all the same.
    folder : Path, optional
        Where to keep a checkpoint; a fit that was interrupted goes on from it.
    seed : int
        Seed of the batches and of the frames that each member sees.
    progress : callable, optional
        Called with (steps done, steps in all, validation loss in words).

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If there are no frames, one has no labels, an element is unknown, or the checkpoint is
        that of another fit.
    """
    if not frames or not validation:
        raise ValueError(
            f"fit was given {len(frames)} frames to learn from and {len(validation)} to judge by; "
            "give at least one of each."
        )
    learn, judge = prepare(network, frames), prepare(network, validation)
    masks = None if elements is None else _masks(network, elements, layers)
    fresh = not bool(network.fitted)
    if masks is None and fresh:
        _set_levels(network, learn)
    elif masks is not None:
        _set_energies(network, learn, list(elements or ()))
    scales = _scales(network, learn)
    rng = np.random.default_rng(seed)
    members = network.layout.members
    seen = np.ones((len(learn), members))
    if members > 1:
        count = max(1, round(settings.share * len(learn)))
        seen[:] = 0
        for member in range(members):
            seen[rng.choice(len(learn), count, replace=False), member] = 1
    shares = torch.from_numpy(seen)
    if fresh or elements is not None:
        names = network.layout.species if elements is None else elements
        chosen = network.columns_of(names)
        _solve_linear(network, learn, judge, scales, settings, shares, chosen, rng)
    network.fitted.fill_(True)

    parameters = dict(network.named_parameters())
    optimiser = torch.optim.Adam(parameters.values(), lr=settings.learning_rate[0])
    mean = {name: value.detach().clone() for name, value in parameters.items()}
    best = {name: value.clone() for name, value in mean.items()}
    lowest, at, done, since = float("inf"), 0, 0, 0
    history: list[tuple[int, float]] = []
    file = None if folder is None else Path(folder) / "training.pt"
    key = _fingerprint(network, frames, validation, settings, elements, layers, seed)
    if file is not None and file.is_file():
        kept = torch.load(file, weights_only=False)
        if kept["key"] != key:
            raise ValueError(
                f"The checkpoint {file} belongs to another fit (other frames, settings, network "
                "or seed); remove it or choose another folder."
            )
        with torch.no_grad():
            for name, value in parameters.items():
                value.copy_(kept["now"][name])
        mean, best, history = kept["mean"], kept["best"], kept["history"]
        optimiser.load_state_dict(kept["optimiser"])
        lowest, at, done, since = kept["lowest"], kept["at"], kept["done"], kept["since"]
        rng.bit_generator.state = kept["rng"]

    first, last = settings.learning_rate
    while done < settings.steps and since < settings.patience:
        for group in optimiser.param_groups:
            group["lr"] = last + 0.5 * (first - last) * (1 + np.cos(np.pi * done / settings.steps))
        drawn = rng.choice(len(learn), min(settings.batch, len(learn)), replace=False)
        loss = _loss(network, [learn[i] for i in drawn], scales, settings, shares[drawn])
        optimiser.zero_grad()
        loss.backward()
        if masks is not None:
            for name, value in parameters.items():
                assert value.grad is not None
                value.grad *= masks[name]
        optimiser.step()
        done += 1
        # of few steps, the mean of those
        memory = min(settings.average, (1 + done) / (10 + done))
        with torch.no_grad():
            for name, value in parameters.items():
                mean[name].lerp_(value, 1 - memory)
        if done % settings.look == 0 or done == settings.steps:
            now = {name: value.detach().clone() for name, value in parameters.items()}
            _put(parameters, mean)
            found = _judged(network, judge, scales, settings)
            _put(parameters, now)
            history.append((done, found))
            since += 1
            if found < lowest:
                lowest, at, since = found, done, 0
                best = {name: value.clone() for name, value in mean.items()}
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_suffix(".part")
                torch.save(
                    {
                        "key": key, "now": now, "mean": mean, "best": best, "history": history,
                        "optimiser": optimiser.state_dict(), "lowest": lowest, "at": at,
                        "done": done, "since": since, "rng": rng.bit_generator.state,
                    },
                    part,
                )  # fmt: skip
                part.replace(file)
            if progress is not None:
                progress(done, settings.steps, f"validation loss {found:.3g}")
    _put(parameters, best)
    if progress is not None:
        progress(settings.steps, settings.steps, f"validation loss {lowest:.3g}")
    outcome = (
        f"The validation loss had not improved for {since} looks after step {at}."
        if since >= settings.patience
        else f"All {settings.steps} steps were taken; the validation loss was lowest at step {at}."
    )
    return Fit(network, lowest, at, tuple(history), outcome)


def _put(parameters: dict[str, torch.nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(values[name])


def _loss(
    network: AtomNetwork,
    batch: Sequence[Prepared],
    scales: tuple[float, float, float],
    settings: Settings,
    shares: torch.Tensor,
) -> torch.Tensor:
    """Sum of the members' losses; `shares` (frame, member) says who sees what."""
    energy, forces, virials, frame_of = predict(network, batch)
    sizes = torch.bincount(frame_of)
    per_atom = torch.stack([frame.energy for frame in batch]) / sizes
    weight = shares.T.to(energy)
    total = settings.energy * _mean(((energy - per_atom) / scales[0]) ** 2, weight)
    off = ((forces - torch.cat([frame.forces for frame in batch])) / scales[1]).square().mean(2)
    total = total + settings.force * _mean(off, weight[:, frame_of])
    virial = torch.stack([frame.virial for frame in batch])
    known = torch.isfinite(virial).all(2).all(1)
    if settings.virial and bool(known.any()):
        off = ((virials - torch.nan_to_num(virial)) / scales[2]).square().mean((2, 3))
        total = total + settings.virial * _mean(off, weight * known)
    return total.sum()


def _mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (values * weight).sum(1) / weight.sum(1).clamp(min=1e-12)


def _judged(
    network: AtomNetwork,
    frames: Sequence[Prepared],
    scales: tuple[float, float, float],
    settings: Settings,
) -> float:
    """Mean over members of the loss on frames that none of them learnt from."""
    everyone = torch.ones(1, network.layout.members)
    losses = [
        float(_loss(network, [frame], scales, settings, everyone).detach()) for frame in frames
    ]
    return float(np.mean(losses)) / network.layout.members


def _composition(network: AtomNetwork, frames: Sequence[Prepared]) -> np.ndarray:
    kinds = len(network.layout.species)
    return np.array([np.bincount(frame.kind.numpy(), minlength=kinds) for frame in frames], float)


def _set_levels(network: AtomNetwork, frames: Sequence[Prepared]) -> None:
    """Take the energies of the atoms, the features' levels and the scale from the frames."""
    network.set_scales(
        torch.cat([frame.single for frame in frames]), torch.cat([frame.double for frame in frames])
    )
    count = _composition(network, frames)
    energy = np.array([float(frame.energy) for frame in frames])
    # of the solutions, if composition hardly varies, the shortest
    network.atom_energy.copy_(torch.from_numpy(np.linalg.lstsq(count, energy, rcond=1e-6)[0]))
    force = torch.cat([frame.forces for frame in frames])
    network.scale.fill_(0.3 * float(force.square().mean().sqrt()))
    # the linear model holds what it can; a loud network would only be in its way
    with torch.no_grad():
        network.weights[-1] *= QUIET


def _set_energies(network: AtomNetwork, frames: Sequence[Prepared], elements: list[str]) -> None:
    """Take the energies of the atoms of some elements from the frames, others as they are."""
    new = [network.layout.species.index(symbol) for symbol in elements]
    count = _composition(network, frames)
    left = np.array([float(frame.energy) for frame in frames])
    old = network.atom_energy.numpy().copy()
    old[new] = 0.0
    left -= count @ old
    network.atom_energy[new] = torch.from_numpy(np.linalg.lstsq(count[:, new], left, rcond=1e-6)[0])


def _solve_linear(
    network: AtomNetwork,
    frames: Sequence[Prepared],
    validation: Sequence[Prepared],
    scales: tuple[float, float, float],
    settings: Settings,
    shares: torch.Tensor,
    chosen: torch.Tensor,
    rng: np.random.Generator,
) -> None:
    """Solve for entries of the linear model what the rest of the network leaves of the labels.

    The penalty is the one that is best on the validation frames. It pulls to zero; in a committee,
    each member to numbers of its own, so that they differ wherever the frames say nothing.

    References
    ----------
    Osband, Aslanides, Cassirer, https://arxiv.org/abs/1806.03335
    """
    members, size = network.layout.members, int(chosen.sum())
    prior = torch.zeros(members, size, dtype=network.dtype, device=network.device)
    if members > 1:
        prior = PRIOR * scales[1] * torch.from_numpy(rng.normal(size=(members, size))).to(prior)
    network.linear[:, chosen] = prior
    rows = [linear_rows(network, frame)[..., chosen] for frame in frames]
    systems = []
    for member in range(members):
        normal, right = shares.new_zeros(size, size), shares.new_zeros(size)
        for index, (frame, row) in enumerate(zip(frames, rows, strict=True)):
            energy, forces, _, _ = (each.detach() for each in predict(network, [frame]))
            atoms = len(frame.kind)
            weight = float(shares[index, member])
            target = torch.cat(
                [
                    (frame.energy / atoms - energy[member]) / scales[0] * settings.energy**0.5,
                    (frame.forces - forces[member]).ravel()
                    / scales[1]
                    * (settings.force / (3 * atoms)) ** 0.5,
                ]
            )
            scaled = torch.cat(
                [
                    row[:1] / (atoms * scales[0]) * settings.energy**0.5,
                    row[1:] / scales[1] * (settings.force / (3 * atoms)) ** 0.5,
                ]
            )
            normal += weight * scaled.T @ scaled
            right += weight * scaled.T @ target
        systems.append((normal, right))
    lowest, best = float("inf"), network.linear.clone()
    for penalty in PENALTIES:
        for member, (normal, right) in enumerate(systems):
            size_of = normal.diagonal().mean().clamp(min=1e-300)
            solved = torch.linalg.solve(
                normal + penalty * size_of * torch.eye(size).to(normal), right
            )
            network.linear[member, chosen] = prior[member] + solved
        found = _judged(network, validation, scales, settings)
        if found < lowest:
            lowest, best = found, network.linear.clone()
    network.linear.copy_(best)


def linear_rows(network: AtomNetwork, frame: Prepared) -> torch.Tensor:
    """Energy (first row) and force components by the entries of the linear model."""
    kinds, atoms = len(network.layout.species), len(frame.kind)
    levels, widths = network.levels()
    flat = (torch.cat([frame.single.flatten(1), frame.double.flatten(1)], dim=1) - levels) / widths
    energy = flat.new_zeros(kinds, flat.shape[1]).index_add(0, frame.kind, flat)
    slope = frame.jacobian.to(flat) / widths[:, None]
    force = flat.new_zeros(kinds * atoms, flat.shape[1], 3)
    force = force.index_add(0, frame.kind[frame.centre] * atoms + frame.centre, slope)
    force = force.index_add(0, frame.kind[frame.centre] * atoms + frame.neighbour, -slope)
    force = force.reshape(kinds, atoms, -1, 3).permute(1, 3, 0, 2).reshape(3 * atoms, kinds, -1)
    return torch.cat([energy[None], force])


def _masks(network: AtomNetwork, elements: Sequence[str], layers: int) -> dict[str, torch.Tensor]:
    if unknown := sorted(set(elements) - set(network.layout.species)):
        raise ValueError(
            f"fit was asked to learn {', '.join(unknown)}, but the network knows "
            f"{', '.join(network.layout.species)}; add elements by its with_elements."
        )
    new = [network.layout.species.index(symbol) for symbol in elements]
    masks = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    masks["neighbour"][:, :, new] = 1
    masks["own"][:, new] = 1
    depth = len(network.weights)
    for at in range(depth - layers, depth):
        masks[f"weights.{at}"][:] = masks[f"biases.{at}"][:] = 1
    return masks


def _scales(network: AtomNetwork, frames: Sequence[Prepared]) -> tuple[float, float, float]:
    """Spread of energies per atom, forces and virials per atom over the frames."""
    count = _composition(network, frames)
    energy = np.array([float(frame.energy) for frame in frames])
    beyond = (energy - count @ network.atom_energy.numpy()) / count.sum(1)
    force = torch.cat([frame.forces for frame in frames])
    virial = torch.stack([frame.virial for frame in frames])
    virial = virial[torch.isfinite(virial).all(2).all(1)]
    spread = float((virial - virial.mean(0)).square().mean().sqrt()) if len(virial) else 1.0
    return (
        max(float(beyond.std()), LEAST_ENERGY),
        float(force.square().mean().sqrt()),
        max(spread, LEAST_ENERGY),
    )


def _fingerprint(
    network: AtomNetwork,
    frames: Sequence[Atoms],
    validation: Sequence[Atoms],
    settings: Settings,
    elements: Sequence[str] | None,
    layers: int,
    seed: int,
) -> str:
    digest = hashlib.sha256(
        json.dumps(
            [asdict(settings), list(elements or ()), layers, seed, repr(network.layout)]
        ).encode()
    )
    for frame in [*frames, *validation]:
        digest.update(frame.positions.tobytes())
        digest.update(frame.get_forces().tobytes())
    for value in network.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
