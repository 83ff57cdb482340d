"""SPMe with an uneven reaction: the linear porous electrode, P2D, cut-offs, what it refuses."""

import casadi
import numpy as np
import pytest

from continuum.cell import discharge
from continuum.cell_layers import LAYERS
from continuum.cell_mesh import electrode_submeshes, pybamm
from continuum.cell_modes import EVEN, ModalSPMe
from continuum.cell_particles import ladder_submeshes

SIDES = ("negative", "positive")
VOLUMES = {"x_n": 24, "x_s": 4, "x_p": 24}


def solved(model, values, times, *, points=None, submeshes=None, tolerance=1e-7):
    simulation = pybamm.Simulation(
        model,
        parameter_values=values,
        var_pts=points,
        submesh_types=submeshes,
        solver=pybamm.IDAKLUSolver(
            rtol=tolerance, atol=tolerance / 100, options={"suppress_algebraic_error": True}
        ),
    )
    return simulation.solve([0, times[-1]], t_interp=times)


def p2d(values, times, *, x, shells):
    """PyBaMM's DFN on a graded mesh, its particles too."""
    model = pybamm.lithium_ion.DFN()
    points = {"x_n": x, "x_s": x // 3, "x_p": x, "r_n": shells, "r_p": shells}
    graded = pybamm.MeshGenerator(pybamm.Exponential1DSubMesh, {"side": "right", "stretch": 3.0})
    submeshes = {
        **model.default_submesh_types,
        **electrode_submeshes(),
        **{f"{side} particle": graded for side in SIDES},
    }
    return solved(model, values, times, points=points, submeshes=submeshes)


def linear_electrode(values, side, *, kappa, sigma):
    """Resistance (ohm m2) of a porous electrode with linear kinetics (Newman's macroscopic one)."""
    Side = side.capitalize()
    p = pybamm.LithiumIonParameters()
    domain = p.n if side == "negative" else p.p
    stoichiometry = (
        values[f"Initial concentration in {side} electrode [mol.m-3]"]
        / values[f"Maximum concentration in {side} electrode [mol.m-3]"]
    )
    T, rest = pybamm.Scalar(298.15), p.c_e_init
    j0 = float(values.evaluate(domain.prim.j0(rest, stoichiometry * domain.prim.c_max, T)))
    L = values[f"{Side} electrode thickness [m]"]
    fraction = values[f"{Side} electrode active material volume fraction"]
    area = 3 * fraction / values[f"{Side} particle radius [m]"]
    thermal = 8.314462618 * 298.15 / 96485.33212
    porosity = values[f"{Side} electrode porosity"]
    kappa = kappa * porosity ** values[f"{Side} electrode Bruggeman coefficient (electrolyte)"]
    sigma = sigma * (1 - porosity) ** values[f"{Side} electrode Bruggeman coefficient (electrode)"]
    nu = L * np.sqrt(area * j0 / thermal * (1 / sigma + 1 / kappa))
    ratio = sigma / kappa + kappa / sigma
    return L / (sigma + kappa) * (1 + (2 + ratio * np.cosh(nu)) / (nu * np.sinh(nu)))


def test_a_small_step_meets_the_linear_porous_electrode_at_the_rate_of_its_modes():
    """Newman's closed form; modes fall as 1/m2, what each adds to the voltage as 1/m4."""
    values = pybamm.ParameterValues("Marquis2019")
    kappa, sigma = 0.3, 5.0
    values["Electrolyte conductivity [S.m-1]"] = kappa
    for side in SIDES:
        values[f"{side.capitalize()} electrode conductivity [S.m-1]"] = sigma
        values[f"{side.capitalize()} particle diffusivity [m2.s-1]"] = 1e-8
    current = 1e-4 * values["Nominal cell capacity [A.h]"]
    values["Current function [A]"] = current
    density = current / (values["Electrode height [m]"] * values["Electrode width [m]"])
    separator = values["Separator thickness [m]"] / (
        kappa
        * values["Separator porosity"] ** values["Separator Bruggeman coefficient (electrolyte)"]
    )
    expected = separator + sum(
        linear_electrode(values, side, kappa=kappa, sigma=sigma) for side in SIDES
    )
    points = {**ModalSPMe().default_var_pts, "x_n": 30, "x_p": 30}
    missed = []
    orders = (2, 4, 8)
    for order in orders:
        solution = solved(ModalSPMe(order=order), values, np.array([0.0, 1e-6]), points=points)
        open_circuit = solution["Battery open-circuit voltage [V]"].entries[0]
        found = (open_circuit - solution["Voltage [V]"].entries[0]) / density
        missed.append(abs(found / expected - 1))
    rate = -np.polyfit(np.log(orders), np.log(missed), 1)[0]
    assert rate > 2.5
    assert missed[-1] < 2e-4


@pytest.mark.parametrize("name", ["OKane2022", "Ai2020"])
def test_it_is_far_closer_to_p2d_than_spme(name):
    """1.5C from full, where SPMe is tens of millivolts off; Ai2020's chi depends on the salt."""
    values = pybamm.ParameterValues(name)
    values["Current function [A]"] = 1.5 * values["Nominal cell capacity [A.h]"]
    times = np.linspace(0, 1500, 31)
    truth = p2d(values, times, x=30, shells=30)
    model = ModalSPMe()
    modal = solved(model, values, times)
    plain = solved(
        pybamm.lithium_ion.SPMe(),
        values,
        times,
        points={**model.default_var_pts, **VOLUMES},
        submeshes={**pybamm.lithium_ion.SPMe().default_submesh_types, **ladder_submeshes()},
    )

    def error(solution):
        apart = solution["Voltage [V]"].entries - truth["Voltage [V]"].entries
        return 1e3 * np.sqrt(np.mean(apart[1:] ** 2))

    assert error(modal) < 1.2
    assert error(modal) < error(plain) / 8
    salt = [one["Electrolyte concentration [mol.m-3]"] for one in (modal, plain, truth)]
    places = np.linspace(0.05, 0.95, 10) * truth["x [m]"].entries[-1, 0]
    at = [one(t=times[10], x=places) for one in salt]
    off = [np.sqrt(np.mean((one - at[2]) ** 2)) for one in at[:2]]
    assert off[0] < off[1] / 15
    for quantity in (
        "Negative electrode interfacial current density [A.m-2]",
        "Negative particle surface stoichiometry",
    ):
        found, true = modal[quantity], truth[quantity]
        places = np.array([0.1, 0.5, 0.9]) * values["Negative electrode thickness [m]"]
        at = [one(t=times[10], x=places) for one in (found, true)]
        assert np.ptp(at[1]) > 0.1 * np.abs(at[1]).mean()
        np.testing.assert_allclose(at[0], at[1], rtol=0.1)


def test_a_discharge_conserves_salt_and_ends_at_the_cut_off_of_the_uneven_reaction():
    values = pybamm.ParameterValues("Chen2020")
    values["Current function [A]"] = 1.5 * values["Nominal cell capacity [A.h]"]
    solution = pybamm.Simulation(ModalSPMe(), parameter_values=values).solve([0, 3600])
    assert solution["Voltage [V]"].entries[-1] == pytest.approx(2.5, abs=1e-4)
    assert abs(solution[EVEN].entries[-1] - 2.5) > 1e-3
    salt = solution["Total lithium in electrolyte [mol]"].entries
    np.testing.assert_allclose(salt, salt[0], rtol=1e-9)


def test_tables_of_potentials_and_diffusivities_do_not_stop_it():
    """Ecker2015 from full at 2C: kinks of a table, were they in the solver's iteration, do.

    Its diffusivities vary by two decades, and not as the mean stoichiometry would have them.
    """
    values = pybamm.ParameterValues("Ecker2015")
    values.set_initial_state(1.0)
    values["Current function [A]"] = 2 * values["Nominal cell capacity [A.h]"]
    times = np.linspace(0, 600, 31)
    modal = solved(ModalSPMe(), values, times)
    truth = p2d(values, times, x=24, shells=60)
    apart = modal["Voltage [V]"].entries - truth["Voltage [V]"].entries
    assert 1e3 * np.sqrt(np.mean(apart[1:] ** 2)) < 0.4


def test_a_cut_off_far_from_the_even_reaction_s_is_seen():
    """Ai2020 in the cold, where an even reaction's voltage is 0.3 V higher."""
    values = pybamm.ParameterValues("Ai2020")
    values.update(dict.fromkeys(("Ambient temperature [K]", "Initial temperature [K]"), 278.15))
    values.set_initial_state(1.0)
    values["Current function [A]"] = values["Nominal cell capacity [A.h]"]
    solution = pybamm.Simulation(ModalSPMe(), parameter_values=values).solve([0, 4000])
    assert solution["Voltage [V]"].entries[-1] == pytest.approx(3.0, abs=1e-3)
    assert solution[EVEN].entries[-1] > 3.2


@pytest.mark.parametrize(("soc", "first", "cut_off"), [(0.01, -1, 2.5), (0.985, 1, 4.2)])
def test_a_current_that_turns_meets_either_cut_off(soc, first, cut_off):
    """Where the voltage, followed beyond wider cut-offs, first crosses one of the cell's own."""
    values = pybamm.ParameterValues("Chen2020")
    values.set_initial_state(soc)
    times = np.linspace(0, 300, 601)
    swing = first * values["Nominal cell capacity [A.h]"] * np.sin(times / 12)
    values["Current function [A]"] = pybamm.Interpolant(times, swing, pybamm.t)
    found = solved(ModalSPMe(), values, times)
    wider = values.copy()
    wider.update({"Lower voltage cut-off [V]": 2.0, "Upper voltage cut-off [V]": 4.6})
    beyond = solved(ModalSPMe(), wider, times)
    volts = beyond["Voltage [V]"].entries
    outside = np.flatnonzero((volts < 2.5) | (volts > 4.2))
    assert swing[outside[0]] * first < 0, "the current has turned before"
    assert times[outside[0] - 1] <= found.t[-1] <= times[outside[0]]
    assert found["Voltage [V]"].entries[-1] == pytest.approx(cut_off, abs=1e-4)


def test_its_own_solver_is_as_close_as_the_model():
    """A current that bends each second; PyBaMM's own tolerance leaves more than 0.1 mV."""
    values = pybamm.ParameterValues("Chen2020")
    values.set_initial_state(0.7)
    times = np.arange(121.0)
    current = np.random.default_rng(0).uniform(-1, 2, times.size)
    current *= values["Nominal cell capacity [A.h]"]
    values["Current function [A]"] = pybamm.Interpolant(times, current, pybamm.t)
    exact = solved(ModalSPMe(), values, times, tolerance=1e-9)
    found = pybamm.Simulation(ModalSPMe(), parameter_values=values).solve([0, 120], t_interp=times)
    apart = found["Voltage [V]"].entries - exact["Voltage [V]"].entries
    assert 1e3 * np.sqrt(np.mean(apart**2)) < 0.02


@pytest.mark.parametrize(("points", "share"), [({}, 0.7), (VOLUMES, 0.5)])
@pytest.mark.parametrize("name", ["Chen2020", "Ecker2015"])
def test_the_derivatives_of_its_blocks_are_those_of_the_whole(name, points, share):
    """On its own few points, where the whole is cheaper, and on finite volumes."""
    values, model = pybamm.ParameterValues(name), ModalSPMe()
    volumes = dict.fromkeys(LAYERS, pybamm.Uniform1DSubMesh) if points else {}
    simulation = pybamm.Simulation(
        model,
        parameter_values=values,
        var_pts={**model.default_var_pts, **points},
        submesh_types={**model.default_submesh_types, **volumes},
    )
    simulation.build()
    model = simulation.built_model
    t, y = casadi.MX.sym("t"), casadi.MX.sym("y", model.len_rhs_and_alg)
    whole = casadi.vertcat(
        model.concatenated_rhs.to_casadi(t, y),
        model.concatenated_algebraic.to_casadi(t, y),
    )
    found, expected = (
        casadi.Function("f", [t, y], [one])
        for one in (model.build_casadi_jacobian(whole, y), casadi.jacobian(whole, y))
    )
    start = np.ravel(model.concatenated_initial_conditions.evaluate())
    state = start + 1e-3 * np.random.default_rng(0).normal(size=start.size)
    np.testing.assert_allclose(
        found(1.0, state).full(), expected(1.0, state).full(), rtol=1e-10, atol=1e-14
    )
    assert found.n_instructions() < share * expected.n_instructions()


def test_it_ends_where_the_salt_is_used_up():
    values = pybamm.ParameterValues("Chen2020")
    values["Current function [A]"] = 3 * values["Nominal cell capacity [A.h]"]
    solution = pybamm.Simulation(ModalSPMe(), parameter_values=values).solve([0, 900])
    assert "Salt used up" in solution.termination
    salt = solution["Electrolyte concentration [mol.m-3]"].entries
    assert salt[:, -1].min() == pytest.approx(0.05 * salt[0, 0], rel=1e-3)
    assert salt[:, :-1].min() > 0.05 * salt[0, 0]


def test_a_charge_at_constant_current_then_voltage_holds_the_voltage_of_the_uneven_reaction():
    experiment = pybamm.Experiment(
        ["Charge at 1C until 4.2 V", "Hold at 4.2 V until C/3", "Discharge at 1C for 60 seconds"]
    )
    values = pybamm.ParameterValues("Chen2020")
    simulation = pybamm.Simulation(ModalSPMe(), parameter_values=values, experiment=experiment)
    solution = simulation.solve(initial_soc=0.6)
    first, second, _ = solution.cycles
    assert first["Voltage [V]"].entries[-1] == pytest.approx(4.2, abs=1e-5)
    np.testing.assert_allclose(second["Voltage [V]"].entries[1:], 4.2, atol=1e-4)
    assert abs(first[EVEN].entries[-1] - 4.2) > 1e-3


def test_a_discharge_by_name_is_closer_to_the_dfn_s_than_spme_s():
    values = pybamm.ParameterValues("Chen2020")
    found = {
        name: discharge(values, c_rates=[1.0], model=name)["voltage"].values.squeeze()
        for name in ("DFN", "ModalSPMe", "SPMe")
    }
    off = {
        name: np.sqrt(np.nanmean((found[name] - found["DFN"])[2:-2] ** 2))
        for name in ("ModalSPMe", "SPMe")
    }
    assert off["ModalSPMe"] < off["SPMe"] / 10


def test_what_it_does_not_hold_for_is_refused():
    with pytest.raises(ValueError, match=r"order is 0, expected 1 or more modes"):
        ModalSPMe(order=0)
    with pytest.raises(ValueError, match=r"default options, not thermal = 'lumped'"):
        ModalSPMe({"thermal": "lumped"})
