"""Labels kept once, frames chosen apart, a loop that goes on, and acceptance on one's own way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from ase.build import bulk
from ase.io import read

from atomistic.learning.acceptance import accept
from atomistic.learning.active import Plan, choose, improve, walk
from atomistic.learning.baseline import corrected, without
from atomistic.learning.descriptors import SymmetryFunctions
from atomistic.learning.distil import label
from atomistic.learning.networks import AtomNetwork, Layout, as_potential
from atomistic.learning.store import LabelStore, fingerprint
from atomistic.learning.training import Settings
from atomistic.learning.walks import walk_on
from atomistic.potentials.committee import committee, members
from atomistic.potentials.pairs import lennard_jones

TEACHER = lennard_jones(cutoff=5.2)
LAYOUT = Layout(
    ("Ar",),
    SymmetryFunctions(cutoff=5.2, radial=8, shells=1, powers=(1,), nearest=2.5),
    channels=1,
    neurons=(8,),
    members=3,
)
HASTY = Settings(steps=40, batch=4, look=20)


def crystal(size=1) -> Atoms:
    return bulk("Ar", cubic=True, a=5.3).repeat((2, size, 1))


def rattled(count, amplitude=0.15, seed=0):
    rng = np.random.default_rng(seed)
    frames = [crystal() for _ in range(count)]
    for atoms in frames:
        atoms.rattle(amplitude, rng=rng)
    return frames


def test_a_structure_is_kept_once_however_it_is_written(tmp_path):
    frame = label(rattled(1), TEACHER)[0]
    order = np.random.default_rng(0).permutation(len(frame))
    moved = frame[order]
    moved.positions += moved.cell.array[0] - 2 * moved.cell.array[1]
    again = label([moved], TEACHER)[0]
    other = label(rattled(1, seed=1), TEACHER)[0]
    store = LabelStore(tmp_path / "labels.extxyz")
    assert store.add([frame, again], provenance={"labelled_by": "lj", "sha": ""}) == 1
    assert store.add([again, other], provenance={"labelled_by": "lj", "round": 3}) == 1
    kept = store.frames()
    assert len(kept) == 2
    assert kept[1].info["round"] == 3
    assert kept[0].info["labelled_by"] == "lj"
    np.testing.assert_allclose(kept[0].get_forces(), frame.get_forces(), atol=1e-7)
    np.testing.assert_allclose(kept[0].get_stress(), frame.get_stress(), atol=1e-7)
    nudged = frame.copy()
    nudged.positions[0, 0] += 0.01
    swapped = frame.copy()
    swapped.symbols[0] = "Kr"
    assert len({fingerprint(frame), fingerprint(nudged), fingerprint(swapped)}) == 3
    with pytest.raises(ValueError, match="1 of 1 frames carry no labels"):
        store.add([nudged], provenance={})


def test_chosen_frames_are_uncertain_and_differ():
    quiet, loud = rattled(5, 0.02), rattled(5, 0.3, seed=1)
    frames = quiet + [loud[0]] * 10 + loud
    spread = np.array([0.01] * 5 + [1.0] * 10 + [0.5, 0.6, 0.7, 0.8, 5.0])
    network = AtomNetwork(LAYOUT)
    chosen = choose(frames, spread, quiet, network, count=5, above=0.1, below=3.0)
    assert min(chosen) >= 5  # none that is certain
    assert 19 not in chosen  # none from where the committee went astray
    assert sum(place <= 15 for place in chosen) == 1  # of eleven that are alike, one
    assert len(chosen) == 4
    assert choose(frames, spread, [], network, count=3, above=9.0) == []


def test_a_baseline_is_not_counted_twice():
    baseline = lennard_jones({"Ar": (3.2, 0.004)}, cutoff=5.0)
    frames = label(rattled(3), TEACHER)
    rest = without(frames, baseline)
    state = ts.io.atoms_to_state(frames, "cpu", torch.float64)
    part = baseline.model(state)
    energy = [frame.get_potential_energy() for frame in rest]
    np.testing.assert_allclose(
        np.array(energy) + part["energy"].numpy(),
        [frame.get_potential_energy() for frame in frames],
    )
    network = as_potential(AtomNetwork(LAYOUT))
    whole = corrected(baseline, network)
    for name, value in whole.model(state).items():
        torch.testing.assert_close(value, part[name] + network.model(state)[name])
    mean = members(whole.model, state)[1].mean(1)
    torch.testing.assert_close(mean, whole.model(state)["forces"])
    assert without(frames, None) == frames


def test_a_walker_that_strays_is_sent_back_and_its_frame_is_kept():
    pair = committee([TEACHER, lennard_jones({"Ar": (3.45, 0.0103)}, cutoff=5.2)])
    plan = Plan(temperatures=(5.0, 4000.0), target=0.02, picoseconds=0.2, look=5, reset=10.0)
    met = walk(pair, [crystal()], plan, seed=1)
    spread = met.spread.reshape(-1, 2)
    assert met.resets > 0
    assert spread[:, 0].max() < 0.1 < 0.2 < spread[:, 1].max()
    assert len(met.frames) == len(met.spread)
    state = ts.io.atoms_to_state([met.frames[int(met.spread.argmax())]], "cpu", torch.float64)
    forces = members(pair.model, state)[1]
    worst = ((forces[:, 0] - forces[:, 1]).square().sum(1) / 6).sqrt().max()
    assert float(worst) == pytest.approx(met.spread.max(), rel=1e-6)


class Stopped(RuntimeError):
    pass


@pytest.mark.parametrize("word", ["training", "walking", "labelling"])
def test_a_loop_that_was_broken_off_goes_on_to_the_same_end(tmp_path, word):
    torch.set_num_threads(1)
    plan = Plan(temperatures=(300.0,), target=1e-4, picoseconds=0.04, labels=3, rounds=2)
    options = {"plan": plan, "layout": LAYOUT, "settings": HASTY, "seed": 3}
    whole = improve([crystal()], TEACHER, folder=tmp_path / "a", **options)

    def stop(done, total, text):
        if text.startswith(f"round 2: {word}"):
            raise Stopped

    with pytest.raises(Stopped):
        improve([crystal()], TEACHER, folder=tmp_path / "b", progress=stop, **options)
    resumed = improve([crystal()], TEACHER, folder=tmp_path / "b", **options)
    assert resumed.rounds == whole.rounds
    assert not resumed.reached
    assert "after 2 rounds" in resumed.outcome.lower()
    one, other = (read(tmp_path / x / "labels.extxyz", ":") for x in "ab")
    assert [frame.info["key"] for frame in one] == [frame.info["key"] for frame in other]
    assert {frame.info["labelled_by"] for frame in one} == {TEACHER.name}


def test_a_loop_without_a_committee_or_a_plan_without_sense_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least two members"):
        improve(
            [crystal()], TEACHER, folder=tmp_path, layout=Layout(("Ar",)),
            plan=Plan(temperatures=(100.0,), target=0.1),
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"target is -1.*temperatures are missing"):
        Plan(temperatures=(), target=-1.0)


def test_acceptance_is_judged_on_the_students_own_frames():
    """A student 10 % too deep is wrong by 10 %, wherever it walks."""
    deep = lennard_jones({"Ar": (3.4, 1.1 * 0.01034)}, cutoff=5.2)
    options = {"temperatures": [40.0], "picoseconds": 0.2, "frames": 3}
    found = accept(deep, TEACHER, [crystal(2)], limit=0.11, **options)
    assert found.errors.relative_force == pytest.approx(0.1, rel=1e-5)
    assert found.accepted
    assert found.outcome.startswith("Accepted: on 3 frames")
    strict = accept(deep, TEACHER, [crystal(2)], limit=0.09, **options)
    assert strict.outcome.startswith("Not accepted")
    with pytest.raises(ValueError, match="broke off"):
        accept(deep, TEACHER, [crystal(2)], temperatures=[1e7], picoseconds=0.1)


def test_the_example_fills_a_hole_that_no_test_error_shows(example, tmp_path):
    torch.set_num_threads(1)
    found, numbers = example("active_learning").study(tmp_path, say=lambda text: None)
    assert found.reached
    assert len(found.rounds) - 1 <= 4  # the last walk finds nothing to label
    assert found.labels <= 16 + 4 * 16
    assert numbers["cold_before"] < 0.05 * numbers["hot_before"]
    assert numbers["hot_after"] < 0.1 * numbers["hot_rms_force"] < numbers["hot_before"]
    assert numbers["resets_after"] == 0 < numbers["resets_before"]


def test_the_ladder_of_the_example_learns_rung_by_rung(example):
    torch.set_num_threads(1)
    curves = example("train_a_student").study((4, 16), steps=60)
    assert set(curves) == {"symmetry functions", "SOAP"}
    for few, many in curves.values():
        assert many < few
    assert curves["symmetry functions"][-1] < 0.08


def test_the_target_must_hold_further_on_than_where_the_walk_began(tmp_path):
    """Two potentials that agree in the crystal; the walk that goes on is hot, and says so."""
    pair = committee([TEACHER, lennard_jones({"Ar": (3.41, 0.01034)}, cutoff=5.2)])
    plan = Plan(temperatures=(600.0,), target=1.0, picoseconds=0.06, look=5, reset=1e9, further=0)
    first = walk_on(tmp_path / "a", pair, [crystal()], replace(plan, target=1e9), seed=1)
    plan = replace(plan, target=1.01 * float(first.spread.max()))
    short = walk_on(tmp_path / "b", pair, [crystal()], plan, seed=1)
    assert len(short.frames) == len(first.frames) and short.spread.max() < plan.target
    long = walk_on(tmp_path / "b", pair, [crystal()], replace(plan, further=9), seed=1)
    assert len(long.frames) > len(short.frames)
    assert long.spread.max() > plan.target
    np.testing.assert_array_equal(long.spread[: len(short.spread)], short.spread)
    # it stops walking where it has met what it was looking for, and reads what it has walked
    parts = len(list((tmp_path / "b").glob("walk*.extxyz")))
    assert len(long.frames) == parts * len(short.frames) and parts < 10
    again = walk_on(tmp_path / "b", pair, [crystal()], replace(plan, further=9), seed=1)
    np.testing.assert_array_equal(again.spread, long.spread)
    # each part begins where the last one ended
    pieces = (("walk.extxyz", -1), ("walk_2.extxyz", 0))
    ends = [read(tmp_path / "b" / name, at) for name, at in pieces]
    assert np.abs(ends[1].positions - ends[0].positions).max() < 0.4
