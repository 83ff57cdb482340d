from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.constants import physical_constants

from atomistic.schema import TRANSPORT
from continuum.schema import DISCHARGE
from couplers.contract import ContractError, check

FARADAY = physical_constants["Faraday constant"][0]


def transport(*, conditions: int = 2) -> xr.Dataset:
    """A molten salt of three species whose Onsager matrix gives its conductivity."""
    charge = np.array([1.0, 2.0, -1.0])
    rng = np.random.default_rng(1)
    root = rng.normal(size=(conditions, 3, 3)) * 1e-7
    onsager = root @ root.transpose(0, 2, 1)
    conductivity = FARADAY**2 * np.einsum("i,j,cij->c", charge, charge, onsager)

    def estimate(name: str, dims: tuple[str, ...], value: np.ndarray, units: str) -> dict:
        std = 0.1 * np.abs(value)
        return {
            name: (dims, value, {"units": units}),
            f"{name}_std": (dims, std, {"units": units}),
        }

    condition, species = ("condition",), ("condition", "species")
    return xr.Dataset(
        {
            "temperature": (condition, 1000.0 + np.arange(conditions), {"units": "K"}),
            "charge_number": (("species",), charge, {"units": "1"}),
            "number_density": (species, np.full((conditions, 3), 1e28), {"units": "m-3"}),
            **estimate("self_diffusivity", species, np.full((conditions, 3), 5e-9), "m2 s-1"),
            **estimate("conductivity", condition, conductivity, "S m-1"),
            **estimate("nernst_einstein_conductivity", condition, conductivity * 1.2, "S m-1"),
            **estimate("onsager", (*species, "partner"), onsager, "mol2 J-1 m-1 s-1"),
            "box_length": (condition, np.full(conditions, 3e-9), {"units": "m"}),
            "diffusive": (species, np.full((conditions, 3), True)),
            "verdict": (species, np.full((conditions, 3), "diffusive")),
        },
        attrs={"frame": "mass", "finite_size_correction": "none"},
    )


def test_complete_dataset_passes_unchanged() -> None:
    dataset = transport()
    before = dataset.copy(deep=True)
    assert check(dataset, TRANSPORT).identical(before)
    assert dataset.identical(before)


def test_dims_are_compared_by_name_and_returned_in_order() -> None:
    dataset = transport()
    checked = check(dataset.transpose(*reversed(list(dataset.sizes))), TRANSPORT)
    assert checked["onsager"].dims == ("condition", "species", "partner")
    assert checked.identical(dataset)


def test_all_faults_are_listed_at_once() -> None:
    dataset = transport()
    dataset["temperature"][0] = -300.0
    dataset["conductivity"].attrs["units"] = "mS/cm"
    dataset["self_diffusivity_std"][0, 0] = 0.0
    dataset["number_density"][1, 2] = np.nan
    dataset = dataset.rename(box_length="box_lenght").drop_vars("nernst_einstein_conductivity_std")
    dataset = dataset.assign(verdict=("condition", ["a", "b"]))
    dataset.attrs = {"frame": "laboratory", "finite_size_corection": "none", "nested": {"a": 1}}
    with pytest.raises(ContractError) as error:
        check(dataset, TRANSPORT)
    assert set(error.value.faults) == {
        "box_lenght is unknown; did you mean box_length?",
        "box_length is missing; expected dims (condition) in 'm'.",
        "temperature has 1 of 2 values that are not above 0 K.",
        "conductivity has units 'mS/cm', expected 'S m-1'.",
        "self_diffusivity_std has 1 of 6 values that are 0, negative or infinite; "
        + "write nan where it is unknown.",
        "number_density has 1 of 6 values that are not finite.",
        "nernst_einstein_conductivity_std is missing; put it beside "
        + "nernst_einstein_conductivity, nan where it is unknown.",
        "verdict has dims (condition), expected (condition, species).",
        "attribute 'frame' is 'laboratory', expected one of 'solvent', 'mass', 'volume', 'lab'.",
        "attribute 'finite_size_corection' is unknown; did you mean 'finite_size_correction'?",
        "attribute 'finite_size_correction' is missing, expected one of 'none', 'Yeh-Hummer'.",
        "attribute 'nested' is a dict; attributes are flat text or numbers "
        + "(write nested ones as one JSON text).",
    }
    assert "12 faults" in str(error.value)


def test_unknown_deviation_is_nan() -> None:
    dataset = transport()
    dataset["conductivity_std"][:] = np.nan
    check(dataset, TRANSPORT)


@pytest.mark.parametrize("diffusive", [True, False])
def test_nan_estimate_only_where_not_diffusive(diffusive: bool) -> None:
    dataset = transport()
    dataset["diffusive"][0, 1] = diffusive
    dataset["self_diffusivity"][0, 1] = np.nan
    dataset["conductivity"][0] = np.nan
    if not diffusive:
        check(dataset, TRANSPORT)
        dataset["self_diffusivity"][0, 2] = np.nan
        dataset["nernst_einstein_conductivity"][1] = np.nan
    with pytest.raises(ContractError) as error:
        check(dataset, TRANSPORT)
    assert len(error.value.faults) == 2


def test_a_matrix_is_missing_as_a_whole_where_one_species_is_not_diffusive() -> None:
    dataset = transport()
    dataset["diffusive"][0, 1] = False
    dataset["onsager"][0] = np.nan
    dataset["conductivity"][0] = np.nan
    check(dataset, TRANSPORT)
    dataset["diffusive"][:] = True
    with pytest.raises(ContractError, match="onsager has 9 of 18 values that are not finite"):
        check(dataset, TRANSPORT)


def with_draws(count: int = 4) -> xr.Dataset:
    """The salt with draws of its matrix and conductivity that belong together."""
    dataset = transport()
    scale = np.linspace(0.8, 1.2, count)
    for name in ("onsager", "conductivity"):
        drawn = dataset[name].values[..., None] * scale
        units = dataset[name].attrs
        dataset[f"{name}_draw"] = ((*dataset[name].dims, "draw"), drawn, units)
    return dataset


def test_identity_holds_in_every_draw() -> None:
    dataset = with_draws()
    check(dataset, TRANSPORT)
    dataset["conductivity_draw"][1, 2] *= 1.01
    with pytest.raises(ContractError, match="conductivity_draw is .* at condition 1, draw 2, but"):
        check(dataset, TRANSPORT)


@pytest.mark.parametrize("name", ["onsager", "onsager_draw"])
def test_a_matrix_that_is_not_positive_is_refused(name: str) -> None:
    """Below 0 by a part in a million passes: that is rounding of a singular matrix of a melt."""
    dataset = with_draws()
    values = dataset[name].transpose(..., "species", "partner").values.copy()
    low, vector = np.linalg.eigh(values[0] if name == "onsager" else values[0, 0])
    for shift, passes in ((low[0] + 1e-9 * low[-1], True), (2 * low[0] + 1e-3 * low[-1], False)):
        moved = dataset.copy(deep=True)
        place = moved[name].transpose(..., "species", "partner").values
        at = (0,) if name == "onsager" else (0, 0)
        place[at] -= shift * np.outer(vector[:, 0], vector[:, 0])
        moved = moved.drop_vars([one for one in moved if str(one).startswith("conductivity")])
        faults = "" if passes else f"{name} has 1 of {values.size // 9} matrices with a negative"
        try:
            check(moved, TRANSPORT)
            said = ""
        except ContractError as error:
            said = str(error)
        assert faults in said
        assert ("negative" in said) is not passes


def test_a_matrix_that_is_not_symmetric_is_refused() -> None:
    dataset = transport()
    dataset["onsager"][1, 0, 2] *= 1.001
    with pytest.raises(ContractError, match="onsager has 1 of 2 matrices that are not symmetric"):
        check(dataset, TRANSPORT)


@pytest.mark.parametrize(("anion", "ions"), [(-1.0, 1), (-2.0, 2)])
def test_salt_concentration_is_that_of_the_ions(anion: float, ions: int) -> None:
    """Moles per litre are a thousandth of it; a salt like Li2S has two cations."""
    from scipy.constants import Avogadro

    dataset = transport().isel(species=[0, 2], partner=[0, 2])
    dataset = dataset.drop_vars(["onsager", "onsager_std"])
    dataset["charge_number"][:] = [1.0, anion]
    exact = dataset["number_density"].values[:, 0] / Avogadro / ions
    for factor in (1.0, 1.005, 1e-3, 2.0):
        dataset["salt_concentration"] = ("condition", factor * exact, {"units": "mol m-3"})
        if abs(factor - 1) < 0.01:
            check(dataset, TRANSPORT)
        else:
            with pytest.raises(ContractError, match="number density of the cations is that of"):
                check(dataset, TRANSPORT)


def test_a_negative_diffusivity_is_refused() -> None:
    dataset = transport()
    D = ("condition", [-1e-10, 1e-10], {"units": "m2 s-1"})
    dataset = dataset.assign(salt_diffusivity=D, salt_diffusivity_std=dataset["conductivity_std"])
    dataset["salt_diffusivity_std"].attrs["units"] = "m2 s-1"
    with pytest.raises(ContractError) as error:
        check(dataset, TRANSPORT)
    assert error.value.faults == (
        "salt_diffusivity has 1 of 2 values that are not above 0 m2 s-1.",
    )


def test_infinite_estimate_is_refused_even_where_not_diffusive() -> None:
    dataset = transport()
    dataset["diffusive"][:] = False
    dataset["self_diffusivity"][0, 0] = np.inf
    with pytest.raises(ContractError, match="not finite"):
        check(dataset, TRANSPORT)


def test_draws_have_a_trailing_draw_dim_and_the_same_bounds() -> None:
    dataset = transport()
    draws = dataset["conductivity"].values[:, None] * np.linspace(0.9, 1.1, 5)
    dataset["conductivity_draw"] = (("condition", "draw"), draws, {"units": "S m-1"})
    check(dataset, TRANSPORT)
    dataset["conductivity_draw"] = (("condition", "sample"), -draws, {"units": "S m-1"})
    with pytest.raises(ContractError) as error:
        check(dataset, TRANSPORT)
    assert error.value.faults == (
        "conductivity_draw has dims (condition, sample), expected (condition, draw).",
        "conductivity_draw has 10 of 10 values that are not above 0 S m-1.",
    )


@pytest.mark.parametrize("factor", [1 + 1e-5, 2.0, 1e6])
def test_conductivity_must_agree_with_onsager(factor: float) -> None:
    dataset = transport()
    dataset["conductivity"][1] *= factor
    with pytest.raises(ContractError, match="at condition 1, but F\\^2 sum"):
        check(dataset, TRANSPORT)


def test_sign_of_a_charge_matters_to_the_identity() -> None:
    dataset = transport()
    dataset["charge_number"][2] *= -1
    with pytest.raises(ContractError, match="F\\^2 sum"):
        check(dataset, TRANSPORT)


def test_identity_does_not_align_species_labels() -> None:
    labels = ["a", "b", "c"]
    check(transport().assign_coords(species=labels, partner=labels), TRANSPORT)


def test_further_variables_are_left_alone() -> None:
    dataset = transport()
    dataset["conductivity_of_the_group"] = ("condition", [1.0, 2.0])
    assert "conductivity_of_the_group" in check(dataset, TRANSPORT)


def test_numbers_are_required_where_there_are_units() -> None:
    dataset = transport()
    dataset["temperature"] = ("condition", ["300 K", "400 K"], {"units": "K"})
    with pytest.raises(ContractError, match="temperature holds <U5, expected numbers"):
        check(dataset, TRANSPORT)


def test_units_do_not_come_along_by_arithmetic() -> None:
    """xarray may keep `units` through a square; the gate sees that they are stale."""
    dataset = transport()
    with xr.set_options(keep_attrs=False):
        dataset["box_length"] = dataset["box_length"] * 2
    with pytest.raises(ContractError, match="box_length has no units, expected 'm'"):
        check(dataset, TRANSPORT)


def test_missing_values_are_allowed_where_the_schema_says_so() -> None:
    shape = ("condition", "draw", "time")
    dataset = xr.Dataset(
        {
            "c_rate": ("condition", [1.0], {"units": "1"}),
            "current": ("condition", [5.0], {"units": "A"}),
            "elapsed_time": (("condition", "time"), [[0.0, 1.0]], {"units": "s"}),
            "capacity": (("condition", "time"), [[0.0, 1.0]], {"units": "A h"}),
            "voltage": (shape, [[[4.0, np.nan]]], {"units": "V"}),
            "discharged_capacity": (("condition", "draw"), [[1.0]], {"units": "A h"}),
            "outcome": (("condition", "draw"), [["reached"]]),
        },
        attrs={"sign": "discharge positive", "outcome": "all well"},
    )
    check(dataset, DISCHARGE)
    dataset["elapsed_time"][0, 1] = np.nan
    with pytest.raises(ContractError, match="elapsed_time has 1 of 2 values that are not finite"):
        check(dataset, DISCHARGE)
