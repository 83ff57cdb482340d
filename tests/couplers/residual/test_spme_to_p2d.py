"""The literate script of examples/spme_to_p2d says what it must."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "examples" / "spme_to_p2d" / "study.py"


@pytest.fixture(scope="module")
def study(example) -> ModuleType:
    return example("spme_to_p2d")


def test_correction_brings_spme_to_p2d_and_the_figure_shows_it(
    study: ModuleType, tmp_path: Path
) -> None:
    driven, fast = study.cycle(seconds=120), study.discharge(1.5)
    for found, best, least_gain in ((driven, 0.3, 1.5), (fast, 2.0, 5.0)):
        error = study.errors(found)
        assert error["ensemble"] < best
        assert error["ensemble"] < error["SPMe"] / least_gain
        assert error["in the solver"] < error["SPMe"]
        assert error["modal"] < min(0.6, error["SPMe"] / 5)
    inside = abs(driven["voltage"] - driven["p2d_voltage"]) <= driven["band"]
    assert float(inside.mean()) > 0.98
    study.draw(driven, {1.5: fast}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_beyond_the_electrolyte_it_abstains_and_the_modal_one_goes_on(study: ModuleType) -> None:
    beyond = study.discharge(study.TOO_FAST)
    assert bool(beyond["abstained"].all())
    assert "abstained at 100.0 % of the points" in beyond.attrs["outcome"]
    assert np.isfinite(beyond["p2d_voltage"]).sum() > 10
    assert study.errors(beyond)["modal"] < 4.0
