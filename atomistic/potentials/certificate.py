"""The physics certificate: what any potential must obey, whatever it was trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from ase import Atoms

from atomistic.potentials.examiner import PROPERTIES, Examiner
from atomistic.potentials.load import Potential
from atomistic.units import NEUTRAL


@dataclass(frozen=True)
class Finding:
    """One property, as measured.

    Parameters
    ----------
    name : str
        What was looked at.
    measured : float
        Size of the violation, in `unit`; nan where the potential does not give the quantity.
    limit : float
        Largest violation that passes, in `unit`.
    unit : str
        Unit of both.
    meaning : str
        What goes wrong in a simulation if the property does not hold.
    """

    name: str
    measured: float
    limit: float
    unit: str
    meaning: str

    @property
    def applies(self) -> bool:
        """Whether the potential gives the quantity at all."""
        return not np.isnan(self.measured)

    @property
    def passed(self) -> bool:
        """Whether the violation is within its limit, or there is nothing to judge."""
        return not self.applies or self.measured <= self.limit


@dataclass(frozen=True)
class Certificate:
    """All findings on one potential.

    Parameters
    ----------
    potential : str
        Its name.
    sha256 : str
        Hash of its weights; empty if there is none.
    precision : str
        "float32" or "float64", which the limits depend on.
    formula : str
        Structure it was looked at in.
    findings : tuple of Finding
        One a property.
    """

    potential: str
    sha256: str
    precision: str
    formula: str
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """Findings beyond their limit."""
        return tuple(finding for finding in self.findings if not finding.passed)

    @property
    def sound(self) -> bool:
        """Whether every property holds."""
        return not self.faults

    @property
    def outcome(self) -> str:
        """One sentence, naming every fault."""
        if self.sound:
            judged = sum(finding.applies for finding in self.findings)
            return (
                f"The potential {self.potential} holds {judged} of {judged} properties of the "
                f"certificate in {self.formula}."
            )
        faults = "; ".join(
            f"{fault.name} {fault.measured:.2g} {fault.unit} (limit {fault.limit:.2g}): "
            f"{fault.meaning}"
            for fault in self.faults
        )
        return f"The potential {self.potential} fails the certificate in {self.formula}: {faults}."

    def to_json(self) -> str:
        """Write the certificate as one line of JSON, for a Dataset's provenance."""
        content = asdict(self)
        for finding in content["findings"]:
            if np.isnan(finding["measured"]):
                finding["measured"] = None
        return json.dumps({"sound": self.sound, **content})


def certify(
    potential: Potential,
    structure: Atoms,
    *,
    temperature: float = 600.0,
    timestep: float = 0.5,
    steps: int = 400,
    charges: Mapping[str, float] | None = None,
    only: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Certificate:
    r"""Look whether a potential obeys what every potential must.

    Of the energy :math:`E`, forces :math:`F` and stress :math:`\sigma` in a rattled copy of the
    structure: invariance of :math:`E` and equivariance of :math:`F` under translation, rotation,
    inversion and exchange of like atoms; twice the energy in twice the cell;
    :math:`F = -\nabla E` and :math:`\sigma = V^{-1}\,\partial E/\partial\varepsilon` by central
    differences of fourth order; the asymmetry of the forces' Jacobian :math:`J`,

    .. math:: \lambda = \lVert J - J^\mathsf{T} \rVert_F / \lVert J + J^\mathsf{T} \rVert_F,

    which is zero exactly for forces that are a gradient; the largest jump of a force along a path
    through the structure and along the dimers, located by bisection; the drift of the energy in
    the microcanonical ensemble. Of every pair of elements in the structure, as a dimer: the
    deepest hole behind a barrier that a hot collision can pass. Of the compressed structure: the
    largest fall of the energy from one degree of compression to the next. Where charges are given:
    the largest change of the energy, that of the field with it, while uniform fields of 0.1, 0.3
    and 1 V/Å drive the ions into each other.

    Parameters
    ----------
    potential : Potential
        What is judged.
    structure : Atoms
        Periodic structure with the elements that matter (positions and cell in Å); at least two
        atoms.
    temperature : float
        Of the microcanonical run (K).
    timestep : float
        Of the microcanonical run (fs).
    steps : int
        Of the microcanonical run, and of that in fields; the cost of one is that of one
        evaluation.
    charges : mapping of str to float, optional
        Charge (e) of each element, by which fields act; no fields if not given.
    only : sequence of str, optional
        Names of `PROPERTIES` to look at; all of them if not given.
    seed : int
        Seed of the random displacements, directions and velocities.
    progress : callable, optional
        Called with (properties done, properties in all, what is looked at).

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        If the structure is not periodic, has fewer than two atoms or holds an element that the
        potential does not know, a name in `only` is unknown, or charges are not those of a neutral
        structure.

    Notes
    -----
    The limits depend on the precision that the potential computes in. A potential that passes is
    not thereby accurate: that is what errors against labels say.

    References
    ----------
    Bigi, Langer and Ceriotti, "The dark side of the forces", https://arxiv.org/abs/2412.11569
    Fu et al., "Forces are not enough", https://arxiv.org/abs/2210.07237
    """
    faults = []
    if len(structure) < 2:
        faults.append(f"it has {len(structure)} atom(s)")
    if not structure.pbc.all():
        faults.append("it is not periodic in all directions")
    if faults:
        raise ValueError(
            f"The structure {structure.get_chemical_formula()!r} cannot carry a certificate: "
            f"{' and '.join(faults)}; give a periodic structure of at least two atoms."
        )
    unknown = sorted(set(only or ()) - set(PROPERTIES))
    if unknown:
        raise ValueError(
            f"certify does not know the properties {', '.join(unknown)}; choose from "
            f"{', '.join(PROPERTIES)}."
        )
    potential.check_elements([structure])
    lacking = sorted(set(structure.get_chemical_symbols()) - set(charges or structure.symbols))
    total = sum((charges or {}).get(symbol, 0.0) for symbol in structure.symbols)
    if lacking or abs(total) > NEUTRAL * len(structure):
        raise ValueError(
            f"certify: the charges {dict(charges or {})} leave {structure.get_chemical_formula()} "
            + (f"without one of {', '.join(lacking)}" if lacking else f"with {total:+.3g} e")
            + "; give one of each element such that the structure is neutral, or none."
        )
    examiner = Examiner(
        potential.model,
        structure,
        np.random.default_rng(seed),
        temperature=temperature,
        timestep=timestep,
        steps=steps,
        charges=charges,
    )
    chosen = [name for name in PROPERTIES if only is None or name in only]
    findings = []
    for count, name in enumerate(chosen):
        if progress is not None:
            progress(count, len(chosen), f"{potential.name}: {name.replace('_', ' ')}")
        _, _, unit, meaning = PROPERTIES[name]
        measured = float(examiner.measure(name))
        findings.append(Finding(name, measured, examiner.limit(name), unit, meaning))
    if progress is not None:
        progress(len(chosen), len(chosen), f"{potential.name}: done")
    return Certificate(
        potential.name,
        potential.sha256,
        examiner.precision,
        structure.get_chemical_formula(),
        tuple(findings),
    )
