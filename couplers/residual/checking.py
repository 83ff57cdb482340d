r"""A correction checked by the modal SPMe: how much of the modal run's doubt its band needs.

The modal voltage :math:`V_\mathrm{m}` is much closer to P2D's :math:`V` than the corrected one
:math:`V_\mathrm{c}` is, so that their distance is nearly the error,

.. math:: |V_\mathrm{c} - V| \le |V_\mathrm{c} - V_\mathrm{m}| + \alpha\, \delta

with the doubt :math:`\delta` of `couplers.residual.modal.voltages` and a share :math:`\alpha` of it
that is conformal per profile, one for currents that change and one for steady ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from couplers.residual import modal
from couplers.residual.corrector import conformal
from couplers.residual.features import KINDS, kind
from couplers.residual.layers import ELECTROLYTE
from couplers.residual.parameters import Cell

ENOUGH = 20  # profiles of a kind that have a share of their own


def shares(cell: Cell, calibration: Sequence[tuple[xr.Dataset, np.ndarray]]) -> list[float]:
    """Shares of the doubt (1) that 90 % of profiles ask for, by `couplers.residual.features.KINDS`.

    Parameters
    ----------
    cell : Cell
        Of `couplers.residual.parameters.read_cell`.
    calibration : sequence of pairs
        Reference data that the corrector has not learnt from (`couplers.residual.data.reference`),
        and the error (V) of its ensemble on them, also where it abstains, (draw, time).

    Returns
    -------
    list of float
        For currents that change and for steady ones; too few of a kind count with all others.

    Raises
    ------
    ValueError
        If there are too few profiles even so.
    """
    pairs = []
    for data, error in calibration:
        rate, time = data["c_rate"].values, data["time"].values
        voltage, doubt = modal.voltages(
            cell,
            cell.capacity * rate,
            time,
            state_of_charge=data["state_of_charge"].values,
            electrolyte={name: data[name].values for name in ELECTROLYTE},
        )
        pairs.append(scores(error, voltage - data["voltage"].values, doubt, kind(rate, time)))
    score, kinds = (np.concatenate(each) for each in zip(*pairs, strict=True))
    own = [score[kinds == k] for k in range(len(KINDS))]
    return [conformal(one if len(one) >= ENOUGH else score) for one in own]


def scores(
    error: np.ndarray, modal_error: np.ndarray, doubt: np.ndarray, kinds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The largest share (1) that each profile asks for, and its kind; errors (draw, time)."""
    with np.errstate(invalid="ignore"):
        asked = (np.abs(error) - np.abs(error - modal_error)) / doubt
    there = np.isfinite(asked)
    some = there.any(axis=1)
    return np.where(there, asked, -np.inf).max(axis=1)[some], kinds[some]


def half_width(
    apart: np.ndarray, doubt: np.ndarray, shares: Sequence[float], kinds: np.ndarray
) -> np.ndarray:
    """The checked band (V) of corrected voltages that far from the modal ones, (draw, time)."""
    return np.abs(apart) + np.array(shares)[kinds][:, None] * doubt
