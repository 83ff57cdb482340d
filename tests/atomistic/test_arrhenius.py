"""The Arrhenius posterior: coverage at 300 K, members, refusals and sentences."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import constants, stats

from atomistic.observables.arrhenius import arrhenius

TEMPERATURES = np.array([600.0, 700.0, 850.0, 1000.0])
ENERGY = 0.30  # eV
PREFACTOR = 3e6  # S K m-1


def truth(temperature):
    return (
        PREFACTOR
        / temperature
        * np.exp(-ENERGY * constants.e / (constants.k * np.asarray(temperature)))
    )


def measured(rng, *, error=0.15, draws=400, members=("a",), factor=(1.0,)):
    """Posterior draws of a conductivity whose centre is itself off by `error` (relative)."""
    share = draws // len(members)
    sample = [
        truth(TEMPERATURES)[:, None]
        * scale
        * np.exp(error * rng.standard_normal((len(TEMPERATURES), 1)))
        * np.exp(error * rng.standard_normal((len(TEMPERATURES), share)))
        for scale in factor
    ]
    return xr.Dataset(
        {
            "temperature": ("condition", TEMPERATURES),
            "conductivity_draw": (("condition", "draw"), np.concatenate(sample, axis=1)),
        },
        coords={"member": ("draw", np.repeat(members, share))},
    )


def test_extrapolated_interval_and_activation_energy_cover_the_truth():
    rng = np.random.default_rng(0)
    hits = {"here_95": [], "here_68": [], "energy_95": [], "energy_68": []}
    for repeat in range(200):
        found = arrhenius(measured(rng), temperature=300.0, seed=repeat)
        for key, name, true in (
            ("here", "conductivity", truth(300.0)),
            ("energy", "activation_energy_electronvolt", ENERGY),
        ):
            for level in (68, 95):
                low, high = found[f"{name}_lower_{level}"], found[f"{name}_upper_{level}"]
                hits[f"{key}_{level}"].append(bool(low <= true <= high))
    for key, found in hits.items():
        fewest, most = stats.binom.ppf([0.001, 0.999], 200, int(key[-2:]) / 100)
        assert fewest <= sum(found) <= most, (key, sum(found))


def test_exact_input_gives_the_exact_line_within_the_scatter_prior():
    found = arrhenius(measured(np.random.default_rng(1), error=1e-6), temperature=300.0)
    energy = found["activation_energy_electronvolt"].item()
    assert energy == pytest.approx(ENERGY, abs=3e-3)
    assert found["activation_energy"].item() == pytest.approx(
        energy * constants.e * constants.Avogadro, rel=1e-12
    )
    assert found["prefactor"].item() == pytest.approx(PREFACTOR, rel=0.05)
    assert found["conductivity"].item() == pytest.approx(truth(300.0), rel=0.1)


def test_members_keep_their_own_lines():
    data = measured(
        np.random.default_rng(2), error=0.02, members=("soft", "stiff"), factor=(2.0, 1.0)
    )
    found = arrhenius(data, temperature=600.0)
    median = found["conductivity_draw"].groupby("member").median()
    ratio = median.sel(member="soft") / median.sel(member="stiff")
    assert ratio.item() == pytest.approx(2.0, rel=0.15)


def test_sentence_says_how_far_and_refusal_says_why():
    data = measured(np.random.default_rng(3))
    assert "300 K below the window" in arrhenius(data, temperature=300.0).attrs["verdict"]
    inside = arrhenius(data, temperature=700.0)
    assert inside.attrs["verdict"].startswith("interpolated")
    assert not inside["extrapolated"].item()
    data["conductivity_draw"][1:] = np.nan
    refused = arrhenius(data, temperature=300.0)
    assert refused.attrs["verdict"].startswith("refused: 1 of 4 temperatures")
    assert np.isnan(refused["conductivity"]) and np.isnan(refused["conductivity_std"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantity": "viscosity"}, "expected one of"),
        ({"temperature": -1.0}, "must be positive"),
        ({"quantity": "self_diffusivity"}, "holds no"),
    ],
)
def test_bad_input_gets_one_sentence(options, said):
    data = measured(np.random.default_rng(4)).assign_coords(species=["Li"])
    with pytest.raises(ValueError, match=said):
        arrhenius(data, **options)
