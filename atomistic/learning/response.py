r"""Learnt answer to a uniform field: dipole moments and polarisabilities of molecules and cells.

With the surroundings :math:`x_i` of each atom (`atomistic.learning.descriptors`) and radial
functions :math:`g_n` of its neighbours,

.. math::
    \mu = \sum_i z_i r_i + \sum_{i n s} a_n^s(x_i) \sum_{j \in s} g_n(r_{ij})\,\hat r_{ij}, \qquad
    \alpha = \sum_i b_0(x_i)\,1 + \sum_{i n s} \sum_{j \in s} g_n(r_{ij})
    \big[ b_n^s(x_i)\,\hat r_{ij} \hat r_{ij} + c_n^s(x_i)\,(1 - \hat r_{ij} \hat r_{ij}) \big]

where s runs over elements and a, b, c are a table for each pair of elements plus a network. The
moment turns with the structure, the polarisability turns twice, both exactly. b and c are positive
by construction, so that :math:`-\frac12 F \cdot \alpha F` never costs energy and no structure
polarises in the wrong direction. All but the charges z, which are given and not learnt, is made of
vectors between neighbours: it is the same whatever image of an atom is meant, so that periodic
cells are no different from molecules.

References
----------
Gastegger, Schütt, Müller, Chem. Sci. 12, 11473 (2021), https://doi.org/10.1039/D1SC02742E

Veit, Wilkins, Yang, DiStasio, Ceriotti, J. Chem. Phys. 153, 024113 (2020),
https://doi.org/10.1063/5.0009106
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from torch_sim.state import SimState

from atomistic.electrostatics.ewald import COULOMB
from atomistic.learning.descriptors import SymmetryFunctions, pairs_of, switched_off
from atomistic.potentials.field import fixed_charges
from atomistic.potentials.pairs import neighbours

ENDING = ".response.pt"
TYPICAL = 0.3 / COULOMB  # e Å2 V-1, of an atom or bond before any label was seen
ROOM = 1.0  # Å, around what does not repeat


@dataclass(frozen=True)
class ResponseLayout:
    """Shape of a `ResponseNetwork`.

    Parameters
    ----------
    species : tuple of str
        Elements, sorted.
    charges : mapping of str to float
        Charges z (e) that are known and not learnt: of ions in a melt; none for molecules.
    descriptor : SymmetryFunctions
        What each atom's surroundings are described by; its cutoff and radial functions are those
        of the vectors too.
    channels : int
        Numbers that stand for an element in the network.
    neurons : int
        Width of the hidden layer.
    """

    species: tuple[str, ...]
    charges: Mapping[str, float] = field(default_factory=dict)
    descriptor: SymmetryFunctions = field(
        default_factory=lambda: SymmetryFunctions(cutoff=5.0, radial=8, shells=2, powers=(1, 2))
    )
    channels: int = 3
    neurons: int = 24

    def __post_init__(self) -> None:
        faults = []
        if not self.species or list(self.species) != sorted(set(self.species)):
            faults.append(f"species are {self.species}, but must be sorted, each named once")
        if unknown := sorted(set(self.charges) - set(self.species)):
            faults.append(f"charges are given for {', '.join(unknown)}, which is no species")
        if min(self.channels, self.neurons) < 1:
            faults.append(
                f"channels and neurons are {self.channels} and {self.neurons}, but must be positive"
            )
        if faults:
            raise ValueError("ResponseLayout: " + "; ".join(faults) + ".")


@dataclass(frozen=True)
class Surroundings:
    """What a `ResponseNetwork` needs to know of a batch.

    Parameters
    ----------
    kind, system : torch.Tensor
        Index of each atom's element and system.
    single, double : torch.Tensor
        Features of `SymmetryFunctions`.
    vector : torch.Tensor
        Sums of radial functions times unit vectors, (atom, radial, element, xyz).
    tensor : torch.Tensor
        Sums of radial functions times their squares, (atom, radial, element, xyz, xyz).
    known : torch.Tensor
        Moment of the given charges (e Å), (system, xyz).
    """

    kind: torch.Tensor
    system: torch.Tensor
    single: torch.Tensor
    double: torch.Tensor
    vector: torch.Tensor
    tensor: torch.Tensor
    known: torch.Tensor


class ResponseNetwork(torch.nn.Module):
    """Dipole moment and polarisability of a structure, learnt: a response for `UniformField`.

    Parameters
    ----------
    layout : ResponseLayout
        Its shape.
    seed : int
        Seed of the initial weights.
    """

    _single_mean: torch.Tensor
    _single_spread: torch.Tensor
    _double_mean: torch.Tensor
    _double_spread: torch.Tensor
    _kinds: torch.Tensor

    def __init__(self, layout: ResponseLayout, *, seed: int = 0) -> None:
        super().__init__()
        self.layout = layout
        self._known = fixed_charges(
            {name: layout.charges.get(name, 0.0) for name in layout.species}
        )
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int, scale: float) -> torch.nn.Parameter:
            return torch.nn.Parameter(
                scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
            )

        kinds, channels, width = len(layout.species), layout.channels, layout.neurons
        single, double = layout.descriptor.sizes()
        radial = layout.descriptor.radial
        self.element = normal(channels, kinds, scale=1.0)
        size = (single + double + 1) * channels
        self.first = normal(size, width, scale=size**-0.5)
        self.bias = torch.nn.Parameter(torch.zeros(width, dtype=torch.float64))
        # of each: moment along, polarisability along, and across the neighbours
        self.last = normal(width, 3, radial, channels, scale=1e-2)
        self.last_own = normal(width, scale=1e-2)
        self.table = torch.nn.Parameter(torch.zeros(3, kinds, radial, kinds, dtype=torch.float64))
        self.own = torch.nn.Parameter(torch.zeros(kinds, dtype=torch.float64))
        pairs = len(pairs_of(kinds))
        for name, count, of in (("single", single, kinds), ("double", double, pairs)):
            self.register_buffer(f"_{name}_mean", torch.zeros(count, of, dtype=torch.float64))
            self.register_buffer(f"_{name}_spread", torch.ones(count, of, dtype=torch.float64))
        table = torch.full((len(chemical_symbols),), -1, dtype=torch.int64)
        for index, symbol in enumerate(layout.species):
            table[atomic_numbers[symbol]] = index
        self.register_buffer("_kinds", table)

    def forward(self, state: SimState) -> tuple[torch.Tensor, torch.Tensor]:
        """Return dipole moments (e Å; system, xyz) and polarisabilities (e Å2 V-1), with graph."""
        return self.assemble(self.surroundings(state))

    def surroundings(self, state: SimState) -> Surroundings:
        """Work out what does not depend on weights; differentiable in the positions."""
        kind = self._kinds[state.atomic_numbers.long()]
        if bool((kind < 0).any()):
            unknown = sorted({chemical_symbols[n] for n in state.atomic_numbers[kind < 0].tolist()})
            raise ValueError(
                f"The response network knows {', '.join(self.layout.species)}, but was given "
                f"{', '.join(unknown)}."
            )
        shape = self.layout.descriptor
        centre, neighbour, _, vector = neighbours(_boxed(state), shape.cutoff)
        kinds, atoms, other = len(self.layout.species), len(kind), kind[neighbour]
        single, double = shape.features(centre, other, vector, atoms=atoms, kinds=kinds)
        distance = vector.norm(dim=1)
        radial = shape._bumps(distance, shape.radial)
        radial = radial * switched_off(distance, shape.cutoff, begin=0.0)[:, None]
        unit = vector / distance[:, None]
        at = centre * kinds + other
        first = torch.einsum("en,ex->enx", radial, unit)
        second = torch.einsum("enx,ey->enxy", first, unit)
        sums = [
            each.new_zeros(atoms * kinds, *each.shape[1:])
            .index_add(0, at, each)
            .reshape(atoms, kinds, *each.shape[1:])
            .transpose(1, 2)
            for each in (first, second)
        ]
        known, _ = self._known(state)
        return Surroundings(kind, state.system_idx, single, double, sums[0], sums[1], known)

    def assemble(self, around: Surroundings) -> tuple[torch.Tensor, torch.Tensor]:
        """Return moments and polarisabilities from surroundings that are known already."""
        kind, systems = around.kind, len(around.known)
        one = (around.single - self._single_mean) / self._single_spread
        two = (around.double - self._double_mean) / self._double_spread
        a, b = torch.tensor(pairs_of(len(self.layout.species)), device=kind.device).unbind(1)
        x = torch.cat(
            [
                torch.einsum("ifz,cz->ifc", one, self.element).flatten(1),
                torch.einsum("ifp,cp->ifc", two, self.element[:, a] * self.element[:, b]).flatten(
                    1
                ),
                self.element[:, kind].T,
            ],
            dim=1,
        )
        hidden = torch.tanh(x @ self.first + self.bias)
        gates = torch.einsum("iw,wknc,cz->iknz", hidden, self.last, self.element)
        gates = gates + self.table[:, kind].transpose(0, 1)
        moment = torch.einsum("inz,inzx->ix", gates[:, 0], around.vector)
        along, across = (TYPICAL * torch.nn.functional.softplus(gates[:, k] - 2) for k in (1, 2))
        identity = torch.eye(3, dtype=x.dtype, device=x.device)
        weight = torch.einsum("inzxx->inz", around.tensor)
        sphere = torch.einsum("inz,inz->i", across, weight)
        sphere = sphere + TYPICAL * torch.nn.functional.softplus(
            self.own[kind] + hidden @ self.last_own
        )
        tensor = torch.einsum("inz,inzxy->ixy", along - across, around.tensor)
        tensor = tensor + sphere[:, None, None] * identity
        total = around.known + moment.new_zeros(systems, 3).index_add(0, around.system, moment)
        return total, tensor.new_zeros(systems, 3, 3).index_add(0, around.system, tensor)

    def set_scales(self, around: Surroundings) -> None:
        """Take level and spread of the features from some structures."""
        for name in ("single", "double"):
            value = getattr(around, name)
            mean, spread = value.mean(0), value.std(0, correction=0)
            floor = 3e-2 * spread.max().clamp(min=1e-12)
            getattr(self, f"_{name}_mean").copy_(mean)
            getattr(self, f"_{name}_spread").copy_(spread.clamp(min=floor))

    def save(self, path: str | Path) -> Path:
        """Write layout and weights to a file that ends in ``.response.pt``."""
        path = Path(path)
        if not path.name.endswith(ENDING):
            raise ValueError(f"The file {path} must end in {ENDING}, so that it is known again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        flat = {
            **{name: getattr(self.layout, name) for name in ("species", "channels", "neurons")},
            "charges": dict(self.layout.charges),
            "descriptor": vars(self.layout.descriptor),
        }
        torch.save({"layout": json.dumps(flat), "state": self.state_dict()}, path)
        return path


def load_response(path: str | Path) -> ResponseNetwork:
    """Load a network that `ResponseNetwork.save` wrote.

    Parameters
    ----------
    path : str or Path
        The file.
    """
    content = torch.load(Path(path), map_location="cpu", weights_only=True)
    flat = json.loads(content["layout"])
    shape = flat.pop("descriptor")
    shape["powers"] = tuple(shape["powers"])
    layout = ResponseLayout(
        species=tuple(flat["species"]),
        charges=flat["charges"],
        descriptor=SymmetryFunctions(**shape),
        channels=flat["channels"],
        neurons=flat["neurons"],
    )
    network = ResponseNetwork(layout)
    network.load_state_dict(content["state"])
    return network


@dataclass(frozen=True)
class ResponseErrors:
    """Errors of a learnt response over some structures.

    Parameters
    ----------
    dipole, polarisability : float
        Root mean square over components (e Å; e Å2 V-1); nan without labels.
    relative_dipole, relative_polarisability : float
        The same over the root mean square of the labels, and over their spread (1).
    """

    dipole: float
    polarisability: float
    relative_dipole: float
    relative_polarisability: float


def fit_response(
    network: ResponseNetwork,
    structures: Sequence[Atoms],
    dipoles: np.ndarray,
    polarisabilities: np.ndarray | None = None,
    *,
    steps: int = 800,
    learning_rate: float = 1e-2,
    decay: float = 1e-5,
    progress: Callable[[int, int, str], None] | None = None,
) -> float:
    """Fit a network, in place, to dipole moments and polarisabilities; return the loss (1).

    Both are taken in units of their own spread over the structures and weigh alike. All structures
    enter every step, and their surroundings are worked out once.

    Parameters
    ----------
    network : ResponseNetwork
        What is fitted.
    structures : sequence of Atoms
        Molecules or periodic cells.
    dipoles : numpy.ndarray
        Dipole moments (e Å), (structure, xyz); of a periodic cell, that of its unwrapped positions.
    polarisabilities : numpy.ndarray, optional
        Polarisabilities (e Å2 V-1), (structure, xyz, xyz).
    steps : int
        Steps of Adam, along a cosine to zero.
    learning_rate : float
        First step length (1).
    decay : float
        Penalty on the squares of the weights (1).
    progress : callable, optional
        Called with (steps done, steps in all, loss in words).

    Raises
    ------
    ValueError
        If labels and structures differ in number or the labels in shape.
    """
    count = len(structures)
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "dipoles": (np.shape(dipoles), (count, 3))
    }
    if polarisabilities is not None:
        shapes["polarisabilities"] = (np.shape(polarisabilities), (count, 3, 3))
    faults = [
        f"{name} have shape {found}, expected {expected}"
        for name, (found, expected) in shapes.items()
        if found != expected
    ]
    if not count or faults:
        raise ValueError(
            f"fit_response was given {count} structures" + "".join(f"; {f}" for f in faults) + "."
        )
    with torch.no_grad():
        around = network.surroundings(_state(structures))
        network.set_scales(around)
    moment = torch.as_tensor(dipoles, dtype=torch.float64)
    unit = (moment - around.known).square().mean().sqrt().clamp(min=1e-6)
    tensor, spread = None, torch.ones(())
    if polarisabilities is not None:
        tensor = torch.as_tensor(polarisabilities, dtype=torch.float64)
        spread = _spread(tensor).clamp(min=1e-9)
    weights = list(network.parameters())
    optimiser = torch.optim.Adam(weights, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    found = float("nan")
    for done in range(1, steps + 1):
        optimiser.zero_grad()
        guess, stretch = network.assemble(around)
        loss = ((guess - moment) / unit).square().mean()
        if tensor is not None:
            loss = loss + ((stretch - tensor) / spread).square().mean()
        found = float(loss.detach())
        total = loss + decay * torch.stack([each.square().sum() for each in weights]).sum()
        total.backward()
        optimiser.step()
        schedule.step()
        if progress is not None and done % 50 == 0:
            progress(done, steps, f"loss {found:.3g}")
    return found


def response_errors(
    network: ResponseNetwork,
    structures: Sequence[Atoms],
    dipoles: np.ndarray,
    polarisabilities: np.ndarray | None = None,
) -> ResponseErrors:
    """Compare a network with labels that it did not learn from.

    Parameters
    ----------
    network : ResponseNetwork
        What is judged.
    structures, dipoles, polarisabilities
        As for `fit_response`.
    """
    with torch.no_grad():
        moment, tensor = network(_state(structures))
    truth = torch.as_tensor(dipoles, dtype=torch.float64)
    off = float((moment - truth).square().mean().sqrt())
    size = float(truth.square().mean().sqrt())
    if polarisabilities is None:
        return ResponseErrors(off, float("nan"), off / size, float("nan"))
    stretch = torch.as_tensor(polarisabilities, dtype=torch.float64)
    apart = float((tensor - stretch).square().mean().sqrt())
    return ResponseErrors(off, apart, off / size, apart / float(_spread(stretch)))


def _spread(tensor: torch.Tensor) -> torch.Tensor:
    """Return the spread of polarisabilities about their mean over structures."""
    return (tensor - tensor.mean(0)).square().mean().sqrt()


def _state(structures: Sequence[Atoms]) -> SimState:
    """Return structures as one batch; all repeat in the same directions."""
    return ts.io.atoms_to_state(list(structures), torch.device("cpu"), torch.float64)


def _boxed(state: SimState) -> SimState:
    """Return a batch whose cells hold what they hold where it does not repeat."""
    flat = torch.linalg.det(state.row_vector_cell).abs() < 1e-9
    if not bool(flat.any()):
        return state
    if bool(torch.as_tensor(state.pbc).any()):
        raise ValueError("A periodic system was given without a cell; give it one.")
    size = float((state.positions.detach().amax(0) - state.positions.detach().amin(0)).max())
    boxed = state.clone()
    one = torch.eye(3, dtype=state.dtype, device=state.device)
    boxed.cell = ((size + ROOM) * one).expand(state.n_systems, 3, 3).clone()
    return boxed
