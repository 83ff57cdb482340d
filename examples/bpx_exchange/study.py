"""A cell with its electrolyte to another group and back: BPX, and what BPX cannot hold.

BPX is the exchange format of cell models, and PyBaMM reads it. It has no thermodynamic factor, no
transference number that varies, no double layer. Landesfeind and Gasteiger's electrolyte has the
first two, and atomistic simulation gives the third. They travel in a sidecar beside the file, with
the electrolyte's Laws and their draws; the reasons are printed.

    python study.py            # 6 s on one core

writes results/bpx_exchange/cell.json and its sidecar, and reads them.

References: https://doi.org/10.1149/2.0571912jes (Landesfeind, Gasteiger 2019),
https://doi.org/10.1149/1945-7111/ab9050 (Chen et al. 2020), https://bpxstandard.com.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from continuum.cell import discharge, impedance, pybamm
from continuum.inputs import Electrolyte
from couplers.battery import parameter_values
from couplers.bpx import electrolytes_of_bpx, from_bpx, to_bpx
from couplers.liquid import landesfeind_ec_emc

LAYER = "Negative electrode double-layer capacity [F.m-2]"
CAPACITY = 0.11  # F m-2, of graphite in this electrolyte, an example
SURFACE = {"surface form": "differential"}
MESH = {"x_n": 15, "x_s": 8, "x_p": 15}


def draws(count: int = 5) -> list[Electrolyte]:
    """Draw electrolytes whose conductivity is known to 5 %."""
    one = landesfeind_ec_emc()
    first, *others = one.conductivity.coefficients
    return [
        replace(one, conductivity=replace(one.conductivity, coefficients=(factor * first, *others)))
        for factor in 1 + 0.05 * np.random.default_rng(0).standard_normal(count)
    ]


def cell() -> pybamm.ParameterValues:
    """Make Chen2020 with the whole electrolyte and a computed double layer."""
    return parameter_values(landesfeind_ec_emc(), overrides={LAYER: CAPACITY}, options=SURFACE)


def exchange(folder: Path) -> dict[str, str]:
    """Write the cell; return why each parameter in the sidecar is not in the BPX file."""
    return to_bpx(
        cell(),
        folder / "cell.json",
        title="LG M50 with LiPF6 in EC:EMC 3:7",
        references="10.1149/1945-7111/ab9050, 10.1149/2.0571912jes",
        electrolyte=landesfeind_ec_emc(),
        draws=draws(),
    )


def differences(folder: Path, rate: float = 1.0) -> tuple[float, float]:
    """Largest change of the voltage (mV) of a discharge and relative change of the impedance."""
    back = from_bpx(folder / "cell.json")
    one, other = (
        discharge(values, c_rates=[rate], mesh_points=MESH, relative_tolerance=1e-7)["voltage"]
        for values in (cell(), back)
    )
    before, after = (
        impedance(values, frequencies=[1.0, 1e3], mesh_points=MESH)["reactance"]
        for values in (cell(), back)
    )
    return 1e3 * float(abs(one - other).max()), float(abs(after / before - 1).max())


if __name__ == "__main__":
    folder = Path("results") / "bpx_exchange"
    folder.mkdir(parents=True, exist_ok=True)
    lost = exchange(folder)
    for key in ("Thermodynamic factor", "Cation transference number", LAYER):
        print(f"not in BPX: {key} ({lost[key]})")
    print(
        f"in the sidecar: {len(lost)} parameters, {len(electrolytes_of_bpx(folder / 'cell.json'))}"
        " electrolytes"
    )
    volts, ohms = differences(folder)
    print(f"there and back: {volts:.2g} mV on a 1C discharge, {ohms:.1g} of the impedance")
