"""The stages of a study, each one call on Datasets, and the chain of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from multiscale import store
from multiscale.case import Case
from multiscale.executors import Progress, quiet_imports, spread
from multiscale.sampling import simulate

if TYPE_CHECKING:
    from atomistic.potentials.certificate import Certificate
    from continuum.inputs import Electrolyte

LAGS = 60

__all__ = ["assembled", "certify", "conduct", "couple", "discharge", "measure", "run", "simulate"]


def certify(case: Case, *, progress: Progress | None = None) -> xr.DataTree:
    """Look whether each potential of the committee obeys physics in the study's own structure.

    Parameters
    ----------
    case : Case
        Sections structure and potential are read.
    progress : callable, optional
        Called with (done, total, text).

    Returns
    -------
    xarray.DataTree
        ``/certificate`` with ``violation`` and ``limit`` (each in the property's own
        ``unit``; nan where the potential does not give the quantity), ``sound`` and ``outcome`` of
        every member. A potential that fails is named there; the study goes on.
    """
    from atomistic.potentials.load import choose_device

    members = case.committee()
    on_cpu = choose_device(case.potential.device).type == "cpu"
    certificates = spread(
        _certificate,
        [(case, name) for name in members],
        workers=case.dynamics.workers if on_cpu else 1,
        progress=progress,
    )
    findings = [certificate.findings for certificate in certificates]
    each = ("member", "property")
    dataset = xr.Dataset(
        {
            "violation": (each, [[finding.measured for finding in row] for row in findings]),
            "limit": (each, [[finding.limit for finding in row] for row in findings]),
            "sound": ("member", [certificate.sound for certificate in certificates]),
            "outcome": ("member", [certificate.outcome for certificate in certificates]),
        },
        coords={
            "member": members,
            "property": [finding.name for finding in findings[0]],
            "unit": ("property", [finding.unit for finding in findings[0]]),
        },
    )
    return xr.DataTree.from_dict({"/certificate": dataset})


def measure(case: Case, simulated: xr.DataTree, *, progress: Progress | None = None) -> xr.DataTree:
    """Turn trajectories into transport coefficients, their temperature dependence and structure.

    Parameters
    ----------
    case : Case
        Section transport is read.
    simulated : xarray.DataTree
        What `simulate` returned.
    progress : callable, optional
        Called with (done, total, text).

    Returns
    -------
    xarray.DataTree
        ``/transport``, a TRANSPORT; ``/arrhenius/<quantity>``, its Arrhenius lines and values at
        ``extrapolate_to_K``; ``/structure``, radial distributions; ``/displacement``, mean squared
        displacements (m2).
    """
    from atomistic.observables.arrhenius import arrhenius
    from atomistic.observables.structure import radial_distribution
    from atomistic.observables.transport import transport

    section = case.transport
    trajectory = simulated["trajectory"].to_dataset()
    tell = partial(_tell, progress, 4)
    tell(0, "transport coefficients")
    coefficients = transport(
        trajectory,
        charges=section.charges,
        mobile=section.mobile,
        draws=section.draws,
        seed=section.seed,
    )
    tell(1, "Arrhenius lines")
    lines = {
        f"/arrhenius/{quantity}": arrhenius(
            coefficients,
            temperature=section.extrapolate_to_K,
            quantity=quantity,
            species=section.mobile if quantity == "self_diffusivity" else None,
            seed=section.seed,
        )
        for quantity in ("conductivity", "nernst_einstein_conductivity", "self_diffusivity")
    }
    tell(2, "radial distributions")
    species = list(dict.fromkeys(trajectory["symbol"].values.astype(str).tolist()))
    pairs = list(combinations_with_replacement(species, 2))
    structure = radial_distribution(trajectory, pairs=pairs, bins=90, frames=200)
    tell(3, "mean squared displacements")
    displacement = _displacement(trajectory, species)
    tell(4, "measured")
    return xr.DataTree.from_dict(
        {
            "/transport": coefficients,
            **lines,
            "/structure": structure,
            "/displacement": displacement,
        }
    )


def couple(case: Case, measured: xr.DataTree) -> list[Electrolyte]:
    """Make the electrolyte of the continuum scale from the measured coefficients.

    Parameters
    ----------
    case : Case
        Sections transport and cell are read.
    measured : xarray.DataTree
        What `measure` returned.

    Returns
    -------
    list of Electrolyte
        The median first, then one for each draw.
    """
    from couplers.electrolyte import single_ion_electrolyte

    transport = measured["transport"].to_dataset()
    arrhenius = measured[f"arrhenius/{case.transport.hand_over}"].to_dataset()
    return [
        single_ion_electrolyte(
            transport,
            arrhenius,
            cation=case.transport.mobile,
            temperature=case.transport.extrapolate_to_K,
            draw=draw,
            name=case.study.electrolyte,
        )
        for draw in (None, *_chosen(case, arrhenius).tolist())
    ]


def conduct(
    case: Case, electrolytes: Sequence[Electrolyte], *, progress: Progress | None = None
) -> xr.Dataset:
    """Pass a current through a slab of each electrolyte.

    Parameters
    ----------
    case : Case
        Section slab is read.
    electrolytes : sequence of Electrolyte
        What `couple` returned: the median first, then the draws.
    progress : callable, optional
        Called with (done, total, text).

    Returns
    -------
    xarray.Dataset
        The FIELD of the median, with ``potential_drop_draw`` (V) of the draws, nan for one so
        resistive that there is no steady state at this current.

    Raises
    ------
    SolverError
        If the median has no steady state at this current.
    """
    from continuum.conduction import conduct as conduct_slab

    fields: list[xr.Dataset] = []
    for electrolyte in electrolytes:
        _tell(progress, len(electrolytes), len(fields), "slab under current")
        fields.append(
            conduct_slab(
                electrolyte,
                thickness=case.slab.thickness_m,
                current_density=case.slab.current_density_A_m2,
                relative_permittivity=case.slab.relative_permittivity,
                throw=not fields,
            )
        )
    _tell(progress, len(electrolytes), len(fields), "slab under current")
    field, draws = fields[0], fields[1:]
    drops = np.array(
        [float(draw["potential_drop"]) if draw.attrs["converged"] else np.nan for draw in draws]
    )
    field["potential_drop_draw"] = ("draw", drops, {"units": "V"})
    field["potential_drop_std"] = ((), drops.std(ddof=1), {"units": "V"})
    return field


def discharge(
    case: Case, electrolytes: Sequence[Electrolyte], *, progress: Progress | None = None
) -> xr.Dataset:
    """Discharge the cell at every rate, once for each draw of its electrolyte.

    Parameters
    ----------
    case : Case
        Section cell is read.
    electrolytes : sequence of Electrolyte
        What `couple` returned: the median first, then the draws.
    progress : callable, optional
        Called with (done, total, text).

    Returns
    -------
    xarray.Dataset
        A DISCHARGE; draw 0 is the median electrolyte.
    """
    from continuum.cell import discharge as discharge_cell
    from couplers.battery import assumptions, concentration_window, inputs, parameter_values

    laws = ("conductivity", "diffusivity")
    values = parameter_values(electrolytes[0], base=case.cell.base, as_inputs=laws)
    curves = discharge_cell(
        values,
        c_rates=case.cell.c_rates,
        inputs=[inputs(electrolyte, laws) for electrolyte in electrolytes],
        concentration_window=concentration_window(electrolytes[0]),
        progress=None
        if progress is None
        else lambda done, total: progress(done, total, "discharge of the cell"),
    )
    curves.attrs.update(assumptions(electrolytes[0], base=case.cell.base))
    return curves


def run(
    case: Case,
    *,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> xr.DataTree:
    """Run the study, reusing every stage that nothing has changed for, and write its result.

    Parameters
    ----------
    case : Case
        The study.
    progress : callable, optional
        Called with (stage, done, total, text).

    Returns
    -------
    xarray.DataTree
        Groups certificate, lattice, transport, arrhenius, structure, displacement, continuum/slab
        and cell; it is also written as ``result.nc`` in the output folder.
    """
    from atomistic.potentials.load import load

    folder = case.output_folder
    table = case.model_dump(mode="json")
    potentials = {
        name: {"sha256": load(name, device=case.potential.device).sha256, **_card(name)}
        for name in case.committee()
    }
    source = None
    if case.structure.file is not None:
        source = store.file_digest(case.folder / case.structure.file)
    provenances: dict[str, Any] = {}

    def stage(
        name: str,
        work: Callable[..., xr.DataTree],
        inputs: dict[str, Any],
        modules: Sequence[str],
        packages: Sequence[str],
    ) -> tuple[xr.DataTree, str]:
        tell = None if progress is None else partial(progress, name)
        tree, fingerprint, reused = store.reuse_or_run(
            name,
            lambda: work(progress=tell),
            folder=folder,
            inputs=inputs,
            modules=modules,
            packages=packages,
        )
        if tell is not None:
            tell(1, 1, "reused: nothing it depends on has changed" if reused else "done")
        provenances[name] = store.provenance(tree)
        return tree, fingerprint

    certified, _ = stage(
        "certify",
        partial(certify, case),
        {
            "structure": table["structure"],
            "structure_file": source,
            "potential": table["potential"],
            "potential_sha256": {name: about["sha256"] for name, about in potentials.items()},
            "charges": table["transport"]["charges"],
        },
        ["atomistic.systems", "atomistic.potentials", "multiscale.stages"],
        ["torch", "torch-sim-atomistic", "ase", "calorine", "neppo", "sevenn"],
    )
    certificate = certified["certificate"].to_dataset()
    for name, about in potentials.items():
        one = certificate.sel(member=name)
        about["sound"], about["certificate"] = bool(one["sound"]), str(one["outcome"].values)
    # workers only say where the tasks run
    dynamics = {key: value for key, value in table["dynamics"].items() if key != "workers"}
    simulated, fingerprint = stage(
        "simulate",
        partial(simulate, case),
        {
            "structure": table["structure"],
            "structure_file": source,
            "potential": table["potential"],
            "potential_sha256": {name: about["sha256"] for name, about in potentials.items()},
            "dynamics": dynamics,
            # by which a potential's reach is judged
            "ions": {key: table["transport"][key] for key in ("mobile", "charges")},
        },
        ["atomistic.dynamics", "atomistic.systems", "atomistic.potentials", "multiscale.sampling"],
        ["torch", "torch-sim-atomistic", "ase", "calorine", "neppo", "sevenn"],
    )
    measured, fingerprint = stage(
        "measure",
        partial(measure, case, simulated),
        {"simulated": fingerprint, "transport": table["transport"]},
        ["atomistic.observables", "multiscale.stages"],
        ["numpy", "scipy", "xarray"],
    )
    electrolytes = couple(case, measured)
    coupled = {
        "measured": fingerprint,
        "draws": case.cell.draws,
        "hand_over": case.transport.hand_over,
    }

    def slab(progress: Progress | None) -> xr.DataTree:
        field = conduct(case, electrolytes, progress=progress)
        return xr.DataTree.from_dict({"/continuum/slab": field})

    def cell(progress: Progress | None) -> xr.DataTree:
        curves = discharge(case, electrolytes, progress=progress)
        line = measured[f"arrhenius/{case.transport.hand_over}"].to_dataset()
        members = line["member"].values[_chosen(case, line)].astype(str)
        curves = curves.assign_coords(member=("draw", ["median", *members.tolist()]))
        return xr.DataTree.from_dict({"/cell": curves})

    conducted, _ = stage(
        "conduct",
        slab,
        {**coupled, "slab": table["slab"]},
        ["couplers", "continuum", "multiscale.stages"],
        ["dolfinx-solver-real", "fenics-dolfinx", "numpy"],
    )
    discharged, _ = stage(
        "discharge",
        cell,
        {**coupled, "cell": table["cell"]},
        ["couplers", "continuum", "multiscale.stages"],
        ["pybamm", "pybammsolvers", "numpy"],
    )
    groups = {
        group.path: group.to_dataset()
        for tree in (certified, measured, conducted, discharged)
        for group in tree.subtree
        if group.has_data
    }
    groups["/lattice"] = simulated["lattice"].to_dataset()
    result = assembled(case, groups, potentials=potentials, provenances=provenances)
    store.write(result, folder / store.RESULT)
    return result


def assembled(
    case: Case,
    groups: Mapping[str, xr.Dataset],
    *,
    potentials: Mapping[str, Mapping[str, Any]],
    provenances: Mapping[str, Any],
) -> xr.DataTree:
    """Put the groups of a result into one tree, with title and provenance.

    Parameters
    ----------
    case : Case
        The study.
    groups : mapping of str to Dataset
        By path in the tree.
    potentials : mapping
        What is known of each potential: ``sha256`` of its file and what stands on its card.
    provenances : mapping
        Provenance of each stage.
    """
    table = case.model_dump(mode="json")
    tree = xr.DataTree.from_dict(dict(groups))
    tree.attrs["title"] = case.study.title
    tree.attrs["provenance"] = store.encode(
        {
            "case": table,
            "case_sha256": store.digest(table),
            "potentials": dict(potentials),
            "stages": dict(provenances),
        }
    )
    return tree


def _certificate(case: Case, name: str, progress: Progress) -> Certificate:
    with quiet_imports():
        from atomistic.potentials.certificate import certify as look
        from atomistic.potentials.load import load

    (structure,) = case.structures(1)
    return look(
        load(name, device=case.potential.device),
        structure,
        charges=case.transport.charges,
        progress=progress,
    )


def _card(name: str) -> dict[str, Any]:
    """Read who taught a potential and how far it is from its teacher, if it has a card."""
    from atomistic.potentials.load import SHIPPED

    shipped = SHIPPED / name
    path = (shipped if shipped.is_dir() else Path(name).parent) / "card.json"
    if not path.is_file():
        return {}
    card = json.loads(path.read_text())
    errors = card.get("on_policy_errors", {})
    return {
        "teacher": card.get("teacher"),
        "licence": card.get("licence"),
        "relative_force_error": errors.get("relative_force"),
        "energy_error_eV": errors.get("energy"),
    }


def _chosen(case: Case, arrhenius: xr.Dataset) -> np.ndarray:
    """Draws of the posterior that go on; even spacing takes as many of each potential."""
    return np.linspace(0, arrhenius.sizes["draw"] - 1, case.cell.draws).round().astype(int)


def _tell(progress: Progress | None, total: int, done: int, text: str) -> None:
    if progress is not None:
        progress(done, total, text)


def _displacement(trajectory: xr.Dataset, species: Sequence[str]) -> xr.Dataset:
    """Mean squared displacement (m2) of each species over atoms, replicas and origins."""
    from atomistic.observables.self_diffusion import mean_squared_displacement

    frames = trajectory.sizes["frame"]
    lags = np.unique(np.geomspace(1, frames // 2, LAGS).astype(int))
    symbols = trajectory["symbol"].values.astype(str)
    shape = (trajectory.sizes["condition"], len(species), len(lags))
    mean, error = np.empty(shape), np.empty(shape)
    for condition in range(shape[0]):
        position = trajectory["position"].isel(condition=condition).values.astype(float)
        squared = mean_squared_displacement(position, lags)
        for index, name in enumerate(species):
            replicas = squared[:, symbols == name].mean(1)
            mean[condition, index] = replicas.mean(0)
            count = len(replicas)
            error[condition, index] = (
                replicas.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.nan
            )
    dims = ("condition", "species", "lag")
    time = trajectory["time"].values
    return xr.Dataset(
        {
            "mean_squared_displacement": (dims, mean, {"units": "m2"}),
            "mean_squared_displacement_std": (dims, error, {"units": "m2"}),
            "temperature": trajectory["temperature"],
        },
        coords={"species": list(species), "lag": ("lag", time[lags] - time[0], {"units": "s"})},
    )
