import numpy as np
import pytest
import xarray as xr
from scipy.constants import Avogadro, gas_constant

from atomistic.observables.arrhenius import arrhenius
from continuum.inputs import FARADAY
from couplers.contract import ContractError
from couplers.electrolyte import binary_electrolyte, single_ion_electrolyte
from couplers.fits import LAWS, evaluate, fit_laws
from couplers.liquid import landesfeind_ec_emc
from couplers.newman import newman
from tests.couplers.measured import properties
from tests.couplers.measured import transport as measured

TEMPERATURES = np.array([600.0, 750.0, 900.0])
ENERGY, PREFACTOR = 29e3, 2.6e6  # J mol-1, S K m-1
DENSITY = 24 / (10.1e-10) ** 3


def made_transport(error=0.02, draws=200):
    """A TRANSPORT whose conductivity follows a known Arrhenius law."""
    rng = np.random.default_rng(0)
    sigma = PREFACTOR / TEMPERATURES * np.exp(-ENERGY / gas_constant / TEMPERATURES)
    D = sigma * gas_constant * TEMPERATURES / (FARADAY**2 * DENSITY / Avogadro)
    noise = np.exp(error * rng.standard_normal((3, draws)))

    def estimate(name, value, units, dims=("condition",)):
        factor = noise if value.ndim == 1 else noise[:, None]
        drawn = value[..., None] * factor
        drawn_dims = (*dims, "draw")
        return {
            name: (dims, value, {"units": units}),
            f"{name}_std": (dims, np.where(np.isfinite(value), error * value, np.nan),
                            {"units": units}),
            f"{name}_draw": (drawn_dims, drawn, {"units": units}),
        }  # fmt: skip

    both = np.column_stack([D, np.full(3, np.nan)])
    species = ("condition", "species")
    return xr.Dataset(
        {
            "temperature": ("condition", TEMPERATURES, {"units": "K"}),
            "charge_number": ("species", [1.0, -2.0], {"units": "1"}),
            "number_density": (species, np.full((3, 2), DENSITY), {"units": "m-3"}),
            "box_length": ("condition", np.full(3, 10.1e-10), {"units": "m"}),
            "diffusive": (species, np.tile([True, False], (3, 1))),
            "verdict": (species, np.tile(["diffusive", "too few hops"], (3, 1))),
            **estimate("self_diffusivity", both, "m2 s-1", species),
            **estimate("conductivity", sigma, "S m-1"),
            **estimate("nernst_einstein_conductivity", sigma, "S m-1"),
        },
        coords={"species": ["Li", "S"]},
        attrs={"frame": "lab", "finite_size_correction": "none"},
    )


@pytest.fixture
def transport():
    return made_transport()


def test_laws_reproduce_the_truth_that_made_the_data(transport):
    posterior = arrhenius(transport, temperature=300.0)
    electrolyte = single_ion_electrolyte(transport, posterior, cation="Li", temperature=300.0)
    for T in (300.0, 450.0, 800.0):
        truth = PREFACTOR / T * np.exp(-ENERGY / gas_constant / T)
        assert electrolyte.conductivity(0.0, T) == pytest.approx(truth, rel=0.25)
    assert electrolyte.concentration == pytest.approx(DENSITY / Avogadro)
    assert electrolyte.single_ion
    assert electrolyte.transference_number(0.0, 300.0) == 1.0


def test_charge_diffusivity_is_that_of_the_conductivity_at_any_temperature(transport):
    posterior = arrhenius(transport, temperature=300.0)
    one = single_ion_electrolyte(transport, posterior, cation="Li", temperature=300.0)
    for T in (250.0, 300.0, 900.0):
        sigma = FARADAY**2 * one.concentration * one.diffusivity(0, T) / (gas_constant * T)
        assert one.conductivity(0, T) == pytest.approx(sigma, rel=1e-12)


def test_a_draw_is_joint_and_draws_differ(transport):
    posterior = arrhenius(transport, temperature=300.0)
    values = []
    for draw in range(posterior.sizes["draw"]):
        one = single_ion_electrolyte(
            transport, posterior, cation="Li", temperature=300.0, draw=draw
        )
        assert one.conductivity(0, 300.0) == float(posterior.conductivity_draw[draw])
        assert one.conductivity.coefficients[1] == float(posterior.activation_energy_draw[draw])
        values.append(one.conductivity(0, 300.0))
    assert np.std(values) > 0.05 * np.mean(values)


def test_extrapolation_is_on_record(transport):
    posterior = arrhenius(transport, temperature=300.0)
    law = single_ion_electrolyte(transport, posterior, cation="Li", temperature=300.0).conductivity
    assert "outside the law's window 600 to 900 K" in law.outside(0.0, 300.0)
    assert law.outside(0.0, 700.0) is None


def test_input_is_left_as_it_was(transport):
    posterior = arrhenius(transport, temperature=300.0)
    before = transport.copy(deep=True), posterior.copy(deep=True)
    single_ion_electrolyte(transport, posterior, cation="Li", temperature=300.0)
    assert before[0].identical(transport)
    assert before[1].identical(posterior)


def test_breaches_of_the_schema_come_first(transport):
    posterior = arrhenius(transport, temperature=300.0)
    transport.conductivity.attrs["units"] = "S cm-1"
    with pytest.raises(ContractError, match="conductivity has units 'S cm-1'"):
        single_ion_electrolyte(transport, posterior, cation="Li", temperature=300.0)


def test_all_faults_are_listed_at_once(transport):
    posterior = arrhenius(transport, temperature=300.0)
    with pytest.raises(ValueError, match=r"310 K.*Na is not among.*draw is 999"):
        single_ion_electrolyte(transport, posterior, cation="Na", temperature=310.0, draw=999)


def test_a_second_mobile_species_is_refused(transport):
    posterior = arrhenius(transport, temperature=300.0)
    transport["diffusive"][0, 1] = True
    transport["self_diffusivity"][0, 1] = 1e-10
    transport["self_diffusivity_draw"][0, 1] = 1e-10
    with pytest.raises(ValueError, match="S moves too"):
        single_ion_electrolyte(transport, posterior, cation="Li", temperature=300.0)


def test_refused_posterior_is_not_handed_over(transport):
    for name in ("conductivity", "conductivity_std", "conductivity_draw"):
        transport[name][1:] = np.nan
    transport["diffusive"][1:] = False
    posterior = arrhenius(transport, temperature=300.0)
    with pytest.raises(ValueError, match="no conductivity to hand over: refused"):
        single_ion_electrolyte(transport, posterior, cation="Li", temperature=300.0)


def fitted(*names, draws=30):
    """Laws of some properties of a liquid, from noisy points."""
    given = properties(0.1)
    drop = [name for name in LAWS if name not in names] if names else []
    return fit_laws(given.drop_vars([*drop, *(f"{name}_std" for name in drop)]), draws=draws)


def test_a_liquid_draw_is_the_same_in_all_laws_and_has_the_forms_of_the_others():
    laws = fitted()
    where = {"concentration": 1000.0, "temperature": 298.15}
    drawn = [binary_electrolyte(laws, **where, draw=draw) for draw in (0, 7)]
    at = evaluate(laws, np.array([1000.0]), np.array([298.15]))
    for name, (field, form) in LAWS.items():
        for one, draw in zip(drawn, (0, 7), strict=True):
            law = getattr(one, field)
            assert law.form == form
            assert law(1000.0, 298.15) == pytest.approx(
                float(at[f"{name}_draw"][0, draw]), rel=1e-12, abs=0
            )
        assert getattr(drawn[0], field) != getattr(drawn[1], field)
    best = binary_electrolyte(laws, **where, name="mine")
    assert best.conductivity(1000.0, 298.15) == pytest.approx(float(at["conductivity"][0]))
    assert best.name == "mine"
    assert not best.single_ion
    with pytest.raises(ValueError, match="draw is 30, but the posterior holds 30"):
        binary_electrolyte(laws, **where, draw=30)


def test_a_liquid_without_its_thermodynamic_factor_is_refused_or_completed_by_name():
    laws = fitted("conductivity", "transference_number")
    where = {"concentration": 1000.0, "temperature": 298.15}
    with pytest.raises(ValueError, match="diffusivity, thermodynamic_factor is missing; give it"):
        binary_electrolyte(laws, **where)
    whole = binary_electrolyte(laws, **where, complete_from=landesfeind_ec_emc(), name="mine")
    assert whole.name.startswith("mine, with diffusivity, thermodynamic_factor of LiPF6 in EC:EMC")
    assert whole.diffusivity == landesfeind_ec_emc().diffusivity
    lone = fitted("conductivity", "transference_number", "thermodynamic_factor")
    with pytest.raises(ValueError, match="without the diffusivity that contains it"):
        binary_electrolyte(lone, **where, complete_from=landesfeind_ec_emc())


def test_the_way_from_a_mass_frame_matrix_to_an_electrolyte():
    """Every step together, against the numbers that the matrix was made of."""
    liquid = fit_laws(newman(measured(frame="mass", spread=0.02, draws=60)), draws=20)
    one = binary_electrolyte(liquid, concentration=1000.0, temperature=298.15)
    values = [getattr(one, field)(1000.0, 298.15) for field, _ in LAWS.values()]
    values[2] = 1 - values[2]
    assert values == pytest.approx([0.913, 2.89e-10, 1 - 0.221, 2.18], rel=0.06, abs=0)
