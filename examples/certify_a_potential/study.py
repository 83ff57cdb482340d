"""What a potential must obey whatever it was trained on, and how each breach shows.

A model can be excellent on held-out frames and still be unfit for dynamics: forces that are no
gradient heat the system, a truncated neighbourhood leaks energy, and a hole at short range is
entered sooner or later. Here the shipped student of Li6PS5Cl is certified beside three copies of
it with one such fault each, all too small or too remote to be seen in an error over frames.

    python study.py                                    # about a minute on one core
    multiscale certify argyrodite-pbe                  # the same for one potential
    multiscale certify sevennet-0                      # some minutes

`sevennet-0.json` is what the last line writes with `--json`, and `chgnet.json` the same of CHGNet;
several of the fourteen properties were measured in runs of their own, the strong fields with the
formal charges (`--charge Li=1` and so on). CHGNet holds them all. SevenNet-0 fails by one: its
layers are equivariant under rotations but not under reflections (`is_parity` is false in its
checkpoint), so that mirror images differ in their forces by 0.4 % of the rms. `pretrained.py`
plants the three faults in copies of both, and finds them.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch_sim.models.interface import ModelInterface
from torch_sim.neighbors import torch_nl_linked_cell
from torch_sim.state import SimState

from atomistic.potentials.certificate import Certificate, certify
from atomistic.potentials.load import Potential, load
from atomistic.systems import argyrodite

Results = dict[str, torch.Tensor]
TRUNCATED_AT = 5.0  # Å
DAMPING = 1e4  # Å6


class Altered(ModelInterface):
    """A potential to whose results something is added."""

    def __init__(self, model: ModelInterface, alter: Callable[[SimState, Results], Results]):
        super().__init__()
        self.model, self.alter = model, alter
        self._device, self._dtype = model.device, model.dtype
        self._compute_forces = self._compute_stress = True

    def forward(self, state: SimState, **kwargs: object) -> Results:
        """Return energy (eV), forces (eV Å-1) and stress (eV Å-3), altered."""
        return self.alter(state, self.model(state))


def direct(state: SimState, results: Results) -> Results:
    """Forces on sulfur 0.1 % too large, as a head that predicts forces directly may make them."""
    factor = torch.where(state.atomic_numbers == 16, 1.001, 1.0)[:, None]
    return results | {"forces": results["forces"] * factor}


def truncated(state: SimState, results: Results) -> Results:
    """A damped dispersion of 100 eV Å6 that ends at 5 Å without a switch."""

    def energy(r: torch.Tensor) -> torch.Tensor:
        return -100 / (r**6 + DAMPING)

    return with_pairs(state, results, energy, lambda r: 6 * r**5 * energy(r) ** 2 / 100)


def holed(state: SimState, results: Results) -> Results:
    """A hole of 60 eV around 1.2 Å, where no training frame goes."""

    def energy(r: torch.Tensor) -> torch.Tensor:
        return -60 * torch.exp(-(((r - 1.2) / 0.25) ** 2))

    return with_pairs(state, results, energy, lambda r: -2 * (r - 1.2) / 0.25**2 * energy(r))


def with_pairs(
    state: SimState,
    results: Results,
    energy: Callable[[torch.Tensor], torch.Tensor],
    slope: Callable[[torch.Tensor], torch.Tensor],
) -> Results:
    """Add a pair potential up to `TRUNCATED_AT`."""
    pairs, system, shifts = torch_nl_linked_cell(
        state.positions,
        state.row_vector_cell,
        state.pbc,
        torch.tensor(TRUNCATED_AT, dtype=state.dtype),
        state.system_idx,
    )
    cell = state.row_vector_cell
    vectors = state.positions[pairs[1]] - state.positions[pairs[0]]
    vectors = vectors + torch.einsum("eyx,ey->ex", cell[system], shifts.to(state.dtype))
    r = vectors.norm(dim=1)
    pull = (slope(r) / r)[:, None] * vectors
    virial = 0.5 * torch.einsum("ex,ey->exy", pull, vectors)
    volume = torch.linalg.det(cell).abs()[:, None, None]
    return {
        "energy": results["energy"].index_add(0, system, 0.5 * energy(r)),
        "forces": results["forces"].index_add(0, pairs[0], pull),
        "stress": results["stress"] + torch.zeros_like(cell).index_add(0, system, virial) / volume,
    }


def certificates(only: list[str] | None = None) -> dict[str, Certificate]:
    """Certify the student as it ships and with each fault; all properties if none is named."""
    student = load("argyrodite-pbe", device="cpu")
    potentials = [student] + [
        Potential(alter.__name__, Altered(student.model, alter), student.species, student.cutoff)
        for alter in (direct, truncated, holed)
    ]
    structure = argyrodite()
    return {one.name: certify(one, structure, only=only, steps=200) for one in potentials}


if __name__ == "__main__":
    for name, certificate in certificates().items():
        print(certificate.outcome)
        Path(f"{name}.json").write_text(certificate.to_json() + "\n")
