"""Structures to simulate: ASE ``Atoms`` in and out."""

from __future__ import annotations

import numpy as np
from ase import Atoms

FACE_CENTRED = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
PHOSPHORUS_SULFUR_BOND = 2.05  # Å
LITHIUM_CAGE_RADIUS = 0.23  # in lattice parameters: 24g sites around 4c


def argyrodite(
    *,
    repeat: tuple[int, int, int] = (1, 1, 1),
    lattice_parameter: float = 9.87,
    disorder: float = 0.5,
    seed: int = 0,
) -> Atoms:
    """Build the argyrodite Li6PS5Cl (space group F-43m) with a chosen anion disorder.

    Chloride sits on 4a and free sulfide on 4c; `disorder` is the fraction of 4c sites that hold
    chloride instead (and of 4a sites that hold sulfide), drawn at random. Lithium starts on the
    24g sites, six around each 4c site, and phosphorus on 4b inside its sulfur tetrahedron (16e).

    Parameters
    ----------
    repeat : tuple of int
        Number of cubic 52-atom cells along each lattice vector.
    lattice_parameter : float
        Cubic lattice parameter (Å).
    disorder : float
        Site-exchange fraction (1), from 0 (ordered) to 1 (all chloride on 4c).
    seed : int
        Seed of the draw of exchanged sites.

    Returns
    -------
    ase.Atoms
        ``52 * prod(repeat)`` atoms, periodic, sorted by element, so that arrangements of equal
        `disorder` differ in positions only.

    Raises
    ------
    ValueError
        If `disorder` is outside 0 to 1 or `lattice_parameter` is not positive.

    References
    ----------
    Kraft et al., J. Am. Chem. Soc. 139, 10909 (2017), https://doi.org/10.1021/jacs.7b06327

    Examples
    --------
    >>> str(argyrodite(disorder=0.5).symbols.formula.reduce()[0])
    'Li6PS5Cl'
    """
    if not 0 <= disorder <= 1:
        raise ValueError(f"disorder is {disorder}, but must lie between 0 (ordered) and 1.")
    if lattice_parameter <= 0:
        raise ValueError(f"lattice_parameter is {lattice_parameter} Å, but must be positive.")
    bond = PHOSPHORUS_SULFUR_BOND / lattice_parameter / np.sqrt(3)
    cage = LITHIUM_CAGE_RADIUS * np.vstack([np.eye(3), -np.eye(3)])
    sites = {
        "4a": FACE_CENTRED,
        "4c": FACE_CENTRED + 0.25,
        "4b": FACE_CENTRED + 0.5,
        "16e": (FACE_CENTRED[:, None] + 0.5 + bond * TETRAHEDRON).reshape(-1, 3),
        "24g": (FACE_CENTRED[:, None] + 0.25 + cage).reshape(-1, 3),
    }
    occupant = {"4a": "Cl", "4c": "S", "4b": "P", "16e": "S", "24g": "Li"}
    label = np.concatenate([[name] * len(points) for name, points in sites.items()])
    unit = Atoms(
        [occupant[name] for name in label],
        scaled_positions=np.vstack(list(sites.values())) % 1.0,
        cell=[lattice_parameter] * 3,
        pbc=True,
    )
    atoms = unit.repeat(repeat)
    label = np.tile(label, int(np.prod(repeat)))
    rng = np.random.default_rng(seed)
    on_4a, on_4c = np.flatnonzero(label == "4a"), np.flatnonzero(label == "4c")
    exchanged = round(disorder * len(on_4a))
    symbols = np.array(atoms.get_chemical_symbols())
    symbols[rng.choice(on_4a, exchanged, replace=False)] = "S"
    symbols[rng.choice(on_4c, exchanged, replace=False)] = "Cl"
    atoms.set_chemical_symbols(list(symbols))
    return atoms[np.argsort(atoms.numbers, kind="stable")]
