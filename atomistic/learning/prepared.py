"""Frames with their features worked out once, so that a step of a fit costs no pass over pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch_sim as ts
from ase import Atoms

from atomistic.learning.networks import AtomNetwork
from atomistic.potentials.pairs import neighbours

AT_ONCE = 8  # frames whose features are differentiated together


@dataclass(frozen=True)
class Prepared:
    """A frame as the fit needs it: features, their derivatives, labels."""

    kind: torch.Tensor
    centre: torch.Tensor
    neighbour: torch.Tensor
    vector: torch.Tensor
    single: torch.Tensor
    double: torch.Tensor
    jacobian: torch.Tensor  # of the features, flat, with respect to the vectors
    energy: torch.Tensor
    forces: torch.Tensor
    virial: torch.Tensor  # per atom (eV); nan if there is no stress


def prepare(network: AtomNetwork, frames: Sequence[Atoms]) -> list[Prepared]:
    """Work out features and their derivatives, some frames at once."""
    bare = [frame.get_chemical_formula() for frame in frames if frame.calc is None]
    if bare:
        raise ValueError(
            f"{len(bare)} of {len(frames)} frames carry no labels, {bare[0]} first; label them."
        )
    return [
        one
        for first in range(0, len(frames), AT_ONCE)
        for one in _prepare_some(network, frames[first : first + AT_ONCE])
    ]


def _prepare_some(network: AtomNetwork, frames: Sequence[Atoms]) -> list[Prepared]:
    state = ts.io.atoms_to_state(list(frames), network.device, network.dtype)
    kinds = network.kinds(state)
    centre, neighbour, system, vectors = neighbours(state, network.layout.descriptor.cutoff)
    vectors = vectors.detach().requires_grad_()
    single, double = network.raw(kinds, centre, neighbour, vectors)
    flat = torch.cat([single.flatten(1), double.flatten(1)], dim=1)
    # an atom's features depend on its own pairs alone, so a sum over atoms mixes nothing
    rows = [
        torch.autograd.grad(total, vectors, retain_graph=True)[0].float() for total in flat.sum(0)
    ]
    jacobian = torch.stack(rows, dim=1)
    prepared, begin = [], 0
    for index, frame in enumerate(frames):
        atoms, pairs = slice(begin, begin + len(frame)), system == index
        virial = torch.full((3, 3), torch.nan, dtype=network.dtype)
        if "stress" in frame.calc.results:
            stress = torch.as_tensor(frame.get_stress(voigt=False), dtype=network.dtype)
            virial = stress * frame.get_volume() / len(frame)
        prepared.append(
            Prepared(
                kinds[atoms],
                centre[pairs] - begin,
                neighbour[pairs] - begin,
                vectors.detach()[pairs],
                single.detach()[atoms],
                double.detach()[atoms],
                jacobian[pairs],
                torch.tensor(float(frame.get_potential_energy()), dtype=network.dtype),
                torch.as_tensor(frame.get_forces(), dtype=network.dtype),
                virial,
            )
        )
        begin += len(frame)
    return prepared


def predict(
    network: AtomNetwork, batch: Sequence[Prepared]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energies per atom (member, frame), forces (member, atom, xyz), virials per atom, sizes."""
    sizes = torch.tensor([len(frame.kind) for frame in batch])
    starts = (torch.cumsum(sizes, 0) - sizes).tolist()
    kind = torch.cat([frame.kind for frame in batch])
    single = torch.cat([frame.single for frame in batch])
    double = torch.cat([frame.double for frame in batch])
    members = network.layout.members
    copies = [
        each.expand(members, *each.shape).clone().requires_grad_() for each in (single, double)
    ]
    atomic = network.atomic(kind, copies[0], copies[1])
    steep = torch.autograd.grad(atomic.sum(), copies, create_graph=True)
    gradient = torch.cat([each.flatten(2) for each in steep], dim=2)
    frame_of = torch.repeat_interleave(torch.arange(len(batch)), sizes)
    energy = atomic.new_zeros(members, len(batch)).index_add(1, frame_of, atomic) / sizes
    forces, virials = [], []
    for frame, start, size in zip(batch, starts, sizes.tolist(), strict=True):
        mine = gradient[:, start : start + size].float()
        slope = torch.einsum("kef,efx->kex", mine[:, frame.centre], frame.jacobian)
        slope = slope.to(network.dtype)
        force = slope.new_zeros(members, size, 3)
        force = force.index_add(1, frame.centre, slope).index_add(1, frame.neighbour, -slope)
        forces.append(force)
        virials.append(torch.einsum("kex,ey->kxy", slope, frame.vector) / size)
    return energy, torch.cat(forces, dim=1), torch.stack(virials, dim=1), frame_of
