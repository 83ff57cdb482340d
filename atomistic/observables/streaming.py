"""What a run does with its observers: show them frames, save them, take them up again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch_sim.integrators.md import MDState
from torch_sim.models.interface import ModelInterface
from torch_sim.units import MetalUnits

from atomistic.observables import correlators, currents, layers
from atomistic.observables.checkpoints import plain
from atomistic.observables.correlators import Displacements
from atomistic.observables.currents import Currents
from atomistic.observables.layers import Layers

Observer = Displacements | Currents | Layers


def check(observers: Sequence[Observer], symbols: Sequence[str], systems: int) -> None:
    """Raise ValueError if an observer was started for other atoms or another number of systems."""
    faults = []
    for index, observer in enumerate(observers):
        held = len(_by_system(observer))
        if observer.symbols != tuple(symbols):
            faults.append(f"observer {index} was started for other atoms, or in another order")
        if held != systems:
            faults.append(f"observer {index} was started for {held} systems, the run has {systems}")
    if faults:
        raise ValueError("observers: " + "; ".join(faults) + ".")


def _by_system(observer: Observer) -> torch.Tensor:
    """Return something of an observer that has one entry for each system."""
    if isinstance(observer, Displacements):
        return observer.position
    return observer.volume if isinstance(observer, Currents) else observer.filling


def watch(observer: Observer, state: MDState, given: Mapping[str, torch.Tensor]) -> None:
    """Show a frame of the dynamics to an observer.

    Parameters
    ----------
    observer : Displacements, Currents or Layers
        It is changed in place.
    state : torch_sim MDState
        Positions (Å), momenta and cells.
    given : mapping of str to torch.Tensor
        What the model gave for this frame; currents ask for its ``stress`` (eV Å-3), (system, 3,
        3), and layers for its ``charges`` (e), (atom,), and ``electrode_charge`` (e).

    Raises
    ------
    ValueError
        If the model does not give what an observer asks for.
    """
    cell = state.row_vector_cell
    systems = len(cell)
    if isinstance(observer, Displacements):
        correlators.push(observer, state.positions.reshape(systems, -1, 3), cell)
        return
    if isinstance(observer, Layers):
        if "electrode_charge" not in given:
            raise ValueError("observers: layers need charges, which this potential does not give.")
        charge = given["charges"].reshape(systems, -1)
        position = state.positions.reshape(systems, -1, 3)
        layers.push(observer, position, charge, given["electrode_charge"])
        return
    stress = given.get("stress")
    if stress is None:
        raise ValueError("observers: currents need a stress, which this potential does not give.")
    velocity = (state.momenta / state.masses[:, None]).reshape(systems, -1, 3)
    momentum = state.momenta.reshape(systems, -1, 3)
    volume = torch.linalg.det(cell).abs()
    kinetic = momentum.transpose(1, 2) @ velocity / volume[:, None, None]
    currents.push(observer, velocity * float(MetalUnits.time), stress - kinetic, volume)


def checkpoint(observers: Sequence[Observer]) -> list[dict[str, object]]:
    """Return all observers as values that ``torch.save`` can write."""
    return [{"kind": type(one).__name__.lower(), **plain(one)} for one in observers]


def take_up(observers: Sequence[Observer], saved: Sequence[Mapping[str, object]]) -> None:
    """Put what `checkpoint` saved back into observers, in place, on the devices that they are on.

    Raises
    ------
    ValueError
        If the observers are not of the kinds that were saved.
    """
    given = [type(one).__name__.lower() for one in observers]
    if given != [one["kind"] for one in saved]:
        raise ValueError(
            f"observers: the checkpoint holds {[one['kind'] for one in saved]}, but the run was "
            f"given {given}; give the same observers in the same order."
        )
    revive = {"displacements": correlators.restart, "currents": currents.restart}
    for observer, kind, values in zip(observers, given, saved, strict=True):
        rest = {name: value for name, value in values.items() if name != "kind"}
        again = revive.get(kind, layers.restart)(rest, device=_by_system(observer).device)
        vars(observer).update(vars(again))


def fingerprint(batch: Sequence[Atoms], *numbers: object) -> str:
    """Return a hash of what a run starts from, by which a checkpoint knows its own."""
    found = hashlib.sha256(repr(numbers).encode())
    for atoms in batch:
        for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.get_momenta()):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@dataclass
class Watched:
    """The observers of a run, its frames, and the file that both are saved to.

    Parameters
    ----------
    observers : sequence of Displacements, Currents or Layers
        What watches.
    stride : int
        Steps between the frames that they see.
    file : Path or None
        Where to save; None for nowhere.
    every : int
        Steps between saves.
    frame_stride : int
        Steps between the frames kept.
    position : numpy.ndarray
        Frames kept so far, (system, frame, atom, 3), changed in place.
    run : str
        What `fingerprint` gave for this run.
    """

    observers: Sequence[Observer]
    stride: int
    file: Path | None
    every: int
    frame_stride: int
    position: np.ndarray
    run: str

    def begin(self, state: MDState, model: ModelInterface) -> int:
        """Take up a saved run, if there is one, and return the steps that are done.

        Raises
        ------
        ValueError
            If the file is of another run or of other observers.
        """
        self._given: dict[str, torch.Tensor] = {}

        def keep(_: object, given: object, out: dict[str, torch.Tensor]) -> None:
            self._given = out

        self._hook = model.register_forward_hook(keep)
        if self.file is None or not self.file.exists():
            return 0
        saved = torch.load(self.file, weights_only=False)
        if saved["run"] != self.run:
            raise ValueError(
                f"The checkpoint {self.file} is of a run with other structures, lengths, seed or "
                "potential; name another file, or remove it to start again."
            )
        take_up(self.observers, saved["observers"])
        for name, value in saved["state"].items():
            setattr(state, name, value.to(state.device))
        state.rng.set_state(saved["rng"])
        self.position[:, : saved["position"].shape[1]] = saved["position"]
        return int(saved["done"])

    def after(self, state: MDState, done: int, since: int) -> None:
        """Show the frame to the observers and save, each if its turn has come."""
        if since > 0 and since % self.stride == 0:
            for observer in self.observers:
                watch(observer, state, self._given)
        if self.file is not None and done % self.every == 0:
            names = ("positions", "momenta", "forces", "energy", "cell")
            whole = {
                "run": self.run,
                "done": done,
                "state": {name: getattr(state, name).cpu() for name in names},
                "rng": state.rng.get_state(),
                "observers": checkpoint(self.observers),
                "position": self.position[:, : max(0, since) // self.frame_stride],
            }
            partial = self.file.with_name(self.file.name + ".part")
            torch.save(whole, partial)
            partial.replace(self.file)  # a run that dies while it writes keeps the last one

    def end(self) -> None:
        """Let go of the model."""
        self._hook.remove()
