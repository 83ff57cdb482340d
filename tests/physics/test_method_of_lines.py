"""Where no closed form is: large steps of unlike ions, and laws of concentration through time."""

from __future__ import annotations

import numpy as np
import pytest

from continuum import nernst_planck
from continuum.concentrated import polarise
from continuum.inputs import Solution, Species, Wall
from couplers.liquid import landesfeind_ec_emc
from tests.physics import lines


def extrapolated(solve, counts):
    """Answers on two meshes of the method of lines, second order, taken to none."""
    coarse, fine = (solve(n) for n in counts)
    ratio = ((counts[1] - 1) / (counts[0] - 1)) ** 2
    return (ratio * fine - coarse) / (ratio - 1)


@pytest.mark.parametrize(("charges", "volts"), [((2, -1), (-3, 2)), ((1, -3), (4, -4))])
def test_a_large_step_of_unlike_ions(charges, volts):
    a, b = charges
    solution = Solution((Species("a", a, -5.0 * b, 1e-9), Species("b", b, 5.0 * a, 3e-9)))
    length = 20 * solution.debye_length
    stern = solution.permittivity / (0.2 * solution.debye_length)
    walls = [Wall(potential=v * solution.thermal_voltage, stern_capacitance=stern) for v in volts]
    times = np.array([0.03, 0.3, 3.0, 30.0]) * length * solution.debye_length / 1e-9
    got = nernst_planck.solve(
        solution,
        {"left": walls[0], "right": walls[1]},
        length=length,
        times=times,
        tolerance=1e-6,
    )

    def reference(count):
        x = lines.vertices(count, length, 6.0 * solution.debye_length / (count - 1))
        return lines.nernst_planck(solution, walls, x, times)["charge"]

    expected = extrapolated(reference, (121, 241))
    np.testing.assert_allclose(got.surface_charge, expected, rtol=3e-5)


def test_a_layer_polarises_by_laws_of_concentration():
    electrolyte = landesfeind_ec_emc(concentration=1000.0, temperature=298.15)
    thickness, current = 100e-6, 20.0
    times = np.array([1.0, 10.0, 100.0])
    got = polarise(
        electrolyte, thickness=thickness, current_density=current, times=times, tolerance=1e-7
    )

    def reference(count):
        # half cells at the ends, where the layer is steepest at first
        x = lines.vertices(count, thickness, 0.2 * thickness / (count - 1))
        found = lines.polarisation(electrolyte, x, current, times)
        return np.column_stack([found["drop"], found["concentration"][:, [0, -1]]])

    expected = extrapolated(reference, (121, 241))
    ends = got.concentration.isel(x=[0, -1]).values
    np.testing.assert_allclose(got.potential_drop, expected[:, 0], rtol=3e-5)
    np.testing.assert_allclose(ends.reshape(len(times), 2), expected[:, 1:], rtol=3e-5)
