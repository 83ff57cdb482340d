"""Draws through a solver, many at a time; a draw that fails is an outcome, not an end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from continuum.inputs import Electrolyte

LEVELS = (0.025, 0.5, 0.975)


def propagate(
    solve: Callable[[Sequence[Any]], xr.Dataset],
    draws: Sequence[Any],
    *,
    executor: Executor | None = None,
    batches: int = 1,
) -> xr.Dataset:
    """Solve for every draw of the inputs and put the answers side by side.

    Parameters
    ----------
    solve : callable
        Takes a sequence of draws and returns a Dataset with dim ``draw`` in their order. For
        another process it must be a module's function, or a `functools.partial` of one.
    draws : sequence
        Inputs of each draw, such as an `Electrolyte`; values that can be pickled.
    executor : concurrent.futures.Executor, optional
        Where the batches run, such as `multiscale.executors.local` or `.dask` give it; here and
        one after the other if not given.
    batches : int
        Number (1) of parts into which the draws are shared out, at least one for each worker.

    Returns
    -------
    xarray.Dataset
        What `solve` returned, joined along ``draw``, with ``solved`` (draw) and ``reason`` (draw),
        the sentence of a draw that failed: one for which `solve` raised, or which has no finite
        number. The former is nan. The attribute ``draws`` counts them; where there is a variable
        ``outcome``, the attribute of that name counts its sentences. Other attributes are those
        of the first batch.

    Raises
    ------
    ValueError
        If there is no draw or no batch, if `solve` returns another number of draws than it was
        given, or if every draw fails, with the sentence of the first.

    Examples
    --------
    >>> def root(values):
    ...     if min(values) < 0:
    ...         raise ValueError("no root of a negative number")
    ...     return xr.Dataset({"root": ("draw", np.sqrt(values), {"units": "1"})})
    >>> result = propagate(root, [4.0, -1.0, 9.0])
    >>> result["root"].values.tolist(), result.attrs["draws"]
    ([2.0, nan, 3.0], '2 of 3 draws solved; 1 failed: no root of a negative number')
    """
    if not len(draws) or batches < 1:
        raise ValueError(
            f"Propagate: there are {len(draws)} draws in {batches} batches; give at least one each."
        )
    places = [part for part in np.array_split(np.arange(len(draws)), batches) if len(part)]
    parts: list[tuple[np.ndarray, xr.Dataset]] = []
    reason = np.full(len(draws), "", dtype=object)
    failed: list[int] = []
    for place, found in zip(places, _run(solve, draws, places, executor), strict=True):
        if isinstance(found, xr.Dataset):
            parts.append((place, found))
        elif len(place) > 1:
            failed += place.tolist()
        else:
            reason[place[0]] = found
    # which draw of a batch was it?
    singly = [np.array([index]) for index in failed]
    for place, found in zip(singly, _run(solve, draws, singly, executor), strict=True):
        if isinstance(found, xr.Dataset):
            parts.append((place, found))
        else:
            reason[place[0]] = found
    if not parts:
        raise ValueError(f"Propagate: every draw failed; the first: {reason[0]}.")
    for place, found in parts:
        if found.sizes.get("draw") != len(place):
            raise ValueError(
                f"Propagate: the solver was given {len(place)} draws, but returned "
                f"{found.sizes.get('draw', 'no dim')} along 'draw'."
            )
    parts.sort(key=lambda part: int(part[0][0]))
    joined = xr.concat(
        [found.assign_coords(draw=place) for place, found in parts],
        dim="draw",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    if len(joined["draw"]) < len(draws):
        joined = joined.reindex(draw=np.arange(len(draws)), fill_value={**_nothing(joined)})
    joined = joined.drop_vars("draw")
    _name_empty(joined, reason)
    joined["solved"] = ("draw", reason == "")
    joined["reason"] = ("draw", reason.astype(str))
    joined.attrs["draws"] = _count(reason)
    if "outcome" in joined:
        counts = Counter(joined["outcome"].values.astype(str).ravel().tolist()).most_common()
        joined.attrs["outcome"] = "; ".join(f"{count} {said}" for said, count in counts)
    return joined


def discharges(
    electrolytes: Sequence[Electrolyte],
    *,
    c_rates: Sequence[float] = (1.0,),
    base: str = "Chen2020",
    overrides: Mapping[str, Any] | None = None,
    model: str = "DFN",
    time_points: int = 121,
    mesh_points: Mapping[str, int] | None = None,
) -> xr.Dataset:
    """Discharge a cell with each electrolyte: what `propagate` calls, in this process or another.

    Parameters
    ----------
    electrolytes : sequence of Electrolyte
        Draws of one electrolyte; their Laws have the same forms.
    c_rates : sequence of float
        C-rates (1).
    base : str
        Name of the PyBaMM parameter set of the rest of the cell.
    overrides : mapping, optional
        As for `couplers.battery.parameter_values`.
    model : str
        ``"DFN"``, ``"SPMe"``, ``"SPM"``, or ``"ModalSPMe"`` (`continuum.cell_modes`).
    time_points : int
        Points in time (1) of each curve.
    mesh_points : mapping, optional
        As for `continuum.cell.discharge`.

    Returns
    -------
    xarray.Dataset
        DISCHARGE, one ``draw`` for each electrolyte; the outcome of one whose concentration left
        the window of the Laws says so.

    Raises
    ------
    ValueError
        As `couplers.battery.parameter_values` and `continuum.cell.discharge`.
    """
    from continuum.cell import discharge
    from couplers.battery import (
        LAW_KEYS,
        SINGLE_ION_ONE,
        assumptions,
        concentration_window,
        inputs,
        parameter_values,
    )

    first = electrolytes[0]
    names = [name for name in LAW_KEYS if not (first.single_ion and name in SINGLE_ION_ONE)]
    result = discharge(
        parameter_values(first, base=base, as_inputs=names, overrides=overrides),
        c_rates=c_rates,
        inputs=[inputs(one, names) for one in electrolytes],
        model=model,
        time_points=time_points,
        mesh_points=mesh_points,
        concentration_window=concentration_window(first),
    )
    return result.assign_attrs(assumptions(first, base=base))


def band(values: xr.DataArray, *, levels: Sequence[float] = LEVELS) -> xr.Dataset:
    """Quantiles over draws, of those that have a value.

    Parameters
    ----------
    values : xarray.DataArray
        Any quantity (its own unit, in `units`) with dim ``draw``; nan for a draw that failed or,
        along time, has ended.
    levels : sequence of float
        Levels (1), from 0 to 1.

    Returns
    -------
    xarray.Dataset
        The quantity over ``quantile``, nan where fewer than half of the draws have a value, and
        ``draws_used`` (1).

    Raises
    ------
    ValueError
        Lists every fault: no dim ``draw``, no units, levels outside 0 to 1.

    Examples
    --------
    >>> values = xr.DataArray([1.0, 2.0, 3.0, np.nan], dims="draw", attrs={"units": "V"})
    >>> band(values.rename("voltage"), levels=[0.5])["voltage"].values.tolist()
    [2.0]
    """
    faults = []
    if "draw" not in values.dims:
        faults.append(f"the values have dims {tuple(values.dims)}, expected 'draw' among them")
    if not values.attrs.get("units"):
        faults.append("the values have no units; set the attribute")
    if not all(0 <= level <= 1 for level in levels):
        faults.append(f"the levels are {list(levels)}, but must lie from 0 to 1")
    if faults:
        raise ValueError("Band: " + "; ".join(faults) + ".")
    rest = tuple(str(dim) for dim in values.dims if dim != "draw")
    table = values.transpose(*rest, "draw").values
    used = np.isfinite(table).sum(-1)
    enough = (2 * used >= table.shape[-1]) & (used > 0)
    found = np.full((len(levels), *table.shape[:-1]), np.nan)
    found[:, enough] = np.nanquantile(table[enough], levels, axis=-1)
    name = str(values.name or "value")
    return xr.Dataset(
        {
            name: (("quantile", *rest), found, {"units": values.attrs["units"]}),
            "draws_used": (rest, used, {"units": "1"}),
        },
        coords={"quantile": ("quantile", list(levels), {"units": "1"})},
    )


def _run(
    solve: Callable[[Sequence[Any]], xr.Dataset],
    draws: Sequence[Any],
    places: Sequence[np.ndarray],
    executor: Executor | None,
) -> list[xr.Dataset | str]:
    """What each batch gives: a Dataset, or the sentence of what was raised."""
    given = [[draws[index] for index in place] for place in places]
    if executor is None:
        return [_outcome(partial(solve, batch)) for batch in given]
    futures: list[Future] = [executor.submit(solve, batch) for batch in given]
    return [_outcome(future.result) for future in futures]


def _outcome(call: Callable[[], xr.Dataset]) -> xr.Dataset | str:
    try:
        return call()
    except Exception as error:  # whatever it is, the other draws go on
        return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _name_empty(joined: xr.Dataset, reason: np.ndarray) -> None:
    """Give a reason to each draw that has no finite number."""
    numbers = [one for one in joined.data_vars.values() if "draw" in one.dims and _real(one)]
    if not numbers:
        return
    finite = np.zeros(len(reason), dtype=bool)
    for one in numbers:
        finite |= np.isfinite(one.transpose(..., "draw").values).reshape(-1, len(reason)).any(0)
    for index in np.flatnonzero(~finite & (reason == "")):
        reason[index] = "no finite value"
        if "outcome" in joined and "draw" in joined["outcome"].dims:
            said = joined["outcome"].isel(draw=index).values.astype(str).ravel().tolist()
            reason[index] = ", ".join(dict.fromkeys(said))


def _real(variable: xr.DataArray) -> bool:
    return variable.dtype.kind == "f"


def _nothing(dataset: xr.Dataset) -> dict[Any, Any]:
    """What stands where a draw failed."""
    return {
        name: "was not solved" if one.dtype.kind in "UO" else np.nan
        for name, one in dataset.variables.items()
        if name != "draw"
    }


def _count(reason: np.ndarray) -> str:
    counts = Counter(reason.tolist())
    parts = [f"{counts.pop('', 0)} of {len(reason)} draws solved"]
    parts += [f"{count} failed: {sentence}" for sentence, count in counts.most_common()]
    return "; ".join(parts)
