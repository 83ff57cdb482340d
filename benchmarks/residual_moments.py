"""Where SPMe's salt runs out and P2D's does not: a reaction of one to three moments beside both.

    python -m benchmarks.residual_moments            # or some sets by name

writes ``residual_moments.json`` beside this script. Discharges from full, in batch, on one mesh;
errors of the voltage against P2D's, in mV, over the points that both have, and the times (s) at
which each ends: at its cut-off, or out of salt. CPU in µs a cell-step, of 256 cells at once, best
of two, one thread.

Two moments keep the salt physical and end with P2D; but what a step costs is reading potentials and
moving salt at all places, not the tridiagonal system that the moments replace. So they stay here,
and in batch P2D itself is the model to take beyond SPMe. Inside PyBaMM `continuum.cell_modes` is:
its particles have moments too, and a solver of one cell pays for states.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.polynomial import Legendre

from continuum.cell import pybamm
from couplers.residual.p2d import P2D, POINTS, STRETCH, follow
from couplers.residual.parameters import read_cell
from couplers.residual.profiles import slow_times
from couplers.residual.spme import SPMe

ORDER = 2
SETS = ("Chen2020", "OKane2022", "Ai2020", "Marquis2019", "NCA_Kim2011")
RATES = (1.0, 2.0, 2.25, 2.5, 3.0)
CELLS, STEPS, REPEATS = 256, 20, 2


class Moments(P2D):
    r"""State of a batch of cells; `advance` takes it over one step of time.

    SPMe takes the reaction to be even over each electrode. Near the end of the electrolyte it is
    not, and SPMe's salt runs out where that of P2D does not: no correction of a voltage helps.
    Here the ionic current on the faces is

    .. math:: e_k = I s_k + \sum_{m=1}^{M} a_m \Phi_{mk}, \qquad
        \Phi_{mk} = \sum_{i \le k} A_i P_m(x_i)

    with :math:`A_i` the particles' area in a mesh cell, :math:`s_k` the share of it up to a face,
    and Legendre's polynomials :math:`P_m`, less their mean. The moments :math:`a_m` are not learnt:
    they are what Galerkin's method asks of Ohm's law, whose lack :math:`r_k` on each face `P2D`
    brings to 0,

    .. math:: \sum_k \Phi_{mk} r_k = 0

    two or three equations for an electrode. The voltage is the mean over the places of each
    electrode. With as many moments as inner faces it is P2D; without any, SPMe but for what SPMe
    makes linear.

    Parameters
    ----------
    cell, state_of_charge, electrolyte, points, stretch
        As `couplers.residual.p2d.P2D` takes them.
    order : int
        Number of moments (1) for each electrode.

    Raises
    ------
    ValueError
        If there are fewer than one moment, or more than inner faces.
    """

    def __init__(
        self,
        cell,
        state_of_charge,
        *,
        electrolyte=None,
        points=POINTS,
        stretch=STRETCH,
        order=ORDER,
    ):
        if not 1 <= order < points[0]:
            raise ValueError(
                f"order is {order}, expected 1 to {points[0] - 1}: the inner faces of an electrode "
                f"of {points[0]} mesh cells."
            )
        super().__init__(
            cell, state_of_charge, electrolyte=electrolyte, points=points, stretch=stretch
        )
        area, width = self.area[..., 0], self.local[..., 0]
        place = ((width.cumsum(0) - 0.5 * width) / width.sum(0)).numpy()
        modes = []
        for m in range(1, order + 1):
            shape = torch.as_tensor(Legendre.basis(m, domain=[0, 1])(place))
            even = shape - (shape * area).sum(0) / area.sum(0)
            modes.append((even * area).cumsum(0)[:-1])
        self.modes = torch.stack(modes)  # (moment, face, electrode)
        self.sizes = self.modes.abs().sum(1)[..., None]
        self.share = self.area / self.area.sum(0)

    def _change(self, diagonal, off, right):
        modes = self.modes[..., None]
        acted = diagonal * modes
        acted[:, 1:] += off * modes[:, :-1]
        acted[:, :-1] += off * modes[:, 1:]
        matrix = torch.einsum("mke,lkec->ecml", self.modes, acted)
        lacking = torch.einsum("mke,kec->ecm", self.modes, right)
        moments = torch.linalg.solve(matrix, lacking)
        return torch.einsum("mke,ecm->kec", self.modes, moments)

    def _missed(self, right):
        left = torch.einsum("mke,kec->mec", self.modes, right).abs() / self.sizes
        # from the place at the collector to the mean over all places
        apart = (self.share[1:] * right.cumsum(0)).sum(0)
        return left.amax((0, 1)), apart[1] - apart[0]


MODELS = {
    "SPMe": SPMe,
    "1 moment": lambda *given: Moments(*given, order=1),
    "2 moments": lambda *given: Moments(*given, order=2),
    "3 moments": lambda *given: Moments(*given, order=3),
    "P2D": P2D,
}


def discharges(cell):
    """Errors and ends of every model at every rate."""
    seconds = slow_times(3600.0)
    currents = cell.capacity * np.array(RATES)[:, None] * np.ones_like(seconds)
    found = {
        name: follow(m(cell, np.ones(len(RATES))), currents, seconds) for name, m in MODELS.items()
    }
    truth, rows = found["P2D"], {}
    for k, rate in enumerate(RATES):
        rows[f"{rate}C"] = row = {}
        for name, one in found.items():
            last = min(int(one["end"][k]), len(seconds) - 1)
            row[name] = {"end_s": float(seconds[last]), "out_of_salt": bool(one["depleted"][k])}
            if name != "P2D":
                error = 1e3 * (one["voltage"] - truth["voltage"]).values[k, 3:]
                row[name]["rms_mV"] = round(float(np.sqrt(np.nanmean(error**2))), 3)
                row[name]["max_mV"] = round(float(np.nanmax(np.abs(error))), 2)
    return rows


def costs(cell):
    """CPU (µs) of a cell-step of each model."""
    current = torch.full((CELLS,), cell.capacity, dtype=torch.float64)
    found = {}
    for name, model in MODELS.items():
        solver, least = model(cell, np.full(CELLS, 0.8)), np.inf
        with torch.no_grad():
            for _ in range(REPEATS):
                started = time.process_time()
                for _ in range(STEPS):
                    solver.advance(current, 1.0)
                least = min(least, time.process_time() - started)
        found[name] = round(1e6 * least / CELLS / STEPS, 1)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    path = Path(__file__).with_suffix(".json")
    result = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or SETS:
        cell = read_cell(pybamm.ParameterValues(name))
        result[name] = {**discharges(cell), "us_per_cell_step": costs(cell)}
        result["versions"] = {"pybamm": pybamm.__version__, "torch": torch.__version__}
        path.write_text(json.dumps(result, indent=1) + "\n")
