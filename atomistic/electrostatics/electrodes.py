r"""Electrodes held at a potential: their charges are solved for at every step of the dynamics.

Each electrode atom i carries a Gaussian charge. All of them minimise the grand potential

.. math::
    \Omega(r) = \min_{q} \Big[ U(q, r) + \frac{k_e}{2} \sum_i 4\pi l_i^2 n_i q_i^2
        - \sum_i V_i q_i \Big]_{\sum q = -Q}
        = U_0 + \sum_i q_i b_i + \frac12 \sum_{ij} q_i A_{ij} q_j - \sum_i V_i q_i

so that each electrode is an equipotential at its :math:`V_i`, up to one constant that keeps the
cell neutral against the charge Q of the electrolyte.

============== ==================================================================================
:math:`U_0`    energy (eV) of the electrolyte's charges among themselves
:math:`b_i`    their potential (V) at electrode atom i
:math:`A_{ij}` potential (V) at i of a unit charge at j, with the Thomas-Fermi term on its diagonal
:math:`l, n`   Thomas-Fermi length (Å) and density of atoms (Å-3) of an electrode; a perfect metal
               has :math:`l = 0`
============== ==================================================================================

Forces are :math:`-\partial\Omega/\partial r` at the charges found (Hellmann-Feynman), taken by
autograd from the very terms that the charges were solved from, so that they are conservative. In
dynamics :math:`\Omega` plus the kinetic energy is conserved.

With ``boundary="slab"`` nothing repeats along z. With ``"finite field"`` the cell does, and a field
:math:`E = -(V_2 - V_1)/L_z` along z makes up for the jump of the potential from one image to the
next, so that none is left in the gap behind the electrodes; :math:`\Omega` then holds
:math:`-\varepsilon_0 E^2 V/2` of the field itself, and is that of the slab but for the gap. With
``"periodic"`` the cell repeats without a field: for electrodes at one potential, or a cell that
holds its own mirror image.

References
----------
Siepmann, Sprik, J. Chem. Phys. 102, 511 (1995), https://doi.org/10.1063/1.469429

Reed, Lanning, Madden, J. Chem. Phys. 126, 084704 (2007), https://doi.org/10.1063/1.2464084

Dufils, Jeanmairet, Rotenberg, Sprik, Salanne, Phys. Rev. Lett. 123, 195501 (2019),
https://doi.org/10.1103/PhysRevLett.123.195501

Scalfi, Dufils, Reeves, Rotenberg, Salanne, J. Chem. Phys. 153, 174704 (2020),
https://doi.org/10.1063/5.0028232
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.electrostatics import ewald
from atomistic.electrostatics.ewald import COULOMB
from atomistic.electrostatics.geometry import TOO_CLOSE, Boundary, Charges, Electrode, check
from atomistic.electrostatics.mesh import Mesh, mesh
from atomistic.electrostatics.pairs import Near, Pairs

MOVED = 1e-4  # Å by which an electrode atom may differ from where its charges were set up


class ConstantPotential(ModelInterface):
    """Charges between electrodes at given potentials, many voltages and replicas in one batch.

    All systems have the atoms of `structure`, in its cell and with its electrode atoms, which stay
    where they are; the other atoms go their own ways. Add what acts at short range with
    `atomistic.potentials.compose.Sum`.

    Parameters
    ----------
    structure : ase.Atoms
        The cell: the first two vectors along the electrodes, the third along z. In a slab it must
        be as high as what it holds.
    electrodes : mapping of str to Electrode
        By name.
    charges : mapping of str to float, sequence of float, or callable
        Charges (e) of the other atoms: of each element, of each atom of the structure (those of
        electrode atoms are not read), or from positions (Å), (system, atom, 3), to charges
        (system, atom) by differentiable operations, whose part in the forces is then included.
    potentials : mapping of str to sequence of float
        Potentials (V) of each electrode, one for each system of a batch.
    boundary : str
        "slab", "finite field" or "periodic".
    fields : sequence of float, optional
        Uniform field along z (V Å-1) that a slab stands in, of each system.
    widths : mapping of str to float, optional
        Widths (Å) of the charges of elements that are no points.
    relative_permittivity : float
        Of a medium that fills the cell, where a solvent is not of atoms (1).
    cutoff : float
        Cutoff (Å) of the direct sum.
    accuracy : float
        What either sum leaves out, relative to its first term (1).
    solver : str
        "matrix": factorised once, then one matrix-vector product a step; "conjugate gradients":
        no matrix is kept, for many thousand electrode atoms.
    tolerance : float
        Potential (V) by which conjugate gradients may miss.
    spacing : float, optional
        Distance of mesh points (Å), for many charges; plane waves without a mesh if not given.
    skin : float
        How far beyond the cutoff pairs are searched (Å), so as to search seldom.
    device, dtype : torch.device, torch.dtype
        Where and in which precision.

    Raises
    ------
    ValueError
        Lists everything that is wrong with the structure, the electrodes or the numbers.

    Examples
    --------
    Two plates without electrolyte, 10 Å apart, at 1 V and at 2 V:

    >>> import torch_sim
    >>> sites = [(x, y, z) for z in (0.0, 10.0) for x in (0.0, 2.5) for y in (0.0, 2.5)]
    >>> plates = Atoms("Pt8", positions=sites, cell=(5.0, 5.0, 10.5), pbc=True)
    >>> model = ConstantPotential(
    ...     plates,
    ...     {"left": Electrode(range(4)), "right": Electrode(range(4, 8))},
    ...     charges={},
    ...     potentials={"left": [0.0, 0.0], "right": [1.0, 2.0]},
    ... )
    >>> batch = torch_sim.io.atoms_to_state([plates] * 2, torch.device("cpu"), torch.float64)
    >>> model(batch)["electrode_charge"].numpy().round(4).tolist()
    [[-0.0138, 0.0138], [-0.0276, 0.0276]]
    """

    def __init__(
        self,
        structure: Atoms,
        electrodes: Mapping[str, Electrode],
        charges: Charges,
        *,
        potentials: Mapping[str, Sequence[float]],
        boundary: Boundary = "slab",
        fields: Sequence[float] | None = None,
        widths: Mapping[str, float] | None = None,
        relative_permittivity: float = 1.0,
        cutoff: float = 9.0,
        accuracy: float = 1e-6,
        solver: Literal["matrix", "conjugate gradients"] = "matrix",
        tolerance: float = 1e-8,
        spacing: float | None = None,
        skin: float = 1.0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self._device, self._dtype = torch.device(device), dtype
        self._compute_forces, self._compute_stress = True, False
        widths = widths or {}
        check(
            structure,
            electrodes,
            charges,
            potentials=potentials,
            boundary=boundary,
            fields=fields,
            widths=widths,
            relative_permittivity=relative_permittivity,
            cutoff=cutoff,
            accuracy=accuracy,
            solver=solver,
        )
        self.electrodes, self.boundary, self.solver = dict(electrodes), boundary, solver
        self.cutoff, self.accuracy, self.tolerance = float(cutoff), float(accuracy), tolerance
        self.screening = ewald.screening_of(cutoff, accuracy)
        # inside, charges are smaller and potentials larger by the root of the permittivity
        self.relative_permittivity = float(relative_permittivity)
        self.root = math.sqrt(self.relative_permittivity)
        symbols = structure.get_chemical_symbols()
        self.symbols = tuple(symbols)
        self.number = len(symbols)
        index = np.concatenate([electrode.atoms for electrode in electrodes.values()])
        free = np.setdiff1d(np.arange(self.number), index)
        self.held, self.free = self._tensor(index), self._tensor(free)
        self.member = self._tensor(
            np.concatenate(
                [np.full(len(one.atoms), n) for n, one in enumerate(electrodes.values())]
            )
        )
        width = np.array([widths.get(symbol, 0.0) for symbol in symbols])
        stiffness = np.zeros(self.number)
        for electrode in electrodes.values():
            width[list(electrode.atoms)] = electrode.width
            if electrode.thomas_fermi_length:
                square = electrode.thomas_fermi_length**2 * electrode.atomic_density
                stiffness[list(electrode.atoms)] = 4 * math.pi * COULOMB * square
        stiffness *= self.relative_permittivity
        self.width = self._tensor(width)
        self.own = ewald.own_energy(self.width, self.screening)
        self.diagonal = 2 * self.own[self.held] + self._tensor(stiffness)[self.held]
        if callable(charges):
            self.charge_of = charges
        else:
            values = (
                [charges.get(symbol, 0.0) for symbol in symbols]
                if isinstance(charges, Mapping)
                else list(charges)
            )
            fixed = self._tensor(np.asarray(values, float))
            self.charge_of = lambda position: fixed.expand(len(position), -1)
        self.potential = self._tensor(
            np.column_stack([np.asarray(potentials[name], float) for name in electrodes])
        )
        self._place(structure, skin, spacing, fields)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        dtype = torch.int64 if values.dtype.kind == "i" else self._dtype
        return torch.as_tensor(values, dtype=dtype, device=self._device)

    def _place(
        self,
        structure: Atoms,
        skin: float,
        spacing: float | None,
        fields: Sequence[float] | None,
    ) -> None:
        """Set up all that depends on the cell and on where the electrodes are."""
        cell = self._tensor(structure.cell.array)[None]
        position = self._tensor(structure.positions)[None]
        self.cell, self.stand = cell, position[:, self.held]
        height = float(cell[0, 2, 2])
        self.reach = height if self.boundary == "slab" else None
        settings = {"screening": self.screening, "accuracy": self.accuracy}
        waves = None
        if spacing is None or self.solver == "matrix":
            waves = ewald.waves(cell, **settings, reach=self.reach)
        self.waves: ewald.Waves | Mesh
        if spacing is None:
            assert waves is not None
            self.waves = waves
        else:
            self.waves = mesh(cell, **settings, spacing=spacing, reach=self.reach)
        self.box = cell.clone()
        if self.reach is not None:
            self.box[0, 2, 2] = height + self.cutoff + skin + 1.0
        still = torch.zeros(self.number, dtype=torch.bool, device=self._device)
        still[self.held] = True
        self.pairs = Pairs(self.cutoff, skin=skin, width=self.width, still=still)
        self.places: Any = self.waves.places(self.stand, layered=True)  # as the waves want them
        # the field of each system, and the potential that the charges have to answer to
        self.field = torch.zeros(len(self.potential), dtype=self._dtype, device=self._device)
        if self.boundary == "finite field":
            middle = [float(self.stand[0, self.member == n, 2].mean()) for n in (0, 1)]
            upper = int(middle[1] > middle[0])
            step = self.potential[:, upper] - self.potential[:, 1 - upper]
            self.field = -self.root * step / height
        volume = float(torch.linalg.det(cell[0]))
        # energy of that field itself, without which the two routes to a voltage differ by it
        self.empty = -self.field.square() * volume / (8 * math.pi * COULOMB)
        if fields is not None:
            self.field = self.root * self._tensor(np.asarray(fields, float))
        self.wanted = self.root * self.potential[:, self.member]
        self.wanted = self.wanted + self.field[:, None] * self.stand[..., 2]
        alike = Pairs(self.cutoff, skin=0.0, width=self.width[self.held])
        found = alike.of(self.stand, self.box)
        one, other, distance = found.one, found.other, found.distance(self.stand)
        near = ewald.kernel(distance, self.screening) - found.softening(distance)
        self._near = torch.sparse_coo_tensor(
            torch.stack([torch.cat([one, other]), torch.cat([other, one])]),
            torch.cat([near, near]),
            (len(self.held), len(self.held)),
            check_invariants=True,
        ).coalesce()
        self._last: torch.Tensor | None = None
        self._begun = False
        if waves is not None and self.solver == "matrix":
            self._factorise(waves)

    def _factorise(self, waves: ewald.Waves) -> None:
        """Invert the matrix under the constraint that the charges add up to what they must.

        It is that of plane waves also where the ions' potential is read from a mesh: as it does
        not change, charges and forces still belong to one functional.
        """
        size = len(self.held)
        bordered = torch.zeros(size + 1, size + 1, dtype=self._dtype, device=self._device)
        matrix = waves.matrix(waves.places(self.stand, layered=True)) + self._near.to_dense()
        bordered[:size, :size] = matrix + torch.diag(self.diagonal)
        bordered[size, :size] = bordered[:size, size] = 1.0
        self.response = torch.linalg.inv(bordered)

    def applied(self, charge: torch.Tensor) -> torch.Tensor:
        """Return A q without A: the potential (V) that charges (e) of electrodes make at them."""
        smooth = self.waves.read(self.waves.spread(charge, self.places), self.places)
        return smooth + (self._near @ charge.T).T + self.diagonal * charge

    def solve(self, wanted: torch.Tensor, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return charges (e) that make potentials (V) but for a constant, and that constant (V).

        Parameters
        ----------
        wanted : torch.Tensor
            Potentials, (system, electrode atom).
        total : torch.Tensor
            What the charges add up to (e), (system,).
        """
        if self.solver == "matrix":
            found = torch.cat([wanted, total[:, None]], dim=1) @ self.response
            return found[:, :-1], found[:, -1]
        size = wanted.shape[1]
        charge = self._last
        if charge is None or charge.shape != wanted.shape:
            charge = torch.zeros_like(wanted)
        charge = charge + ((total - charge.sum(1)) / size)[:, None]
        residual = _even(wanted - self.applied(charge))
        step = _even(residual / self.diagonal)
        search, square = step, (residual * step).sum(1)
        for _ in range(10 * size):
            if float(residual.abs().max()) < self.tolerance:
                break
            product = _even(self.applied(search))
            length = square / (search * product).sum(1).clamp_min(1e-300)
            charge = charge + length[:, None] * search
            residual = residual - length[:, None] * product
            step = _even(residual / self.diagonal)
            again = (residual * step).sum(1)
            search = step + (again / square.clamp_min(1e-300))[:, None] * search
            square = again
        else:
            raise RuntimeError(
                f"Constant potential: conjugate gradients still miss the potentials by "
                f"{float(residual.abs().max()):.1e} V after {10 * size} steps; raise tolerance or "
                "use solver='matrix'."
            )
        self._last = charge
        return charge, (wanted - self.applied(charge)).mean(1)

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return the grand potential, forces and charges of a batch.

        ``energy`` (eV, per system), ``forces`` (eV Å-1, per atom; none on electrode atoms, which
        are held), ``charges`` (e, per atom) and ``electrode_charge`` (e, (system, electrode)).
        """
        position = self._checked(state)
        systems = len(position)
        moving = position[:, self.free].requires_grad_(True)
        everything = position.index_copy(1, self.free, moving)
        charge = self.charge_of(everything)[:, self.free] / self.root
        energy, at_electrodes = self.electrolyte(everything, moving, charge)
        total = -charge.sum(1)
        wanted = self.wanted - at_electrodes.detach()
        held, constant = self.solve(wanted, total.detach())
        made = wanted - constant[:, None]  # A q, at the solution
        omega = energy + (held * (at_electrodes + 0.5 * made - self.wanted)).sum(1) + self.empty
        # a total that moves with the atoms works against the constant
        omega = omega - constant * (total - total.detach())
        forces = torch.zeros_like(position)
        if len(self.free):
            (slope,) = torch.autograd.grad(omega.sum(), moving)
            forces[:, self.free] = -slope
        charges = torch.zeros(systems, self.number, dtype=self._dtype, device=self._device)
        charges[:, self.free], charges[:, self.held] = charge.detach(), held
        charges *= self.root
        return {
            "energy": omega.detach(),
            "forces": forces.reshape(-1, 3),
            "charges": charges.reshape(-1),
            "electrode_charge": self.root * self.sums(held),
        }

    def electrolyte(
        self, everything: torch.Tensor, moving: torch.Tensor, charge: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return U0 (eV), (system,), and b (V), (system, electrode atom), with their graphs."""
        systems, size = len(everything), len(self.held)
        places: Any = self.waves.places(moving)
        spread = self.waves.spread(charge, places)
        energy = self.waves.energy(spread) + (self.own[self.free] * charge.square()).sum(1)
        energy = energy - self.field * (charge * moving[..., 2]).sum(1)
        potential = self.waves.read(spread, self.places)
        near = self.pairs.of(everything, self.box.expand(systems, -1, -1))
        distance = near.distance(everything)
        if not self._begun:
            self._refuse_overlap(near, distance.detach())
        interaction = ewald.kernel(distance, self.screening)
        if near.wide < len(distance):
            wide = interaction[near.wide :] - near.softening(distance)
            interaction = torch.cat([interaction[: near.wide], wide])
        interaction = torch.where(distance < self.cutoff, interaction, 0.0)
        loads = charge.new_zeros(systems, self.number).index_copy(1, self.free, charge).reshape(-1)
        mixed = near.mixed
        loaded = loads.index_select(0, near.one) * interaction
        among = loads.index_select(0, near.other[:mixed]) * loaded[:mixed]
        energy = energy.index_add(0, near.system[:mixed], among)
        onto = torch.zeros_like(loads).index_add(0, near.other[mixed:], loaded[mixed:])
        potential = potential + onto.reshape(systems, -1).index_select(1, self.held)
        return energy, potential.reshape(systems, size)

    def _refuse_overlap(self, near: Near, distance: torch.Tensor) -> None:
        """Raise ValueError if the first state that comes has an ion within an electrode."""
        apart = distance[near.mixed :]
        if len(apart) and float(apart.min()) < TOO_CLOSE:
            pair = near.mixed + int(apart.argmin())
            system, ion = divmod(int(near.one[pair]), self.number)
            raise ValueError(
                f"Constant potential: atom {ion} ({self.symbols[ion]}) of system {system} lies "
                f"{float(apart.min()):.2f} Å from the electrode atom "
                f"{int(near.other[pair]) % self.number}; electrolyte and electrode overlap."
            )
        self._begun = True

    def sums(self, charge: torch.Tensor) -> torch.Tensor:
        """Return the charge (e) of each electrode, (system, electrode)."""
        out = charge.new_zeros(len(charge), len(self.electrodes))
        return out.index_add(1, self.member, charge)

    def empty_capacitance(self) -> torch.Tensor:
        r"""Return :math:`\partial Q_a / \partial V_b` (e V-1) of the cell without electrolyte.

        (electrode, electrode). The fluctuations of the electrolyte add theirs to it. In a finite
        field the field goes with the potentials.
        """
        names = list(self.electrodes)
        unit = torch.eye(len(names), dtype=self._dtype, device=self._device)
        wanted = unit[:, self.member]
        if self.boundary == "finite field":
            middle = [float(self.stand[0, self.member == n, 2].mean()) for n in (0, 1)]
            upper = int(middle[1] > middle[0])
            field = -(unit[:, upper] - unit[:, 1 - upper]) / self.cell[0, 2, 2]
            wanted = wanted + field[:, None] * self.stand[..., 2]
        last, self._last = self._last, None
        found = self.sums(self.solve(wanted, torch.zeros_like(wanted[:, 0]))[0])
        self._last = last
        return self.relative_permittivity * found.T

    def _checked(self, state: SimState) -> torch.Tensor:
        """Return positions (system, atom, 3) of a state that is what the model was made for."""
        systems = len(self.potential)
        if state.n_systems != systems or len(state.positions) != systems * self.number:
            raise ValueError(
                f"Constant potential: a batch of {state.n_systems} systems with "
                f"{len(state.positions)} atoms was given, but potentials of {systems} systems of "
                f"{self.number} atoms; give one system for each potential."
            )
        position = state.positions.detach().to(self._dtype).reshape(systems, self.number, 3)
        moved = float((position[:, self.held] - self.stand).abs().max())
        if not moved < MOVED:
            raise ValueError(
                f"Constant potential: electrode atoms are {moved:.2g} Å from where the model was "
                "set up; hold them fixed (ase.constraints.FixAtoms), or make a model for the new "
                "structure."
            )
        cell = state.row_vector_cell.detach().to(self._dtype)
        if not torch.allclose(cell, self.cell.expand_as(cell), rtol=0.0, atol=MOVED):
            raise ValueError(
                "Constant potential: the cell is not the one that the model was set up with; run "
                "at constant volume."
            )
        if self.reach is not None and len(self.free):
            z = position[..., 2]
            if float((z.amax(1) - z.amin(1)).max()) > self.reach:
                raise ValueError(
                    f"Constant potential: atoms are further apart along z than the cell is high, "
                    f"{self.reach:.4g} Å; an ion has left, or the cell is too low."
                )
        return position


def _even(values: torch.Tensor) -> torch.Tensor:
    """Take the mean off each row: what a sum of charges that is fixed cannot answer to."""
    return values - values.mean(1, keepdim=True)
