"""How each property of the certificate is measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from scipy.spatial.transform import Rotation
from torch_sim.models.interface import ModelInterface
from torch_sim.units import MetalUnits

from atomistic.potentials.compose import Sum
from atomistic.potentials.field import UniformField

RATTLE = 0.05  # Å, away from the symmetric places where forces vanish
BOX = 25.0  # Å, of the dimers; beyond twice any cutoff in use
NEAREST, FARTHEST = 0.5, 10.0  # Å, ends of the dimer scans
REACHABLE = 5.0  # eV above the dimer's well; a hotter collision is rare below 3000 K
COVALENT = 0.7  # of the sum of covalent radii; a fused pair is closer
STRENGTHS = (0.1, 0.3, 1.0)  # V/Å, of fields; the strongest drives ions into each other
LEAST_FORCE = 0.1  # eV/Å, that differences of forces are relative to
LARGEST_BATCH = 500  # atoms, for the memory of a message-passing network
MOST_FRAMES = 20  # of a batch; compiled potentials are set up anew for each place in it
# weights of a central first difference of fourth order
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))

# name: (limit in float64, limit in float32, unit, what goes wrong if it does not hold)
PROPERTIES: dict[str, tuple[float, float, str, str]] = {
    "translation": (1e-10, 1e-4, "1", "momentum is not conserved"),
    "rotation": (1e-10, 1e-4, "1", "angular momentum is not conserved"),
    "inversion": (1e-10, 1e-4, "1", "mirror images differ in energy"),
    "permutation": (1e-10, 1e-4, "1", "like atoms are not alike"),
    "extensivity": (1e-10, 1e-4, "1", "results depend on the choice of the cell"),
    "force_is_gradient": (1e-6, 2e-3, "1", "energy is not conserved"),
    "jacobian_asymmetry": (1e-6, 2e-3, "1", "forces do net work around a loop"),
    "stress_is_strain_derivative": (1e-6, 5e-3, "1", "the pressure is wrong"),
    "jump_in_structure": (1e-4, 5e-3, "eV/Å", "energy leaks where neighbours enter or leave"),
    "jump_of_dimer": (1e-4, 5e-3, "eV/Å", "energy leaks where neighbours enter or leave"),
    "fusion_well": (0.05, 0.05, "eV", "atoms can fall into each other"),
    "compression": (1e-6, 1e-6, "eV per atom", "a compressed structure collapses"),
    "energy_drift": (1e-3, 1e-3, "eV per atom and ps", "the system heats or cools itself"),
    "strong_field": (
        5e-3,
        5e-3,
        "eV per atom",
        "ions that a field drives gain energy from nothing",
    ),
}


class Examiner:
    """Measures the size of each violation in one rattled structure.

    Parameters
    ----------
    model : torch_sim.models.interface.ModelInterface
        What is judged.
    structure : Atoms
        Periodic structure (positions and cell in Å); it is copied.
    rng : numpy.random.Generator
        Source of the displacements, directions and velocities.
    temperature : float
        Of the microcanonical run (K).
    timestep : float
        Of the microcanonical run (fs).
    steps : int
        Of the microcanonical run.
    charges : mapping of str to float, optional
        Charge (e) of each element, by which fields act.
    """

    def __init__(
        self,
        model: ModelInterface,
        structure: Atoms,
        rng: np.random.Generator,
        *,
        temperature: float,
        timestep: float,
        steps: int,
        charges: Mapping[str, float] | None = None,
    ) -> None:
        self.model, self.rng, self.charges = model, rng, charges
        self.temperature, self.timestep, self.run_steps = temperature, timestep, steps
        self.double = model.dtype == torch.float64
        self.precision = "float64" if self.double else "float32"
        # balance the differences' truncation and rounding; the error of a difference across the
        # kink of a cutoff's second derivative shrinks with the step, a true violation does not
        self.steps = (5e-4, 1.25e-4) if self.double else (2e-2, 1e-2, 5e-3, 2.5e-3)
        # over which no smooth force changes by more than the limit of a jump (Å)
        self.narrow = 1e-8 if self.double else 2e-5
        self.atoms = structure.copy()
        self.atoms.calc = None
        self.atoms.positions += rng.normal(scale=RATTLE, size=self.atoms.positions.shape)
        (self.energy,), (self.forces,), (self.sigma,) = self.evaluate([self.atoms])
        # rounding does not vanish with the forces, as near equilibrium
        self.force_scale = max(LEAST_FORCE, float(np.sqrt(np.mean(self.forces**2))))

    def limit(self, name: str) -> float:
        """Return the largest violation that passes, by the precision that the model computes in."""
        double, single, *_ = PROPERTIES[name]
        return double if self.double else single

    def measure(self, name: str) -> float:
        """Return the size of the violation of one of `PROPERTIES`, in its unit."""
        looks: dict[str, Callable[[], float]] = {
            each.__name__: each
            for each in (
                self.translation,
                self.rotation,
                self.inversion,
                self.permutation,
                self.extensivity,
                self.force_is_gradient,
                self.jacobian_asymmetry,
                self.stress_is_strain_derivative,
                self.jump_in_structure,
                self.jump_of_dimer,
                self.fusion_well,
                self.compression,
                self.energy_drift,
                self.strong_field,
            )
        }
        return looks[name]()

    def evaluate(
        self, frames: Sequence[Atoms]
    ) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray | None]]:
        """Return energies (eV), forces (eV Å-1) and stresses (eV Å-3; None if not given)."""
        energies, forces, stresses = [], [], []
        for some in _in_batches(frames):
            state = ts.io.atoms_to_state(some, self.model.device, self.model.dtype)
            results = {
                name: value.detach().cpu().double().numpy()
                for name, value in self.model(state).items()
                if name in ("energy", "forces", "stress")
            }
            energies.append(results["energy"])
            ends = np.cumsum([len(frame) for frame in some])[:-1]
            forces += np.split(results["forces"], ends)
            stresses += list(results["stress"]) if "stress" in results else [None] * len(some)
        return np.concatenate(energies), forces, stresses

    def differs(self, frame: Atoms, expected: np.ndarray) -> float:
        """Return the larger of the relative energy and force differences from those expected."""
        (energy,), (forces,), _ = self.evaluate([frame])
        worst = np.abs(forces - expected).max() / self.force_scale
        return max(worst, abs(energy - self.energy) / max(abs(self.energy), len(frame)))

    def moved(self, displacement: np.ndarray) -> Atoms:
        """Copy the structure, displaced (Å)."""
        frame = self.atoms.copy()
        frame.positions += displacement
        return frame

    def translation(self) -> float:
        """Push all atoms along together."""
        return self.differs(self.moved(self.rng.uniform(-3, 3, size=3)), self.forces)

    def rotation(self) -> float:
        """Turn structure and cell at random."""
        return self._turned(Rotation.random(rng=self.rng).as_matrix())

    def inversion(self) -> float:
        """Mirror structure and cell through a point."""
        return self._turned(-np.eye(3))

    def _turned(self, matrix: np.ndarray) -> float:
        frame = self.atoms.copy()
        frame.set_cell(self.atoms.cell.array @ matrix.T)
        frame.positions = self.atoms.positions @ matrix.T
        return self.differs(frame, self.forces @ matrix.T)

    def permutation(self) -> float:
        """Name the atoms in another order."""
        order = self.rng.permutation(len(self.atoms))
        return self.differs(self.atoms[order], self.forces[order])

    def extensivity(self) -> float:
        """Lay two cells side by side."""
        (energy,), (forces,), _ = self.evaluate([self.atoms.repeat((2, 1, 1))])
        worst = np.abs(forces - np.tile(self.forces, (2, 1))).max() / self.force_scale
        return max(worst, abs(energy / 2 - self.energy) / max(abs(self.energy), len(self.atoms)))

    def force_is_gradient(self) -> float:
        """Compare the slope of the energy along random directions with the forces."""
        return max(self._gradient_along(self.rng.normal(size=self.forces.shape)) for _ in range(3))

    def _gradient_along(self, direction: np.ndarray) -> float:
        # as far as the differences of a single coordinate, along all
        direction = direction / np.abs(direction).max()
        size = self.force_scale * np.linalg.norm(direction)

        def violation(step: float) -> float:
            energies, _, _ = self.evaluate([self.moved(n * step * direction) for n, _ in STENCIL])
            slope = _slope(energies, step)
            return float(abs(slope + np.sum(self.forces * direction)) / size)

        return min(violation(step) for step in self.steps)

    def jacobian_asymmetry(self) -> float:
        """Differentiate the forces on a few atoms with respect to their coordinates."""
        chosen = self._neighbourhood(6)
        return min(self._asymmetry(chosen, step) for step in self.steps)

    def _asymmetry(self, chosen: np.ndarray, step: float) -> float:
        columns = []
        for atom, axis in itertools.product(chosen, range(3)):
            displacement = np.zeros_like(self.forces)
            displacement[atom, axis] = step
            _, forces, _ = self.evaluate([self.moved(n * displacement) for n, _ in STENCIL])
            columns.append(_slope([each[chosen].ravel() for each in forces], step))
        jacobian = np.array(columns).T
        return float(np.linalg.norm(jacobian - jacobian.T) / np.linalg.norm(jacobian + jacobian.T))

    def _neighbourhood(self, count: int) -> np.ndarray:
        """Choose an atom and those nearest to it, which have the largest shared derivatives."""
        distances = self.atoms.get_distances(
            self.rng.integers(len(self.atoms)), range(len(self.atoms)), mic=True
        )
        return np.argsort(distances)[:count]

    def stress_is_strain_derivative(self) -> float:
        """Compare the slope of the energy with strain with the stress; nan if none is given."""
        sigma = self.sigma
        if sigma is None or np.isnan(sigma).any():
            return np.nan
        return min(self._strain_violation(sigma, step) for step in self.steps)

    def _strain_violation(self, sigma: np.ndarray, step: float) -> float:
        volume = self.atoms.get_volume()
        derivative = np.zeros((3, 3))
        for one, other in itertools.combinations_with_replacement(range(3), 2):
            strain = np.zeros((3, 3))
            strain[one, other] += 0.5 * step
            strain[other, one] += 0.5 * step
            energies, _, _ = self.evaluate(
                [self._strained(np.eye(3) + count * strain) for count, _ in STENCIL]
            )
            derivative[one, other] = derivative[other, one] = _slope(energies, step) / volume
        # a structure near equilibrium has no stress to be relative to
        scale = np.abs(sigma).max() + 1e-2 * len(self.atoms) / volume
        return float(np.abs(derivative - sigma).max() / scale)

    def _strained(self, deformation: np.ndarray) -> Atoms:
        frame = self.atoms.copy()
        frame.set_cell(self.atoms.cell.array @ deformation, scale_atoms=True)
        return frame

    def jump_in_structure(self) -> float:
        """Push an atom of each element along a line and find the largest jump of a force."""
        limit = self.limit("jump_in_structure")
        symbols = np.array(self.atoms.get_chemical_symbols())
        worst = 0.0
        for symbol in np.unique(symbols):
            push = np.zeros_like(self.forces)
            direction = self.rng.normal(size=3)
            push[self.rng.choice(np.flatnonzero(symbols == symbol))] = direction
            push /= np.linalg.norm(direction)
            along = partial(self._forces_along, push)
            grid = np.linspace(-0.4, 0.4, 21)
            worst = max(worst, _largest_jump(along, grid, self.narrow, limit))
        return worst

    def _forces_along(self, push: np.ndarray, distances: np.ndarray) -> np.ndarray:
        _, forces, _ = self.evaluate([self.moved(distance * push) for distance in distances])
        return np.array(forces).reshape(len(distances), -1)

    def jump_of_dimer(self) -> float:
        """Pull each pair of elements apart and find the largest jump of a force."""
        limit = self.limit("jump_of_dimer")
        worst = 0.0
        for pair in self._pairs():
            along = partial(self._dimer_forces, pair)
            grid = np.arange(_bond(pair), FARTHEST, 0.05)
            worst = max(worst, _largest_jump(along, grid, self.narrow, limit))
        return worst

    def _dimer_forces(self, pair: tuple[str, str], distances: np.ndarray) -> np.ndarray:
        _, forces, _ = self.evaluate([_dimer(pair, distance) for distance in distances])
        return np.array(forces)[:, 1, :]

    def fusion_well(self) -> float:
        """Return the depth of the deepest hole behind a barrier that can be passed."""
        deepest = 0.0
        for pair in self._pairs():
            distance = np.arange(FARTHEST, NEAREST - 0.01, -0.05)
            energy, _, _ = self.evaluate([_dimer(pair, r) for r in distance])
            short = distance < COVALENT * _bond(pair)
            well = energy[~short].min()
            inner = energy[short]
            # inwards: the barrier already passed, over which the rest is entered
            barrier = np.maximum.accumulate(np.concatenate([[well], inner]))[1:] - well
            hole = np.where(barrier < REACHABLE, barrier + well - inner, 0.0)
            deepest = max(deepest, float(hole.max(initial=0.0)))
        return deepest

    def compression(self) -> float:
        """Return the largest fall of the energy on the way to 0.7 of the length."""
        frames = [self._strained(scale * np.eye(3)) for scale in np.arange(0.94, 0.69, -0.02)]
        energies, _, _ = self.evaluate(frames)
        if not np.isfinite(energies).all():
            return np.inf
        return float(max(0.0, -np.diff(energies).min() / len(self.atoms)))

    def energy_drift(self) -> float:
        """Compare the mean total energy of the last quarter of a run with that of the second."""
        (total,) = self._microcanonical(self.model, self.run_steps, 1)
        quarter = self.run_steps // 4
        apart = total[-quarter:].mean() - total[quarter : 2 * quarter].mean()
        return float(abs(apart) / (2 * quarter * self.timestep * 1e-3))

    def strong_field(self) -> float:
        """Let fields drive the ions and return the largest change of their energy, nan if none."""
        if self.charges is None:
            return np.nan
        direction = self.rng.normal(size=3)
        fields = np.outer(STRENGTHS, direction / np.linalg.norm(direction))
        device, dtype = self.model.device, self.model.dtype
        term = UniformField(torch.tensor(fields), self.charges, device=device, dtype=dtype)
        both = Sum([self.model, term])
        total = self._microcanonical(both, self.run_steps, len(fields))
        change = np.abs(total - total[:, :1]).max()
        return float(change) if np.isfinite(change) else np.inf

    def _microcanonical(self, model: ModelInterface, steps: int, copies: int) -> np.ndarray:
        """Return the energies (eV per atom; copy, step) of a run of copies of the structure."""
        state = ts.io.atoms_to_state([self.atoms] * copies, model.device, model.dtype)
        state.rng = int(self.rng.integers(2**31))
        kT = torch.tensor(self.temperature * float(MetalUnits.temperature), dtype=model.dtype)
        moving = ts.nve_init(state, model, kT=kT.to(model.device))
        total = np.empty((copies, steps))
        for step in range(steps):
            moving = ts.nve_step(moving, model, dt=self.timestep * 1e-3 * float(MetalUnits.time))
            kinetic = (moving.momenta.double() ** 2).sum(1) / (2 * moving.masses.double())
            energy = moving.energy.double() + kinetic.reshape(copies, -1).sum(1)
            total[:, step] = energy.cpu().numpy() / len(self.atoms)
        return total

    def _pairs(self) -> list[tuple[str, str]]:
        symbols = sorted(set(self.atoms.get_chemical_symbols()))
        return list(itertools.combinations_with_replacement(symbols, 2))


def _in_batches(frames: Sequence[Atoms]) -> Iterator[list[Atoms]]:
    """Split frames by the number of atoms and of frames."""
    batch: list[Atoms] = []
    atoms = 0
    for frame in frames:
        if len(batch) == MOST_FRAMES or (batch and atoms + len(frame) > LARGEST_BATCH):
            yield batch
            batch, atoms = [], 0
        batch.append(frame)
        atoms += len(frame)
    yield batch


def _slope(values: Sequence[Any] | np.ndarray, step: float) -> Any:
    """Derivative by the central difference whose points the values belong to."""
    return sum(weight * value for (_, weight), value in zip(STENCIL, values, strict=True)) / step


def _dimer(pair: tuple[str, str], distance: float) -> Atoms:
    positions = np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]) + 0.3 * BOX
    return Atoms(pair, positions, cell=[BOX] * 3, pbc=True)


def _bond(pair: tuple[str, str]) -> float:
    """Return the sum of the covalent radii (Å)."""
    return float(sum(covalent_radii[atomic_numbers[symbol]] for symbol in pair))


def _largest_jump(
    along: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, narrow: float, limit: float
) -> float:
    """Bisect every interval of a path until its force changes by less than half the limit.

    Of a smooth force nothing is left; a jump stays however narrow (Å) the interval. `along` maps
    distances (Å) to forces (eV Å-1).
    """
    low, high = grid[:-1], grid[1:]
    forces = along(grid)
    at_low, at_high = forces[:-1], forces[1:]
    worst = 0.0
    while True:
        change = np.abs(at_high - at_low).max(1)
        suspect = change > 0.5 * limit
        ended = ~suspect if high[0] - low[0] > narrow else np.full(len(low), True)
        worst = max(worst, change[ended].max(initial=0.0))
        if ended.all():
            return worst
        low, high, at_low, at_high = low[suspect], high[suspect], at_low[suspect], at_high[suspect]
        middle = 0.5 * (low + high)
        at_middle = along(middle)
        left = np.abs(at_middle - at_low).max(1) > np.abs(at_high - at_middle).max(1)
        low, high = np.where(left, low, middle), np.where(left, middle, high)
        at_low = np.where(left[:, None], at_low, at_middle)
        at_high = np.where(left[:, None], at_middle, at_high)
