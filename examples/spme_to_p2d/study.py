"""From SPMe to P2D: the voltage of a drive cycle and of fast discharges, with a band.

The single-particle model with electrolyte takes one particle for each electrode and is cheap; the
porous-electrode model (P2D, DFN) resolves where the reaction runs. A small network adds to SPMe's
voltage what is lacking, inside PyBaMM, cut-offs and all. An ensemble says afterwards how far to
trust it, and abstains where it was never trained: at 2.5C this cell uses up its electrolyte, and no
correction of a voltage helps there. `ModalSPMe` does: it lets the reaction be uneven, has learnt
nothing, and costs about twice as much as SPMe.

    python study.py            # 15 s on one core; writes spme_to_p2d.png

Reference: https://doi.org/10.1149/2.0341915jes (Marquis et al. 2019, SPMe).
"""

from pathlib import Path

import numpy as np
import xarray as xr

from continuum.cell import pybamm
from continuum.cell_modes import ModalSPMe
from couplers.residual import profiles
from couplers.residual.after import correct
from couplers.residual.model import CorrectedSPMe
from couplers.residual.p2d import P2D, follow
from couplers.residual.parameters import read_cell

SET = "Chen2020"
PEAK = 2.0  # C-rate of the drive cycle's peak
RATES = (0.75, 1.5)  # C-rates that no training profile has
TOO_FAST = 2.5


def run(c_rate: np.ndarray, time: np.ndarray, state_of_charge: float) -> xr.Dataset:
    """Solve corrected and modal SPMe in PyBaMM and P2D in batch along one current (C-rates)."""
    values = pybamm.ParameterValues(SET)
    values.set_initial_state(state_of_charge)
    cell = read_cell(pybamm.ParameterValues(SET))
    current = cell.capacity * c_rate
    values["Current function [A]"] = (
        pybamm.Interpolant(time, current, pybamm.t) if np.ptp(current) else float(current[0])
    )
    solution, modal = (
        pybamm.Simulation(model, parameter_values=values).solve([0, time[-1]], t_interp=time)
        for model in (CorrectedSPMe(SET), ModalSPMe())
    )
    found = correct(solution, values, SET)
    full = follow(P2D(cell, np.array([state_of_charge])), current[None], time)
    found["in_solver"] = ("time", solution["Voltage [V]"].entries, {"units": "V"})
    for name, at, volts in (
        ("p2d_voltage", time, full["voltage"].values[0]),
        ("modal_voltage", modal.t, modal["Voltage [V]"].entries),
    ):
        there = np.interp(found["time"], at, volts, right=np.nan)
        found[name] = ("time", there, {"units": "V"})
    return found


def cycle(seconds: int = 600) -> xr.Dataset:
    """A drive cycle at high speed, or its beginning."""
    return run(PEAK * profiles.us06_like()[: seconds + 1], np.arange(seconds + 1.0), 0.7)


def discharge(rate: float) -> xr.Dataset:
    """A discharge from full at constant current."""
    time = profiles.slow_times(3600 / rate, step=20.0)
    return run(np.full_like(time, rate), time, 1.0)


def errors(found: xr.Dataset) -> dict[str, float]:
    """RMS errors against P2D (mV) of each voltage, the corrected ones where not abstained."""
    kept = found.where(~found["abstained"])
    kept["modal_voltage"] = found["modal_voltage"]
    kept["p2d_voltage"] = found["p2d_voltage"]
    return {
        name: 1e3 * float(np.sqrt(((kept[key] - kept["p2d_voltage"]) ** 2).mean()))
        for name, key in (
            ("SPMe", "spme_voltage"),
            ("in the solver", "in_solver"),
            ("ensemble", "voltage"),
            ("modal", "modal_voltage"),
        )
    }


def draw(driven: xr.Dataset, discharges: dict[float, xr.Dataset], path: Path) -> None:
    """Plot voltages above and errors with the band below."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        2, 2, figsize=(9, 5), sharex="col", layout="constrained", height_ratios=(3, 2)
    )
    for column, cases in enumerate(([("cycle", driven)], list(discharges.items()))):
        for label, found in cases:
            time = found["time"] / 60
            above, below = panels[:, column]
            name = label if isinstance(label, str) else f"{label:g}C"
            (line,) = above.plot(time, found["p2d_voltage"], label=f"P2D, {name}")
            above.plot(time, found["spme_voltage"], ":", color=line.get_color())
            gap = 1e3 * (found["p2d_voltage"] - found["spme_voltage"])
            said = 1e3 * found["correction"]
            below.plot(time, gap, ":", color=line.get_color())
            below.plot(time, said, color=line.get_color())
            modal = 1e3 * (found["modal_voltage"] - found["spme_voltage"])
            below.plot(time, modal, "--", color="black", linewidth=0.7)
            half = 1e3 * found["band"]
            below.fill_between(
                time, said - half, said + half, color=line.get_color(), alpha=0.2, linewidth=0
            )
            gone = found["abstained"].values
            below.plot(time[gone], said[gone], "x", color="black", markersize=4)
        panels[0, column].legend(frameon=False)
        panels[1, column].set_xlabel("time (min)")
    panels[0, 0].set_ylabel("voltage (V)")
    panels[1, 0].set_ylabel("beyond SPMe (mV)")
    figure.suptitle(
        "dots: SPMe and what P2D has beyond it; lines: corrected, 90 % band; dashes: modal"
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    driven = cycle()
    discharges = {rate: discharge(rate) for rate in RATES}
    for label, found in {"cycle": driven, **discharges}.items():
        said = ", ".join(f"{name} {value:.2f} mV" for name, value in errors(found).items())
        print(f"{label}: {said}; {found.attrs['outcome']}")
    beyond = discharge(TOO_FAST)
    modal = f"modal {errors(beyond)['modal']:.2f} mV while P2D has salt"
    print(f"{TOO_FAST:g}C: {modal}; {beyond.attrs['outcome']}")
    path = Path(__file__).with_name("spme_to_p2d.png")
    draw(driven, discharges, path)
    print(f"figure: {path.name}")
