"""The kept runs of molten NaCl, read as a user would: published conductivity, mass ratio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atomistic.units import mass

STUDY = Path(__file__).parents[2] / "examples" / "molten_salt_transport" / "study.py"


@pytest.fixture(scope="module")
def study(example):
    return example("molten_salt_transport")


@pytest.fixture(scope="module")
def found(study):
    return study.main()


def test_conductivity_is_the_published_one_within_the_errors(study, found):
    value, error = found["conductivity"].item(), found["conductivity_std"].item()
    published, spread = study.PUBLISHED
    assert abs(value - published) < 2 * np.hypot(error, spread)
    assert error < 0.06 * value
    assert found["nernst_einstein_conductivity"].item() > value


def test_transference_number_is_the_ratio_of_masses(found):
    exact = mass("Cl") / (mass("Na") + mass("Cl"))
    assert round(exact, 4) == 0.6066
    assert found["transference_number"].item() == pytest.approx(exact, abs=1e-6)
    assert np.ptp(found["transference_number_draw"].values) < 1e-6


def test_sodium_is_the_faster_ion_and_both_are_diffusive(found):
    assert found["diffusive"].all()
    sodium, chloride = (found["self_diffusivity"].sel(species=name).item() for name in ("Na", "Cl"))
    assert chloride < sodium
    # 1728 ions of this potential in the box: 8.38 and 7.71e-9, between a small box and infinity
    for value, published in ((sodium, 8.38e-9), (chloride, 7.71e-9)):
        assert published < value < 1.25 * published
