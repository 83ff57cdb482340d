"""Labelled frames on disk: each kept once, with word of where it and its labels come from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

SAME = 1e-4  # Å; frames nearer than this are one


class LabelStore:
    """An extxyz file of labelled frames without duplicates.

    Any code that reads extxyz reads it. A frame's ``info`` says its ``key``, which is the same
    for the same structure however its atoms are ordered or wrapped, and its provenance.

    Parameters
    ----------
    path : str or Path
        The file; it need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def frames(self) -> list[Atoms]:
        """Read all frames."""
        return read_frames(self.path) if self.path.is_file() else []

    def add(self, frames: Sequence[Atoms], *, provenance: Mapping[str, str | float]) -> int:
        """Add frames that are not there yet; return how many that were.

        Parameters
        ----------
        frames : sequence of Atoms
            Labelled structures.
        provenance : mapping of str to str or float
            Who labelled them, on what occasion: flat words and numbers.

        Raises
        ------
        ValueError
            If a frame carries no labels.
        """
        if bare := sum(frame.calc is None for frame in frames):
            raise ValueError(
                f"{bare} of {len(frames)} frames carry no labels; label them before they are kept."
            )
        kept = self.frames()
        known = {frame.info["key"] for frame in kept}
        new = []
        for frame in frames:
            key = fingerprint(frame)
            if key in known:
                continue
            known.add(key)
            copy = frame.copy()
            copy.calc = frame.calc
            # extxyz cannot hold an empty word
            said = {name: "none" if value == "" else value for name, value in provenance.items()}
            copy.info.update(said, key=key)
            new.append(copy)
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_suffix(".part")
            write(part, [*kept, *new], format="extxyz")
            part.replace(self.path)
        return len(new)


def read_frames(path: str | Path) -> list[Atoms]:
    """Read all frames of an extxyz file."""
    found = read(path, ":", format="extxyz")
    return found if isinstance(found, list) else [found]


def fingerprint(frame: Atoms) -> str:
    """Hash of a structure that neither the order of like atoms nor wrapping changes.

    Parameters
    ----------
    frame : Atoms
        Any structure (Å).
    """
    cell = frame.cell.array
    # steps that a rounded fractional coordinate is counted in
    steps = np.maximum(np.round(np.linalg.norm(cell, axis=1) / SAME), 1).astype(int)
    place = np.round(frame.get_scaled_positions(wrap=False) * steps).astype(int) % steps
    rows = np.column_stack([frame.numbers, place])
    rows = rows[np.lexsort(rows.T[::-1])]
    digest = hashlib.sha256(rows.tobytes())
    digest.update(np.round(cell / SAME).astype(int).tobytes())
    return digest.hexdigest()
