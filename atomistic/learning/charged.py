r"""Networks whose charges are an output: short range learnt, long range exact, both at once.

.. math:: E = \sum_i e(x_i) + E_\text{Ewald}\big(\{q_i\}; s\big), \qquad
          q_i = \hat q_i - \frac{1}{N} \Big(\sum_j \hat q_j - Q\Big), \qquad
          \hat q_i = b_{z_i} + w \tanh\frac{c(x_i)}{w}

e and c are networks on each atom's surroundings (`atomistic.learning.networks`). The charges are
part of no label: they are what energies and forces beyond the cutoff ask for. Pairs nearer than the
split are switched out of the sum of charges, so that only one of the two terms holds them and
nothing is counted twice. The excursion of a charge from that of its element is bounded by w, so
that no structure polarises without end.

References
----------
Ko, Finkler, Goedecker, Behler, Nat. Commun. 12, 398 (2021),
https://doi.org/10.1038/s41467-020-20427-2

Cheng, npj Comput. Mater. 11, 80 (2025), https://doi.org/10.1038/s41524-025-01577-7
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from scipy.optimize import minimize
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.electrostatics.coulomb import Coulomb
from atomistic.learning.baseline import without
from atomistic.learning.networks import AtomNetwork, Layout, layout_as_json, layout_from_json
from atomistic.learning.prepared import Prepared, prepare
from atomistic.learning.training import LEAST_ENERGY, Settings, fit, linear_rows
from atomistic.potentials.pairs import neighbours
from atomistic.potentials.potential import Potential, sha256

ENDING = ".charged.pt"
SWING = 0.5  # e, of a charge about that of its element
RIDGE = 1e-6  # on the linear short range, of its mean diagonal


class ChargedNetwork(ModelInterface):
    """Short-ranged energies and charges of atoms by networks, with Ewald's sum of the charges.

    Parameters
    ----------
    layout : Layout
        Shape of both networks, of one member.
    charges : mapping of str to float
        Charges (e) of the elements to begin with; a fit changes them.
    total : float
        Charge of each system (e); periodic ones are neutral.
    split : (float, float)
        Distances (Å) between which short range hands over to the sum of charges; within the
        descriptor's cutoff.
    cutoff, accuracy : float
        Of Ewald's sum (Å; 1).
    swing : float
        w of the module's equation (e).
    seed : int
        Seed of the initial weights.

    Raises
    ------
    ValueError
        If the layout has several members, an element lacks a charge or the split reaches beyond
        the descriptor's cutoff.
    """

    def __init__(
        self,
        layout: Layout,
        charges: Mapping[str, float],
        *,
        total: float = 0.0,
        split: tuple[float, float] | None = None,
        cutoff: float = 7.0,
        accuracy: float = 1e-5,
        swing: float = SWING,
        seed: int = 0,
    ) -> None:
        super().__init__()
        reach = layout.descriptor.cutoff
        split = (0.5 * reach, reach) if split is None else split
        faults = []
        if layout.members != 1:
            faults.append(f"the layout has {layout.members} members, expected one")
        if missing := sorted(set(layout.species) - set(charges)):
            faults.append(f"no charge is given for {', '.join(missing)}")
        if not split[1] <= reach:
            faults.append(
                f"split ends at {split[1]:g} Å, beyond the {reach:g} Å that the descriptor sees"
            )
        if not swing > 0:
            faults.append(f"swing is {swing} e, but must be positive")
        if faults:
            raise ValueError("ChargedNetwork: " + "; ".join(faults) + ".")
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._compute_forces = self._compute_stress = True
        self.layout, self.total, self.swing = layout, float(total), float(swing)
        self.settings = {"split": split, "cutoff": float(cutoff), "accuracy": float(accuracy)}
        self.short = AtomNetwork(layout, seed=seed)
        self.excursion = AtomNetwork(layout, seed=seed + 1)
        self.base = torch.nn.Parameter(
            torch.tensor([float(charges[name]) for name in layout.species], dtype=self._dtype)
        )
        # the sum is given its charges at each call
        self.coulomb = Coulomb({}, split=split, cutoff=cutoff, accuracy=accuracy)

    def charges_of(
        self, kind: torch.Tensor, single: torch.Tensor, double: torch.Tensor, systems: int
    ) -> torch.Tensor:
        """Return charges (e), (system, atom), of systems of equal size; they sum to the total."""
        network = self.excursion
        raw = network.atomic(kind, single, double)[0]
        free = self.base[kind] + self.swing * torch.tanh(raw / self.swing)
        free = free.reshape(systems, -1)
        return free - (free.mean(1, keepdim=True) - self.total / free.shape[1])

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV), forces (eV Å-1), stress (eV Å-3) and charges (e)."""
        systems = state.n_systems
        atoms, rest = divmod(state.n_atoms, systems)
        if rest or bool((state.n_atoms_per_system != atoms).any()):
            raise ValueError(
                f"ChargedNetwork: systems of {state.n_atoms_per_system.tolist()} atoms were given; "
                "give systems of equal size in one batch."
            )
        kind = self.short.kinds(state)
        cell = state.row_vector_cell.detach()
        with torch.enable_grad():
            given = state.positions.detach().requires_grad_()
            strain = torch.zeros_like(cell).requires_grad_()
            position = given.reshape(systems, atoms, 3)
            position = position + position @ strain
            deformed = cell + cell @ strain
            again = state.clone()
            again.positions = position.reshape(-1, 3)
            again.cell = deformed.transpose(1, 2)
            centre, neighbour, _, vector = neighbours(again, self.layout.descriptor.cutoff)
            raw = self.short.raw(kind, centre, neighbour, vector)
            local = self.short.atomic(kind, *raw)[0].reshape(systems, atoms)
            charge = self.charges_of(kind, *raw, systems)
            energy = local.sum(1) + self.coulomb.energy(position, deformed, charge)
            slopes = torch.autograd.grad(energy.sum(), [given, strain])
        symmetric = 0.5 * (slopes[1] + slopes[1].transpose(1, 2))
        return {
            "energy": energy.detach(),
            "forces": -slopes[0],
            "stress": symmetric / torch.linalg.det(cell).abs()[:, None, None],
            "charges": charge.detach().reshape(-1),
        }

    def element_charges(self) -> dict[str, float]:
        """Return the charge (e) of each element, before surroundings and total change it."""
        return dict(zip(self.layout.species, self.base.detach().tolist(), strict=True))

    def save(self, path: str | Path) -> Path:
        """Write shape and weights to a file that ends in ``.charged.pt``."""
        path = Path(path)
        if not path.name.endswith(ENDING):
            raise ValueError(f"The file {path} must end in {ENDING}, so that it is known again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {**self.settings, "total": self.total, "swing": self.swing}
        content = {"layout": layout_as_json(self.layout), "options": json.dumps(options)}
        torch.save({**content, "state": self.state_dict()}, path)
        return path


def load_charged(path: str | Path) -> Potential:
    """Load a network that `ChargedNetwork.save` wrote.

    Parameters
    ----------
    path : str or Path
        The file.
    """
    path = Path(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    layout = layout_from_json(content["layout"])
    options = json.loads(content["options"])
    options["split"] = tuple(options["split"])
    network = ChargedNetwork(layout, dict.fromkeys(layout.species, 0.0), **options)
    network.load_state_dict(content["state"])
    return as_potential(network, str(path), sha256(path))


def as_potential(network: ChargedNetwork, name: str = "", digest: str = "") -> Potential:
    """Say of a network what one has to know."""
    return Potential(
        name=name or "charged atom network",
        model=network,
        species=network.layout.species,
        cutoff=network.layout.descriptor.cutoff,
        sha256=digest,
    )


def fit_charged(
    network: ChargedNetwork,
    frames: Sequence[Atoms],
    validation: Sequence[Atoms],
    *,
    settings: Settings | None = None,
    warm_up: int = 100,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> float:
    """Fit charges and short range together, in place; return the validation loss (1).

    First the charges of the elements: energies and forces are a quadratic form of them and linear
    in the descriptor, so that the short range can be projected out and the best charges found
    without a descent that would have to move both at once (variable projection). Then the short
    range is fitted to what they leave of the labels, and at last all weights move together. Of the
    running means of the weights, that of the best look is kept.

    Opposite charges of all elements give the same energies: the charges to begin with choose the
    sign, and must not all be zero.

    Parameters
    ----------
    network : ChargedNetwork
        What is fitted.
    frames, validation : sequence of Atoms
        Labelled periodic structures of one size, to learn from and to judge by.
    settings : Settings
        Steps, batch, weights and looks of the joint fit.
    warm_up : int
        Steps of the short range alone.
    seed : int
        Seed of the batches.
    progress : callable, optional
        Called with (steps done, steps in all, validation loss in words).

    Raises
    ------
    ValueError
        If the frames differ in size, or as `training.fit` says.

    References
    ----------
    Golub, Pereyra, Inverse Problems 19, R1 (2003), https://doi.org/10.1088/0266-5611/19/2/201
    """
    settings = settings or Settings()
    sizes = sorted({len(frame) for frame in [*frames, *validation]})
    if len(sizes) > 1:
        raise ValueError(
            f"fit_charged was given frames of {', '.join(map(str, sizes))} atoms; give frames of "
            "one size."
        )
    learn, judge = (_placed(network, some) for some in (frames, validation))
    _project(network, learn, settings)
    start = _fixed(network)
    fit(
        network.short,
        without(frames, start),
        without(validation, start),
        settings=replace(settings, steps=warm_up),
        seed=seed,
    )
    if not bool(network.excursion.fitted):
        features = [torch.cat([getattr(one[0], each) for one in learn]) for each in _FEATURES]
        network.excursion.set_scales(*features)
        network.excursion.scale.fill_(0.1)
        network.excursion.fitted.fill_(True)
        with torch.no_grad():
            network.excursion.weights[-1] *= 0.1
    unit = float(torch.cat([one.forces for one, _, _ in learn]).square().mean().sqrt())
    energies = torch.stack([one.energy for one, _, _ in learn]) / sizes[0]
    level = max(float(energies.std()), LEAST_ENERGY)
    # what is solved for elsewhere moves with the charges here
    network.short.linear.requires_grad_(True)
    weights: dict[str, torch.Tensor] = dict(network.named_parameters())
    weights["short.linear"] = network.short.linear
    rates = {"short.linear": 0.02, "base": 2.0}
    first, last = settings.learning_rate
    groups = [{"params": [value], "scale": rates.get(name, 1.0)} for name, value in weights.items()]
    optimiser = torch.optim.Adam(groups, lr=first)
    rng = np.random.default_rng(seed)
    mean = {name: value.detach().clone() for name, value in weights.items()}
    lowest, best = float("inf"), mean
    for done in range(settings.steps + 1):
        if done % settings.look == 0 or done == settings.steps:
            now = {name: value.detach().clone() for name, value in weights.items()}
            _put(weights, mean)
            found = float(
                np.mean([_loss(network, [one], unit, level, settings)[1] for one in judge])
            )
            _put(weights, now)
            if found < lowest:
                lowest, best = found, {name: value.clone() for name, value in mean.items()}
            if progress is not None:
                progress(done, settings.steps, f"validation loss {found:.3g}")
        if done == settings.steps:
            break
        rate = last + 0.5 * (first - last) * (1 + np.cos(np.pi * done / settings.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        drawn = rng.choice(len(learn), min(settings.batch, len(learn)), replace=False)
        optimiser.zero_grad()
        loss, _ = _loss(network, [learn[i] for i in drawn], unit, level, settings)
        loss.backward()
        optimiser.step()
        # of few steps, the mean of those
        memory = min(settings.average, (1 + done) / (10 + done))
        with torch.no_grad():
            for name, value in weights.items():
                mean[name].lerp_(value, 1 - memory)
    _put(weights, best)
    network.short.linear.requires_grad_(False)
    return lowest


def _put(weights: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in weights.items():
            value.copy_(values[name])


_FEATURES = ("single", "double")
_Placed = tuple[Prepared, torch.Tensor, torch.Tensor]


def _placed(network: ChargedNetwork, frames: Sequence[Atoms]) -> list[_Placed]:
    """Work out features, and keep positions (Å) and cell (Å) beside them."""
    return [
        (
            one,
            torch.as_tensor(frame.positions, dtype=torch.float64),
            torch.as_tensor(frame.cell.array, dtype=torch.float64),
        )
        for one, frame in zip(prepare(network.short, frames), frames, strict=True)
    ]


def _project(network: ChargedNetwork, learn: Sequence[_Placed], settings: Settings) -> None:
    """Set the charges of the elements to those that leave a linear short range least to explain."""
    some = [one for one, _, _ in learn]
    network.short.set_scales(
        *(torch.cat([getattr(one, each) for one in some]) for each in _FEATURES)
    )
    species, atoms = len(network.layout.species), len(some[0].kind)
    unit = float(torch.cat([one.forces for one in some]).square().mean().sqrt())
    level = max(float(torch.stack([one.energy for one in some]).std()) / atoms, LEAST_ENERGY)
    weights = (settings.energy**0.5 / (atoms * level), (settings.force / (3 * atoms)) ** 0.5 / unit)
    terms = [(a, b) for a in range(species + 1) for b in range(a, species + 1)]
    normal: torch.Tensor | float = 0.0
    for one, position, cell in learn:
        kinds = torch.nn.functional.one_hot(one.kind, species).to(position)
        # charges as a sum over elements, less their mean, and the total
        basis = torch.cat([kinds - kinds.mean(0), torch.full_like(kinds[:, :1], 1 / atoms)], dim=1)
        rows = linear_rows(network.short, one).flatten(1)
        count = torch.cat([kinds.sum(0)[None], rows.new_zeros(3 * atoms, species)])
        label = torch.cat([one.energy[None], one.forces.ravel()])[:, None]
        columns = [rows, count, label, _bilinear(network, position, cell, basis, terms)]
        table = torch.cat(columns, dim=1)
        table = torch.cat([table[:1] * weights[0], table[1:] * weights[1]])
        normal = normal + table.T @ table
    assert isinstance(normal, torch.Tensor)
    size = len(normal) - 1 - len(terms)
    linear, cross, rest = normal[:size, :size], normal[:size, size:], normal[size:, size:]
    ridge = RIDGE * linear.diagonal().mean() * torch.eye(size).to(linear)
    left = (rest - cross.T @ torch.linalg.solve(linear + ridge, cross)).numpy()
    begin = network.base.detach().numpy()

    def misfit(charges: np.ndarray) -> float:
        every = np.append(charges, network.total)
        leading = np.array([1.0, *(-every[a] * every[b] for a, b in terms)])
        return float(leading @ left @ leading)

    scale = misfit(begin) + 1e-300
    found = minimize(lambda charges: misfit(charges) / scale, begin)
    with torch.no_grad():
        # a constant on all of them means nothing
        network.base.copy_(torch.from_numpy(found.x - found.x.mean() + begin.mean()))


def _bilinear(
    network: ChargedNetwork,
    position: torch.Tensor,
    cell: torch.Tensor,
    basis: torch.Tensor,
    terms: Sequence[tuple[int, int]],
) -> torch.Tensor:
    """Return energy (first row) and forces by the product of two of the basis' charges."""
    alone: dict[tuple[int, ...], torch.Tensor] = {}

    def column(*which: int) -> torch.Tensor:
        key = tuple(sorted(set(which)))
        if key not in alone:
            place = position.detach()[None].requires_grad_()
            charge = basis[:, list(key)].sum(1)[None]
            energy = network.coulomb.energy(place, cell[None], charge)
            (slope,) = torch.autograd.grad(energy.sum(), place)
            alone[key] = torch.cat([energy.detach(), -slope.ravel()])
        return alone[key]

    found = [column(a) if a == b else column(a, b) - column(a) - column(b) for a, b in terms]
    return torch.stack(found, dim=1)


def _fixed(network: ChargedNetwork) -> Potential:
    """Return the sum of the charges as they are before their surroundings change them."""
    centred = network.element_charges()

    def charges(state: SimState) -> torch.Tensor:
        kind = network.short.kinds(state)
        each = network.base.detach()[kind].reshape(state.n_systems, -1)
        return (each - each.mean(1, keepdim=True) + network.total / each.shape[1]).reshape(-1)

    model = Coulomb(charges, **network.settings)  # type: ignore[arg-type]
    return Potential("charges", model, tuple(centred), network.settings["cutoff"])  # type: ignore[arg-type]


def _loss(
    network: ChargedNetwork,
    batch: Sequence[_Placed],
    unit: float,
    level: float,
    settings: Settings,
) -> tuple[torch.Tensor, float]:
    """Return the loss on energies per atom and forces, with its graph and as a number."""
    some = [one for one, _, _ in batch]
    systems, atoms = len(some), len(some[0].kind)
    kind = torch.cat([one.kind for one in some])
    features = [torch.cat([getattr(one, each) for one in some]) for each in _FEATURES]
    features = [each.clone().requires_grad_() for each in features]
    position = torch.stack([place for _, place, _ in batch]).requires_grad_()
    cell = torch.stack([box for _, _, box in batch])
    local = network.short.atomic(kind, *features)[0].reshape(systems, atoms)
    charge = network.charges_of(kind, features[0], features[1], systems)
    energy = local.sum(1) + network.coulomb.energy(position, cell, charge)
    slopes = torch.autograd.grad(energy.sum(), [position, *features], create_graph=True)
    gradient = torch.cat([each.flatten(1) for each in slopes[1:]], dim=1)
    forces = []
    for index, one in enumerate(some):
        mine = gradient[index * atoms : (index + 1) * atoms].float()
        pull = torch.einsum("ef,efx->ex", mine[one.centre], one.jacobian).to(network.dtype)
        force = -slopes[0][index]
        forces.append(force.index_add(0, one.centre, pull).index_add(0, one.neighbour, -pull))
    off = ((torch.stack(forces) - torch.stack([one.forces for one in some])) / unit).square().mean()
    apart = (energy - torch.stack([one.energy for one in some])) / atoms / level
    loss = settings.force * off + settings.energy * apart.square().mean()
    return loss, float(loss.detach())
