"""Frames, signs and definitions: each word matters, and each way there leads back."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from atomistic.observables.onsager import salt_diffusion
from atomistic.observables.transport import transport as atomistic_transport
from atomistic.schema import TRANSPORT
from couplers.contract import ContractError, check
from couplers.fits import LAWS
from couplers.newman import NEWMAN, newman
from tests.atomistic import synthetic
from tests.couplers.measured import DENSITY, MOLAR, VOLUME, points, properties, transport, truth

WORD = "thermodynamic_factor_definition"


@pytest.mark.parametrize("frame", ["solvent", "mass"])
@pytest.mark.parametrize("name", list(LAWS))
def test_matrix_of_known_properties_gives_them_back_from_either_frame(
    frame: str, name: str
) -> None:
    found = newman(transport(frame=frame))
    np.testing.assert_allclose(found[name], truth(name, *points()), rtol=1e-9)
    check(found, NEWMAN)
    assert found[f"{name}_draw"].sizes["draw"] == 60


def test_another_word_for_the_frame_gives_another_number() -> None:
    """At 1 M a frame error is worth 0.09 in t+, and the conductivity is of no frame."""
    right = transport(frame="mass")
    wrong = newman(right.assign_attrs(frame="solvent"))
    found = newman(right)
    at = int(np.flatnonzero((points()[0] == 1000) & (points()[1] == 298.15))[0])
    shift = (wrong["transference_number"] - found["transference_number"]).values[at]
    t = truth("transference_number", *points())[at]
    expected = -(1000 / DENSITY) * (MOLAR[0] * t - MOLAR[1] * (1 - t))
    assert shift == pytest.approx(expected, rel=1e-6)
    assert shift == pytest.approx(0.093, abs=1e-3)
    np.testing.assert_allclose(wrong["conductivity"], found["conductivity"], rtol=1e-12)


def table() -> xr.Dataset:
    """The four numbers without a matrix, with what a change of words needs."""
    c = points()[0]
    return properties(1e-3).assign(
        molar_mass=("species", MOLAR, {"units": "kg mol-1"}),
        charge_number=("species", [1.0, -1.0], {"units": "1"}),
        mass_density=("condition", np.full(len(c), DENSITY), {"units": "kg m-3"}),
        salt_molar_volume=("condition", np.full(len(c), VOLUME), {"units": "m3 mol-1"}),
    )


def test_a_number_without_a_matrix_changes_frame_as_its_matrix_does() -> None:
    c, _ = points()
    t = table()["transference_number"].values
    in_mass = t - c / DENSITY * (MOLAR[0] * t - MOLAR[1] * (1 - t))
    there = table().assign_attrs(frame="mass")
    there["transference_number"] = ("condition", in_mass, {"units": "1"})
    np.testing.assert_allclose(newman(there)["transference_number"], t, rtol=1e-12)
    stays = newman(there.assign_attrs(frame="solvent"))["transference_number"]
    assert abs(stays - t).min() > 0.01


def test_the_anions_number_is_one_minus_the_cations() -> None:
    there = table().assign_attrs(transference_number_of="anion")
    there["transference_number"] = 1 - there["transference_number"]
    there["transference_number"].attrs["units"] = "1"
    found = newman(there)
    for name in ("transference_number", "transference_number_std"):
        np.testing.assert_allclose(found[name], table()[name], rtol=1e-12)
    warm = there.isel(condition=points()[1] > 298)
    wrong = newman(warm.assign_attrs(transference_number_of="cation"))["transference_number"]
    assert abs(wrong - newman(warm)["transference_number"]).max() > 0.1


def test_charges_say_which_ion_is_the_cation() -> None:
    turned = transport(frame="mass").isel(species=[1, 0], partner=[1, 0])
    np.testing.assert_allclose(
        newman(turned)["transference_number"],
        truth("transference_number", *points()),
        rtol=1e-9,
    )


@pytest.mark.parametrize("matrix", [True, False])
def test_molal_and_molar_factor_are_told_apart(matrix: bool) -> None:
    c, T = points()
    there = (transport() if matrix else table()).assign_attrs({WORD: "molal"})
    chi = truth("thermodynamic_factor", c, T) if matrix else table()["thermodynamic_factor"].values
    there["thermodynamic_factor"] = ("condition", chi * (1 - c * VOLUME), {"units": "1"})
    found = newman(there)
    np.testing.assert_allclose(found["thermodynamic_factor"], chi, rtol=1e-9)
    wrong = newman(there.assign_attrs({WORD: "molar"}))
    assert abs(wrong["thermodynamic_factor"] / chi - 1).max() > 0.1
    if matrix:  # the salt diffusivity contains the molal one
        np.testing.assert_allclose(
            found["salt_diffusivity"], truth("salt_diffusivity", c, T), rtol=1e-9
        )
        assert abs(wrong["salt_diffusivity"] / found["salt_diffusivity"] - 1).max() > 0.1


def test_molar_factor_is_the_molal_one_times_what_the_solvent_loses() -> None:
    """d ln c0 / d ln c by differences of c0 = (1 - c V) / V0."""
    c, step = 1500.0, 1e-3
    solvent = [np.log(1 - c * np.exp(shift) * VOLUME) for shift in (-step, step)]
    slope = (solvent[1] - solvent[0]) / (2 * step)
    there = table().isel(condition=[0]).assign_attrs({WORD: "molal"})
    there["salt_concentration"][:] = c
    there["thermodynamic_factor"][:] = 2.0
    assert float(newman(there)["thermodynamic_factor"][0]) == pytest.approx(
        2.0 * (1 - slope), rel=1e-6
    )


def test_draws_are_converted_whole() -> None:
    """Conductivity and diffusivity of a draw are those of its own matrix: they move together."""
    found = newman(transport(spread=0.2))
    pair = [
        np.log(found[f"{name}_draw"].values[6]) for name in ("conductivity", "salt_diffusivity")
    ]
    assert np.corrcoef(*pair)[0, 1] > 0.5
    widest = newman(
        transport(spread=0.2)
        .drop_vars("thermodynamic_factor_std")
        .assign(thermodynamic_factor_std=("condition", np.full(20, np.nan), {"units": "1"}))
    )
    assert "thermodynamic_factor_draw" not in widest
    assert np.isnan(widest["thermodynamic_factor_std"]).all()
    assert float(widest["salt_diffusivity_std"][6]) < float(found["salt_diffusivity_std"][6])


def test_conditions_that_are_not_diffusive_are_left_out() -> None:
    given = transport()
    given["diffusive"][3, 0] = False
    for name in ("onsager", "conductivity"):
        given[name][3] = np.nan
        given[f"{name}_draw"][3] = np.nan
    found = newman(given)
    assert found.sizes["condition"] == 19
    assert found.attrs["left_out"] == "1 of 20 conditions"


def test_concentration_is_that_of_the_ions_where_it_is_not_given() -> None:
    found = newman(transport().drop_vars("salt_concentration"))
    np.testing.assert_allclose(found["salt_concentration"], points()[0], rtol=1e-12)


def test_input_is_left_as_it_was() -> None:
    given = transport(frame="mass")
    before = given.copy(deep=True)
    newman(given)
    assert given.identical(before)


def test_without_a_factor_there_is_no_salt_diffusivity() -> None:
    found = newman(transport().drop_vars(["thermodynamic_factor", "thermodynamic_factor_std"]))
    assert set(LAWS) & set(found) == {"conductivity", "transference_number"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.assign_attrs(frame="solvant"), "attribute 'frame' is 'solvant', expected"),
        (lambda d: d.assign_attrs({WORD: "rational"}), f"attribute '{WORD}' is 'rational'"),
        (lambda d: d.drop_attrs(deep=False), f"attribute '{WORD}' is missing, expected one of"),
    ],
)
def test_a_wrong_or_missing_word_is_a_breach(change, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        newman(change(transport()))


def test_faults_are_listed_together() -> None:
    given = transport(frame="mass").drop_vars(
        ["mass_density", "salt_molar_volume", "onsager_draw", "conductivity_draw"]
    )
    given["charge_number"][0] = 2.0
    given["onsager"] *= np.array([[0.25, 0.5], [0.5, 1.0]])
    given["onsager"].attrs["units"] = "mol2 J-1 m-1 s-1"
    given = given.drop_vars("salt_concentration")
    with pytest.raises(ValueError) as error:
        newman(given)
    for word in ("mass_density is missing", "salt_molar_volume", "onsager_draw", "charges -1, +2"):
        assert word in str(error.value)
    with pytest.raises(ValueError, match="the frame is 'volume', but only 'mass' is converted"):
        newman(transport().assign_attrs(frame="volume"))


def test_a_diffusivity_of_another_definition_is_refused() -> None:
    given = transport()
    D = newman(given)["salt_diffusivity"].values
    for factor, fits in ((1.0, True), (1.06, False)):
        given["salt_diffusivity"] = ("condition", factor * D, {"units": "m2 s-1"})
        given["salt_diffusivity_std"] = ("condition", 0.1 * D, {"units": "m2 s-1"})
        if fits:
            newman(given)
        else:
            with pytest.raises(ValueError, match="check the words of the frame and of the factor"):
                newman(given)


def test_a_cation_that_carries_more_than_everything_is_refused() -> None:
    given = table().assign_attrs(transference_number_of="anion")
    given["transference_number"][:] = -0.5
    with pytest.raises(ValueError, match="transference_number is 1.5 in the solvent frame"):
        newman(given)


def test_the_liquid_passes_the_gate_of_its_producer() -> None:
    check(transport(frame="mass"), TRANSPORT)


def test_what_the_atomistic_scale_makes_of_a_trajectory_goes_in_as_it_is() -> None:
    """Ions in argon with known collective motion; argon's frame is that of the solvent."""
    pairs = 16
    ions = synthetic.binary_salt(np.random.default_rng(8), (2, 1500, pairs), cation=0.3, anion=0.6)
    rest = np.zeros_like(ions[:, :, :8])
    given = synthetic.trajectory(
        [np.concatenate([ions, rest], axis=2)],
        symbols=["Li"] * pairs + ["Cl"] * pairs + ["Ar"] * 8,
        temperatures=[800.0],
    )
    names = ["Li", "Cl", "Ar"]
    seen = atomistic_transport(given, charges={"Li": 1, "Cl": -1, "Ar": 0}, mobile=names)
    found = newman(seen)
    assert seen.attrs["frame"] == "solvent"
    assert set(LAWS) & set(found) == {"conductivity", "transference_number"}
    for name in ("conductivity", "transference_number"):
        np.testing.assert_allclose(found[name], seen[name], rtol=1e-12)
        np.testing.assert_allclose(found[f"{name}_draw"], seen[f"{name}_draw"], rtol=1e-9)
    cross = 0.4 * np.sqrt(0.3 * 0.6)
    true = (0.3 - cross) / (0.9 - 2 * cross)
    away = (found["transference_number"] - true) / found["transference_number_std"]
    assert abs(float(away[0])) < 3
    factor = seen.assign(
        thermodynamic_factor=("condition", [2.0], {"units": "1"}),
        thermodynamic_factor_std=("condition", [0.1], {"units": "1"}),
        salt_molar_volume=("condition", [0.0], {"units": "m3 mol-1"}),
    ).assign_attrs({WORD: "molar"})
    whole = newman(factor)
    c = float(whole["salt_concentration"][0])
    expected = salt_diffusion(seen["onsager"].values[0], c, 800.0, 2.0)
    assert float(whole["salt_diffusivity"][0]) == pytest.approx(float(expected), rel=1e-9, abs=0)
    assert whole["member"].sizes == {"draw": seen.sizes["draw"]}
