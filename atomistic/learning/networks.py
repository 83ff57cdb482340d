"""Small networks on descriptors of each atom's surroundings, several members on one descriptor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.learning.descriptors import PowerSpectrum, SymmetryFunctions, pairs_of
from atomistic.potentials.pairs import from_pairs, neighbours
from atomistic.potentials.potential import Potential, sha256

Descriptor = SymmetryFunctions | PowerSpectrum
DESCRIPTORS: dict[str, type[SymmetryFunctions] | type[PowerSpectrum]] = {
    "symmetry functions": SymmetryFunctions,
    "power spectrum": PowerSpectrum,
}
ENDING = ".network.pt"


@dataclass(frozen=True)
class Layout:
    """Shape of an `AtomNetwork`.

    Parameters
    ----------
    species : tuple of str
        Elements.
    descriptor : SymmetryFunctions or PowerSpectrum
        What each atom's surroundings are described by.
    channels : int
        Numbers that stand for a neighbour's element, learnt; elements share all other weights.
    neurons : tuple of int
        Widths of the hidden layers.
    members : int
        Networks of the committee; they share the descriptor.
    """

    species: tuple[str, ...]
    descriptor: Descriptor = field(default_factory=SymmetryFunctions)
    channels: int = 2
    neurons: tuple[int, ...] = (24, 24)
    members: int = 1

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {value}, but must be positive"
            for name, value in (
                ("channels", self.channels),
                ("members", self.members),
                *(("neurons", width) for width in self.neurons),
            )
            if value < 1
        ]
        if list(self.species) != sorted(set(self.species)):
            faults.append(f"species are {self.species}, but must be sorted, each named once")
        if faults:
            raise ValueError("Layout: " + "; ".join(faults) + ".")


class AtomNetwork(ModelInterface):
    r"""Energy as a sum over atoms of networks on each atom's surroundings.

    .. math:: E_k = \sum_i \big[ e_{z_i} + c_{k z_i} \cdot d_i + s\, N_k(x_i, a_{z_i}) \big],
              \qquad x_i = d_i \text{ contracted with } w_{z_j}

    after Behler and Parrinello, but with one network for all elements: a neighbour's element z
    enters by its learnt vector w_z, the atom's own by a_z. Before it stands a linear model on the
    descriptor d itself, which holds the pairs and leaves the network the rest. A further element
    is a further row of each, so that a trained network is fitted to it with few frames. Forces and
    stress are exact derivatives. Of several members k the mean is returned.

    Parameters
    ----------
    layout : Layout
        Its shape.
    seed : int
        Seed of the initial weights.

    References
    ----------
    Behler, Parrinello, Phys. Rev. Lett. 98, 146401 (2007),
    https://doi.org/10.1103/PhysRevLett.98.146401

    Gastegger et al., J. Chem. Phys. 148, 241709 (2018), https://doi.org/10.1063/1.5019667
    """

    atom_energy: torch.Tensor
    scale: torch.Tensor
    fitted: torch.Tensor
    linear: torch.Tensor
    _single_mean: torch.Tensor
    _single_spread: torch.Tensor
    _double_mean: torch.Tensor
    _double_spread: torch.Tensor
    _kinds: torch.Tensor

    def __init__(self, layout: Layout, *, seed: int = 0) -> None:
        super().__init__()
        self.layout = layout
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._compute_forces = self._compute_stress = True
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int, scale: float = 1.0) -> torch.nn.Parameter:
            return torch.nn.Parameter(
                scale * torch.randn(*shape, generator=generator, dtype=self._dtype)
            )

        kinds, members, channels = len(layout.species), layout.members, layout.channels
        single, double = layout.descriptor.sizes()
        self.neighbour = normal(members, channels, kinds)
        self.own = normal(members, kinds, channels)
        widths = [(single + double) * channels + channels, *layout.neurons, 1]
        self.weights = torch.nn.ParameterList(
            [normal(members, a, b, scale=a**-0.5) for a, b in pairwise(widths)]
        )
        self.biases = torch.nn.ParameterList(
            [torch.nn.Parameter(torch.zeros(members, 1, b, dtype=self._dtype)) for b in widths[1:]]
        )
        pairs = len(pairs_of(kinds))
        # what a fit takes from its data: level and spread of each feature, energies of the atoms
        self.register_buffer("_single_mean", torch.zeros(single, kinds, dtype=self._dtype))
        self.register_buffer("_single_spread", torch.ones(single, kinds, dtype=self._dtype))
        self.register_buffer("_double_mean", torch.zeros(double, pairs, dtype=self._dtype))
        self.register_buffer("_double_spread", torch.ones(double, pairs, dtype=self._dtype))
        self.register_buffer("atom_energy", torch.zeros(kinds, dtype=self._dtype))
        # of the linear model, solved for, not descended to
        self.register_buffer(
            "linear",
            torch.zeros(members, kinds, single * kinds + double * pairs, dtype=self._dtype),
        )
        self.register_buffer("scale", torch.ones((), dtype=self._dtype))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        table = torch.full((len(chemical_symbols),), -1, dtype=torch.int64)
        for index, symbol in enumerate(layout.species):
            table[atomic_numbers[symbol]] = index
        self.register_buffer("_kinds", table)

    def to_device(self, device: torch.device) -> AtomNetwork:
        """Move to a device, in place."""
        self._device = device
        self.to(device)
        return self

    def kinds(self, state: SimState) -> torch.Tensor:
        """Index of each atom's element; raise ValueError for one that is not known."""
        found = self._kinds[state.atomic_numbers.long()]
        if bool((found < 0).any()):
            numbers = set(state.atomic_numbers[found < 0].tolist())
            raise ValueError(
                f"The network knows {', '.join(self.layout.species)}, but was given "
                f"{', '.join(sorted(chemical_symbols[n] for n in numbers))}."
            )
        return found

    def raw(
        self,
        kind: torch.Tensor,
        centre: torch.Tensor,
        neighbour: torch.Tensor,
        vector: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features by element, as the descriptor gives them: one neighbour, pairs of neighbours."""
        return self.layout.descriptor.features(
            centre, kind[neighbour], vector, atoms=len(kind), kinds=len(self.layout.species)
        )

    def set_scales(self, single: torch.Tensor, double: torch.Tensor) -> None:
        """Take level and spread of the features (atom, feature, element) from some atoms."""
        for name, value in (("single", single), ("double", double)):
            if not value.numel():
                continue
            mean, spread = value.mean(0), value.std(0, correction=0)
            # a feature that hardly varies is not to be blown up
            floor = 3e-2 * spread.max().clamp(min=1e-12)
            getattr(self, f"_{name}_mean").copy_(mean)
            getattr(self, f"_{name}_spread").copy_(spread.clamp(min=floor))

    def levels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Level and spread of every feature, flat."""
        return (
            torch.cat([self._single_mean.flatten(), self._double_mean.flatten()]),
            torch.cat([self._single_spread.flatten(), self._double_spread.flatten()]),
        )

    def atomic(
        self, kind: torch.Tensor, single: torch.Tensor, double: torch.Tensor
    ) -> torch.Tensor:
        """Energy (eV) of each atom by each member: (member, atom).

        Parameters
        ----------
        kind : torch.Tensor
            Index of each atom's element.
        single, double : torch.Tensor
            Features; with a leading dim of members, or without.
        """
        one = (single - self._single_mean) / self._single_spread
        two = (double - self._double_mean) / self._double_spread
        if one.dim() == 3:
            one, two = (each.expand(self.layout.members, *each.shape) for each in (one, two))
        first, second = torch.tensor(pairs_of(len(self.layout.species)), device=kind.device).unbind(
            1
        )
        products = self.neighbour[:, :, first] * self.neighbour[:, :, second]
        x = torch.cat(
            [
                torch.einsum("kifz,kcz->kifc", one, self.neighbour).flatten(2),
                torch.einsum("kifp,kcp->kifc", two, products).flatten(2),
                self.own[:, kind],
            ],
            dim=2,
        )
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.tanh(torch.baddbmm(bias, x, weight))
        x = torch.baddbmm(self.biases[-1], x, self.weights[-1])[:, :, 0]
        flat = torch.cat([one.flatten(2), two.flatten(2)], dim=2)
        line = (flat * self.linear[:, kind]).sum(2)
        return self.atom_energy[kind] + line + self.scale * x

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV, per system), forces (eV Å-1, per atom), stress (eV Å-3)."""
        kind = self.kinds(state)
        centre, neighbour, system, vector = neighbours(state, self.layout.descriptor.cutoff)
        with torch.enable_grad():
            vector = vector.detach().requires_grad_()
            atomic = self.atomic(kind, *self.raw(kind, centre, neighbour, vector)).mean(0)
            (slope,) = torch.autograd.grad(atomic.sum(), vector)
        energy = atomic.new_zeros(state.n_systems).index_add(0, state.system_idx, atomic.detach())
        forces, stress = from_pairs(state, centre, neighbour, system, vector.detach(), slope)
        return {"energy": energy, "forces": forces, "stress": stress}

    def members(self, state: SimState) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies (eV; system, member) and forces (eV Å-1; atom, member, xyz) of each member."""
        kind = self.kinds(state)
        centre, neighbour, _, vector = neighbours(state, self.layout.descriptor.cutoff)
        with torch.enable_grad():
            vector = vector.detach().requires_grad_()
            raw = self.raw(kind, centre, neighbour, vector)
            copies = [
                each.detach().expand(self.layout.members, *each.shape).clone().requires_grad_()
                for each in raw
            ]
            atomic = self.atomic(kind, copies[0], copies[1])
            steep = torch.autograd.grad(atomic.sum(), copies)
            # a descriptor may have none of one sort
            some = [at for at, each in enumerate(raw) if each.requires_grad]
            slopes = [
                torch.autograd.grad(
                    [raw[at] for at in some],
                    vector,
                    [steep[at][member] for at in some],
                    retain_graph=True,
                )[0]
                for member in range(self.layout.members)
            ]
        energy = atomic.new_zeros(state.n_systems, self.layout.members)
        energy = energy.index_add(0, state.system_idx, atomic.detach().T)
        forces = [
            from_pairs(state, centre, neighbour, state.system_idx[centre], vector.detach(), slope)[
                0
            ]
            for slope in slopes
        ]
        return energy, torch.stack(forces, dim=1)

    def describe_atoms(self, state: SimState) -> torch.Tensor:
        """Features of each atom on the scale of the training data: (atom, feature)."""
        kind = self.kinds(state)
        centre, neighbour, _, vector = neighbours(state, self.layout.descriptor.cutoff)
        single, double = self.raw(kind, centre, neighbour, vector.detach())
        one = (single - self._single_mean) / self._single_spread
        two = (double - self._double_mean) / self._double_spread
        return torch.cat([one.flatten(1), two.flatten(1)], dim=1)

    def save(self, path: str | Path) -> Path:
        """Write layout and weights to a file that ends in ``.network.pt``."""
        path = Path(path)
        if not path.name.endswith(ENDING):
            raise ValueError(f"The file {path} must end in {ENDING}, so that it is known again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"layout": layout_as_json(self.layout), "state": self.state_dict()}, path)
        return path

    def with_elements(self, species: Sequence[str], *, seed: int = 0) -> AtomNetwork:
        """Copy the network with further elements, whose vectors begin at random.

        Parameters
        ----------
        species : sequence of str
            Elements of the new network; those of this one among them.
        seed : int
            Seed of the new vectors.
        """
        names = tuple(sorted(set(species)))
        if lost := sorted(set(self.layout.species) - set(names)):
            raise ValueError(
                f"with_elements was given {', '.join(names)}, without {', '.join(lost)}, which the "
                "network knows; name all elements, old and new."
            )
        layout = replace(self.layout, species=names)
        wider = AtomNetwork(layout, seed=seed)
        at = [names.index(symbol) for symbol in self.layout.species]
        old_pairs, new_pairs = pairs_of(len(at)), pairs_of(len(names))
        pair_at = [new_pairs.index((at[a], at[b])) for a, b in old_pairs]
        mine = self.state_dict()
        theirs = wider.state_dict()
        for name, value in mine.items():
            if name == "neighbour":
                theirs[name][:, :, at] = value
            elif name == "own":
                theirs[name][:, at] = value
            elif name.startswith(("_single", "_double")):
                # an element that is absent must add nothing: of the new ones the level is zero
                new = value.mean(1, keepdim=True) if name.endswith("spread") else 0.0
                theirs[name][:] = new
                theirs[name][:, at if name.startswith("_single") else pair_at] = value
            elif name == "linear":
                theirs[name][:, torch.tensor(at)[:, None], self._columns(names)] = value
            elif name == "atom_energy":
                theirs[name][:] = value.mean()
                theirs[name][at] = value
            elif name != "_kinds":
                theirs[name] = value
        wider.load_state_dict(theirs)
        return wider

    def columns_of(self, elements: Sequence[str]) -> torch.Tensor:
        """Which entries of the linear model (element, feature) concern some elements."""
        new = [self.layout.species.index(symbol) for symbol in elements]
        single, double = self.layout.descriptor.sizes()
        kinds = len(self.layout.species)
        of_pair = [bool({a, b} & set(new)) for a, b in pairs_of(kinds)]
        feature = torch.tensor(
            [kind in new for _ in range(single) for kind in range(kinds)] + of_pair * double
        )
        concerned = feature.repeat(kinds, 1)
        concerned[new] = True
        return concerned

    def _columns(self, names: tuple[str, ...]) -> torch.Tensor:
        """Where the features of this network stand among those of one with more elements."""
        single, double = self.layout.descriptor.sizes()
        at = [names.index(symbol) for symbol in self.layout.species]
        old, new = pairs_of(len(at)), pairs_of(len(names))
        pair = [new.index((at[a], at[b])) for a, b in old]
        ones = [f * len(names) + z for f in range(single) for z in at]
        twos = [f * len(new) + z for f in range(double) for z in pair]
        return torch.tensor(ones + [single * len(names) + two for two in twos])


def load_network(path: str | Path, device: torch.device | str = "cpu") -> Potential:
    """Load a network that `AtomNetwork.save` wrote.

    Parameters
    ----------
    path : str or Path
        The file.
    device : torch.device or str
        Where to evaluate.
    """
    path = Path(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    network = AtomNetwork(layout_from_json(content["layout"]))
    network.load_state_dict(content["state"])
    return as_potential(network.to_device(torch.device(device)), str(path), sha256(path))


def as_potential(network: AtomNetwork, name: str = "atom network", digest: str = "") -> Potential:
    """Say of a network what one has to know."""
    return Potential(
        name=name,
        model=network,
        species=network.layout.species,
        cutoff=network.layout.descriptor.cutoff,
        sha256=digest,
    )


def species_of(frames: Sequence[Atoms]) -> tuple[str, ...]:
    """List the elements of some structures, sorted."""
    return tuple(sorted({symbol for frame in frames for symbol in frame.get_chemical_symbols()}))


def layout_as_json(layout: Layout) -> str:
    """Write a layout as one line of JSON."""
    (kind,) = (name for name, each in DESCRIPTORS.items() if isinstance(layout.descriptor, each))
    return json.dumps({**asdict(layout), "descriptor": {"kind": kind, **asdict(layout.descriptor)}})


def layout_from_json(text: str) -> Layout:
    """Read what `layout_as_json` wrote."""
    flat = json.loads(text)
    described = dict(flat.pop("descriptor"))
    descriptor = DESCRIPTORS[described.pop("kind")](**_tuples(described))
    return Layout(descriptor=descriptor, **_tuples(flat))


def _tuples(values: dict) -> dict:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def mean_features(network: AtomNetwork, state: SimState) -> np.ndarray:
    """Mean and spread of the atoms' features, one row a system: what a frame looks like."""
    each = network.describe_atoms(state)
    count = state.n_atoms_per_system[:, None].to(each.dtype)
    mean, square = (
        each.new_zeros(state.n_systems, each.shape[1]).index_add(0, state.system_idx, value) / count
        for value in (each, each**2)
    )
    spread = (square - mean**2).clamp(min=0).sqrt()
    return torch.cat([mean, spread], dim=1).detach().cpu().numpy()
