"""What both solvers of ions between walls refuse: their walls, their length and their mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from continuum.inputs import Solution, Wall
from continuum.meshes import Domain, height


def faults(
    solution: Solution,
    walls: Mapping[str, Wall],
    length: float | None,
    domain: Domain | None,
    *,
    layer: Callable[[str], float],
) -> list[str]:
    """Sentences about what cannot be solved, whatever moves or rests between the walls.

    Parameters
    ----------
    solution : Solution
        The ions.
    walls : Mapping
        `Wall` by boundary name.
    length : float, optional
        Length (m) of the line, or of one unit of `domain`.
    domain : Domain, optional
        The mesh; a line with ends ``left`` and ``right`` if not given.
    layer : callable
        Height (m) that no cell at the wall of a given name may exceed; inf where any may stand.
    """
    found = []
    if not walls:
        found.append("there is no wall")
    fine = length is not None and bool(np.isfinite(length)) and length > 0
    if length is not None and not fine:
        found.append(f"length (m) is {length}, but must be positive and finite")
    known = {"left", "right"} if domain is None else set(domain.boundaries)
    for name in walls:
        if name not in known:
            found.append(f"wall {name!r} is not one of the boundaries {sorted(known)}")
        elif domain is not None and length is not None and fine:
            tall = height(domain, domain.boundaries[name]) * length
            if tall > (most := layer(name)):
                found.append(
                    f"the cells at {name!r} are {tall:.3g} m high, too coarse for the layer "
                    f"there, which wants {most:.3g} m or less (Debye length "
                    f"{solution.debye_length:.3g} m); grade the mesh towards the wall"
                )
    return found
