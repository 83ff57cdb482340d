"""Fits: they learn, stop, go on where they were broken off, and leave frozen parts alone."""

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from ase.build import bulk

from atomistic.learning import distil
from atomistic.learning.descriptors import SymmetryFunctions
from atomistic.learning.networks import AtomNetwork, Layout, as_potential
from atomistic.learning.training import Settings, fit
from atomistic.potentials.pairs import lennard_jones

KINDS = {"Ar": (3.4, 0.0103), "Kr": (3.6, 0.0141), "Xe": (3.9, 0.0191)}
TEACHER = lennard_jones(KINDS, cutoff=5.5)
SMALL = SymmetryFunctions(cutoff=5.5, radial=8, shells=1, powers=(1,), nearest=2.5)
BRIEF = Settings(steps=40, batch=4, look=10)


def frames(count, *, elements=("Ar", "Kr"), seed=0):
    """Rattled, strained fcc mixtures of sixteen atoms with their labels."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        atoms = bulk("Ar", cubic=True, a=6.0 + 0.3 * rng.uniform()).repeat((2, 2, 1))
        atoms.set_chemical_symbols(list(rng.choice(elements, len(atoms))))
        atoms.rattle(0.12, rng=rng)
        made.append(atoms)
    return distil.label(made, TEACHER)


def network(**options) -> AtomNetwork:
    return AtomNetwork(Layout(("Ar", "Kr"), SMALL, neurons=(16,), **options))


def weights(model: AtomNetwork) -> list[np.ndarray]:
    return [value.detach().numpy().copy() for value in model.parameters()]


def test_a_network_learns_forces_energies_and_stresses():
    torch.set_num_threads(1)
    learnt = network()
    found = fit(
        learnt, frames(30), frames(8, seed=1), settings=Settings(steps=300, batch=6, virial=0.3)
    )
    test = frames(10, seed=2)
    errors = distil.errors(test, as_potential(learnt))
    assert errors.relative_force < 0.1
    stress = np.std([frame.get_stress() for frame in test]) * 160.2
    assert errors.stress < 0.3 * stress
    assert found.loss == min(loss for _, loss in found.history)


def scaled(some: list[Atoms], factor: float) -> list[Atoms]:
    """The same frames in another unit of energy."""
    from ase.calculators.singlepoint import SinglePointCalculator

    copies = []
    for frame in some:
        copy = frame.copy()
        results = {name: factor * value for name, value in frame.calc.results.items()}
        copy.calc = SinglePointCalculator(copy, **results)
        copies.append(copy)
    return copies


def test_the_loss_does_not_depend_on_units_or_on_the_size_of_frames():
    """In meV instead of eV, or with every cell laid out twice, the fit is the same."""
    learn, judge = frames(6), frames(3, seed=1)
    twice = [
        distil.label([frame.repeat((2, 1, 1)) for frame in some], TEACHER)
        for some in (learn, judge)
    ]
    reference, alike, large = network(), network(), network()
    first = fit(reference, learn, judge, settings=BRIEF)
    second = fit(alike, scaled(learn, 1000), scaled(judge, 1000), settings=BRIEF)
    third = fit(large, *twice, settings=BRIEF)
    assert second.loss == pytest.approx(first.loss, rel=1e-3)
    assert third.loss == pytest.approx(first.loss, rel=0.05)
    state = ts.io.atoms_to_state(judge, "cpu", torch.float64)
    torch.testing.assert_close(
        alike(state)["forces"], 1000 * reference(state)["forces"], rtol=1e-2, atol=1e-2
    )


class Broken(RuntimeError):
    pass


def test_a_fit_goes_on_where_it_was_broken_off_to_the_bit(tmp_path):
    learn, judge = frames(6), frames(3, seed=1)
    whole = network(members=2)
    fit(whole, learn, judge, settings=BRIEF, folder=tmp_path / "whole")

    def stop(done, total, text):
        if done == 20:
            raise Broken

    with pytest.raises(Broken):
        fit(network(members=2), learn, judge, settings=BRIEF, folder=tmp_path / "x", progress=stop)
    resumed = network(members=2)
    found = fit(resumed, learn, judge, settings=BRIEF, folder=tmp_path / "x")
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [step for step, _ in found.history] == [10, 20, 30, 40]
    with pytest.raises(ValueError, match="belongs to another fit"):
        fit(network(members=2), learn[1:], judge, settings=BRIEF, folder=tmp_path / "x")


def test_a_fit_stops_early_and_keeps_the_best_weights():
    # judged by noise, which nothing learns
    learn, judge = frames(4), frames(3, seed=1)
    rng = np.random.default_rng(0)
    for frame in judge:
        frame.calc.results["forces"] = rng.normal(size=(len(frame), 3))
    hasty = Settings(steps=2000, batch=4, look=5, patience=3)
    found = fit(network(), learn, judge, settings=hasty)
    assert "had not improved for 3 looks" in found.outcome
    assert found.history[-1][0] == found.step + 15 < 2000


def test_members_see_different_frames_and_differ():
    learnt = network(members=3)
    fit(learnt, frames(8), frames(3, seed=1), settings=BRIEF)
    state = ts.io.atoms_to_state(frames(3, seed=2), "cpu", torch.float64)
    _, forces = learnt.members(state)
    assert float(forces.std(1).mean()) > 1e-4


def test_a_new_element_is_learnt_from_few_frames_while_the_rest_is_frozen():
    torch.set_num_threads(1)
    ends, three = ("Ar", "Xe"), ("Ar", "Kr", "Xe")
    base = AtomNetwork(Layout(ends, SMALL, neurons=(16,)))
    fit(
        base,
        frames(40, elements=ends),
        frames(8, elements=ends, seed=1),
        settings=Settings(steps=300, batch=6),
    )
    wider = base.with_elements(three)
    old = ts.io.atoms_to_state(frames(3, elements=ends, seed=2), "cpu", torch.float64)
    before = wider(old)["forces"]
    test = frames(10, elements=three, seed=3)
    untrained = distil.errors(test, as_potential(wider)).relative_force
    few, judge = (frames(n, elements=three, seed=4 + n) for n in (6, 3))
    brief = Settings(steps=100, batch=6, learning_rate=(1e-2, 1e-3))
    fit(wider, few, judge, settings=brief, elements=["Kr"])
    torch.testing.assert_close(wider(old)["forces"], before, rtol=0, atol=0)
    scratch = AtomNetwork(Layout(three, SMALL, neurons=(16,)))
    fit(scratch, few, judge, settings=brief)
    tuned = distil.errors(test, as_potential(wider)).relative_force
    assert tuned < 0.7 * untrained
    assert tuned < 0.7 * distil.errors(test, as_potential(scratch)).relative_force
    with pytest.raises(ValueError, match="asked to learn Rn"):
        fit(wider, few, judge, elements=["Rn"])


def test_frames_without_labels_or_none_at_all_are_refused():
    bare = [frame.copy() for frame in frames(2)]
    with pytest.raises(ValueError, match="2 of 2 frames carry no labels"):
        fit(network(), bare, frames(1))
    with pytest.raises(ValueError, match="0 to judge by"):
        fit(network(), frames(1), [])


def test_a_fitted_network_is_tuned_from_where_it_stands():
    learnt, learn, judge = network(), frames(8), frames(3, seed=1)
    first = fit(learnt, learn, judge, settings=Settings(steps=60, batch=4, look=20))
    level = learnt.linear.clone()
    soft = Settings(steps=20, batch=4, look=5, learning_rate=(1e-4, 1e-5))
    second = fit(learnt, learn, judge, settings=soft)
    assert second.history[0][1] == pytest.approx(first.loss, rel=0.2)
    torch.testing.assert_close(learnt.linear, level, rtol=0, atol=0)
