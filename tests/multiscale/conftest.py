"""A study whose truth is known: lithium that hops as a Brownian walker of given Arrhenius law."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from multiscale import stages, store
from multiscale.case import read, vary
from tests.atomistic.synthetic import brownian, trajectory

CASE = Path(__file__).parents[2] / "examples" / "argyrodite_cell" / "case.toml"
TEMPERATURES = (700.0, 800.0, 900.0, 1000.0)
BARRIER = 0.25  # eV
DIFFUSIVITY = 0.5  # Å2/ps at 1000 K
LENGTH = 10.0  # Å
MEMBERS = ("argyrodite-pbe", "argyrodite-r2scan")
BOLTZMANN = 8.617333262e-5  # eV/K


def true_diffusivity(T):
    """Å2/ps."""
    return DIFFUSIVITY * np.exp(-BARRIER / BOLTZMANN * (1 / T - 1 / 1000.0))


@pytest.fixture(scope="session")
def case():
    return vary(read(CASE), {"cell.draws": 8, "cell.c_rates": (0.2, 1.0)})


@pytest.fixture(scope="session")
def simulated():
    rng = np.random.default_rng(3)
    symbols = ["Li"] * 24 + ["P"] * 4 + ["S"] * 20 + ["Cl"] * 4
    positions = []
    for T in TEMPERATURES:
        framework = 0.1 * rng.standard_normal((2, 1200, 28, 3))
        walkers = brownian(rng, (2, 1200, 24), diffusivity=true_diffusivity(T))
        positions.append(np.concatenate([walkers, framework], axis=2) + 5.0)
    dataset = trajectory(
        positions,
        symbols=symbols,
        temperatures=TEMPERATURES,
        length=LENGTH,
        potentials=MEMBERS,
    )
    lattice = xr.Dataset(
        {
            "temperature": ("condition", [*TEMPERATURES, 300.0], {"units": "K"}),
            "lattice_parameter": ("condition", np.full(5, 9.9e-10), {"units": "m"}),
            "lattice_parameter_draw": (
                ("condition", "draw"),
                rng.normal(9.87e-10, 0.02e-10, (5, 200)),
                {"units": "m"},
            ),
        }
    )
    return xr.DataTree.from_dict({"/trajectory": dataset, "/lattice": lattice})


@pytest.fixture(scope="session")
def measured(case, simulated):
    return stages.measure(case, simulated)


@pytest.fixture(scope="session")
def electrolytes(case, measured):
    return stages.couple(case, measured)


@pytest.fixture(scope="session")
def slab(case, electrolytes):
    return stages.conduct(case, electrolytes)


@pytest.fixture(scope="session")
def cell(case, electrolytes):
    curves = stages.discharge(case, electrolytes)
    half = case.cell.draws // 2
    names = ["median", *[MEMBERS[0]] * half, *[MEMBERS[1]] * half]
    return curves.assign_coords(member=("draw", names))


@pytest.fixture(scope="session")
def result(case, simulated, measured, slab, cell):
    """The tree that `run` writes, without having run the dynamics."""
    provenance = {
        "stage": "simulate",
        "wall_time_s": 1.0,
        "fingerprint": "0" * 64,
        "versions": {"numpy": np.__version__},
        "commit": "unknown",
    }
    return stages.assembled(
        case,
        {"/lattice": simulated["lattice"].to_dataset(), "/continuum/slab": slab, "/cell": cell}
        | {group.path: group.to_dataset() for group in measured.subtree if group.has_data},
        potentials={
            MEMBERS[0]: {"sha256": "1" * 64, "teacher": "t", "relative_force_error": 0.083},
            MEMBERS[1]: {"sha256": ""},
        },
        provenances={"simulate": json.loads(store.encode(provenance))},
    )
