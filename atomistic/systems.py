"""Structures to simulate: ASE ``Atoms`` in and out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

FACE_CENTRED = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
PHOSPHORUS_SULFUR_BOND = 2.05  # Å
LITHIUM_CAGE_RADIUS = 0.23  # in lattice parameters: 24g sites around 4c
TRIES = 1000


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


def cluster(
    molecules: Sequence[str],
    rng: np.random.Generator,
    *,
    distances: tuple[float, float] = (2.7, 4.0),
    rattle: float = 0.05,
    closest: float = 1.8,
) -> Atoms:
    """Put molecules around the first of them, each rattled and turned, so that none touch.

    Parameters
    ----------
    molecules : sequence of str
        Names that ``ase.build.molecule`` knows, such as ``"H2O"``.
    rng : numpy.random.Generator
        Where chance comes from.
    distances : tuple of float
        Nearest and farthest distance (Å) of a centre from that of the first molecule.
    rattle : float
        Standard deviation (Å) of what each coordinate is moved by within a molecule.
    closest : float
        Least distance (Å) of atoms of different molecules.

    Returns
    -------
    ase.Atoms
        Not periodic, in the order of `molecules`.

    Raises
    ------
    ValueError
        If there is no molecule, distances are not positive and rising, or a thousand draws found
        no place for all.
    """
    near, far = distances
    if not molecules or not 0 < near <= far:
        raise ValueError(
            f"cluster: {len(molecules)} molecule(s) at {near} to {far} Å were asked for; give at "
            "least one, and distances that are positive and rise."
        )
    for _ in range(TRIES):
        whole, tag = Atoms(), []
        for count, name in enumerate(molecules):
            one = molecule(name)
            one.rattle(rattle, rng=rng)
            one.positions -= one.positions.mean(0)
            one.positions = one.positions @ Rotation.random(rng=rng).as_matrix().T
            way = rng.normal(size=3)
            one.positions += (count > 0) * way / np.linalg.norm(way) * rng.uniform(near, far)
            whole += one
            tag += [count] * len(one)
        apart = np.not_equal.outer(tag, tag)
        if whole.get_all_distances()[apart].min(initial=np.inf) > closest:
            return whole
    raise ValueError(
        f"cluster: in {TRIES} draws, {len(molecules)} molecules {near} to {far} Å from the first "
        f"were never {closest} Å apart; give them more room."
    )
