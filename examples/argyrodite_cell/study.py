"""From atoms to a discharge curve, stage by stage.

The solid electrolyte Li6PS5Cl, whose only mobile ion is lithium, is taken through five stages.
Each is one call whose result can be looked at, kept, or replaced by data of your own:

    structure, potential -> simulate -> trajectory
    trajectory           -> measure  -> diffusivity, conductivity, Arrhenius lines
    conductivity         -> couple   -> an Electrolyte, and draws of it
    Electrolyte          -> conduct  -> potential drop over a slab
    Electrolyte          -> discharge -> voltage of a cell

`multiscale run case.toml` does the same, keeps every stage on disk and writes a report.

    python study.py            # the case as it stands, some minutes
    python study.py --short    # a run of seconds; the intervals are as wide as that deserves
"""

from __future__ import annotations

import sys
from pathlib import Path

import xarray as xr

from multiscale import stages
from multiscale.case import Case, read, vary

HERE = Path(__file__).parent

# One potential, hot and short: enough to see every stage work, far too little for a number at
# room temperature, which the intervals say by themselves.
SHORT = {
    "potential.committee": "argyrodite-pbe",
    "dynamics.temperatures_K": (1000, 1100, 1200),
    "dynamics.replicas": 1,
    "dynamics.anneal_ps": 0.5,
    "dynamics.cell_ps": 0.5,
    "dynamics.equilibration_ps": 0.25,
    "dynamics.production_ps": 5.0,
    "dynamics.lattice_ps": 3.0,
    "dynamics.workers": 1,
    "cell.draws": 4,
    "cell.c_rates": (0.2,),
}


def study(case: Case) -> xr.DataTree:
    """Run the stages of `case` one after another and hand all results over in one tree."""
    # The trajectory holds unwrapped positions (condition, replica, frame, atom, xyz) in metres;
    # conditions are the temperatures, replicas those of every potential of the committee.
    simulated = stages.simulate(case)

    # Self-diffusivity from a generalised-least-squares fit of the mean squared displacement, with
    # a verdict for each temperature; an Arrhenius line through the temperatures that passed.
    measured = stages.measure(case, simulated)

    # With one mobile ion the transference number is 1 and the conductivity is the whole
    # hand-over. The first electrolyte is the median, the others are draws of its posterior.
    electrolytes = stages.couple(case, measured)

    # The slab is much thicker than its space charge, so Nernst-Planck with Poisson's equation
    # must give Ohm's law; the cell is Doyle, Fuller and Newman's, one curve for each draw.
    slab = stages.conduct(case, electrolytes)
    cell = stages.discharge(case, electrolytes)

    return xr.DataTree.from_dict(
        {
            "/lattice": simulated["lattice"].to_dataset(),
            "/transport": measured["transport"].to_dataset(),
            "/conductivity": measured[f"arrhenius/{case.transport.hand_over}"].to_dataset(),
            "/slab": slab,
            "/cell": cell,
        }
    )


def main(short: bool) -> None:
    """Run the study and print what it comes to."""
    case = read(HERE / "case.toml")
    results = study(vary(case, SHORT) if short else case)
    lattice, transport = results["lattice"], results["transport"].sel(species="Li")
    line, slab, cell = results["conductivity"], results["slab"], results["cell"]
    print(f"lattice parameter {float(lattice['lattice_parameter'][-1]) * 1e10:.3f} Å at 300 K")
    for T, D, error, verdict in zip(
        transport["temperature"].values,
        transport["self_diffusivity"].values,
        transport["self_diffusivity_std"].values,
        transport["verdict"].values,
        strict=True,
    ):
        print(f"D(Li) at {T:g} K: {D:.2e} ± {error:.1e} m2/s ({verdict})")
    name = case.transport.hand_over
    low, middle, high = (float(line[name + end]) for end in ("_lower_95", "", "_upper_95"))
    print(f"conductivity at 300 K: {middle:.2g} S/m, 95 % between {low:.2g} and {high:.2g}")
    print(f"  {line.attrs['verdict']}")
    print(
        f"slab: {float(slab['potential_drop']) * 1e3:.4g} mV, Ohm's law to "
        f"{abs(float(slab['relative_difference'])):.0e}"
    )
    for rate, capacity in zip(
        cell["c_rate"].values, cell["discharged_capacity"].values, strict=True
    ):
        spread = f"{capacity[1:].min():.2f} to {capacity[1:].max():.2f}"
        print(f"cell at {rate:g}C: {capacity[0]:.2f} A h, draws from {spread}")


if __name__ == "__main__":
    main("--short" in sys.argv)
