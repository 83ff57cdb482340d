"""The shipped student against its teacher, on the runs recorded in examples."""

from pathlib import Path

import pytest

STUDY = Path(__file__).parents[2] / "examples" / "argyrodite_student"


@pytest.fixture(scope="module")
def compare(example):
    return example("argyrodite_student", "compare")


def test_lithium_diffuses_as_fast_as_with_the_teacher(compare):
    found = compare.diffusivities()
    assert found["student_over_teacher"] == pytest.approx(1.0, abs=0.25)
    for who in ("teacher", "student"):
        assert found[who]["verdict"].startswith("diffusive")
        assert found[who]["std_m2_s"] < 0.2 * found[who]["self_diffusivity_m2_s"]


def test_recorded_runs_say_how_they_were_made(compare):
    import xarray as xr

    for path in compare.KEPT.values():
        with xr.open_dataset(path) as run:
            assert ".py" in run.attrs["made_by"]
            assert run.attrs["made_by"].count(",") >= 3
