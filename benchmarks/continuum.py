"""Accuracy, time, memory and robustness of the continuum solvers, beside matscipy's.

    python benchmarks/continuum.py [one_dimension] [peer] [scale] [ranks] [random]

runs the parts named, or all, and puts their numbers into ``continuum.json`` beside this script.
Times are after compilation, the best of several; every error is against an exact solution.
"""

import json
import logging
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from continuum import double_layer, nernst_planck, poisson_boltzmann  # noqa: E402
from continuum.finite_elements import MPI  # noqa: E402
from continuum.impedance import spectrum  # noqa: E402
from continuum.inputs import FARADAY, Solution, Species, Wall  # noqa: E402
from continuum.meshes import block, graded  # noqa: E402
from continuum.transport_form import build  # noqa: E402
from continuum.transport_problem import System, fill, start, state_of, structure  # noqa: E402

D = 1e-9


def salt(concentration):
    """Make a 1:1 electrolyte in water."""
    return Solution(
        (Species("cation", 1, concentration, D), Species("anion", -1, concentration, D))
    )


def best(call, repeats=7):
    """Shortest wall time (s) of a call, and its last answer."""
    shortest = np.inf
    for _ in range(repeats):
        started = time.perf_counter()
        answer = call()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest, answer


def one_dimension():
    """Poisson-Boltzmann on a line, and the impedance of a blocking cell."""
    solution, rows = salt(10.0), {}
    for zeta in (1, 5, 20, 40):
        wall = {"left": Wall(potential=zeta * solution.thermal_voltage)}
        seconds, got = best(lambda wall=wall: poisson_boltzmann.solve(solution, wall), 20)
        volts = zeta * solution.thermal_voltage
        near = got.x.values < 25 * solution.debye_length
        exact = double_layer.profile(solution, got.x.values[near], potential=volts)
        charge = float(double_layer.surface_charge(solution, volts))
        slope = float(double_layer.capacitance(solution, volts))
        rows[f"zeta {zeta} RT/F"] = {
            "milliseconds": 1e3 * seconds,
            "newton_iterations": int(got.attrs["newton_iterations"]),
            "potential_error_V": float(np.abs(got.potential.values[near] - exact).max()),
            "charge_error": abs(float(got.surface_charge[0]) / charge - 1),
            "capacitance_error": abs(float(got.differential_capacitance[0]) / slope - 1),
        }
    hertz = np.logspace(-3, 3, 61) * D / (solution.debye_length * 50 * solution.debye_length)
    wall = Wall(potential=0.0, stern_capacitance=solution.permittivity / solution.debye_length)
    arguments = {"length": 100 * solution.debye_length, "cells": 200}

    def swing(count):
        picked = hertz[:count]
        return spectrum(solution, {"left": wall, "right": wall}, frequencies=picked, **arguments)

    few, many = best(lambda: swing(1), 3)[0], best(lambda: swing(len(hertz)), 3)[0]
    return {
        "poisson_boltzmann_256_cells": rows,
        "impedance_milliseconds_per_frequency": 1e3 * (many - few) / (len(hertz) - 1),
        "impedance_milliseconds_steady_state_and_first_frequency": 1e3 * few,
    }


def interface_profile(x, solution, volts, length):
    """Potential (V) between a wall and a held bulk at a finite distance, by its first integral."""
    unit, debye = solution.thermal_voltage, solution.debye_length
    if length > 30 * debye:
        # the far end is not felt
        return double_layer.profile(solution, x, potential=volts)

    def pace(psi, end):
        return 1 / np.sqrt(4 * np.sinh(psi / 2) ** 2 + end**2)

    def reach(end):
        return quad(pace, 0, volts / unit, args=(end,), epsabs=0, epsrel=1e-13, limit=400)[0]

    end = brentq(lambda e: reach(e) - length / debye, 1e-12, 1e3, xtol=1e-16, rtol=1e-14)
    marched = solve_ivp(
        lambda s, y: [y[1], np.sinh(y[0])],
        [0, length / debye],
        [0.0, end],
        method="DOP853",
        t_eval=np.sort((length - x) / debye),
        rtol=1e-13,
        atol=1e-15,
    )
    return unit * marched.y[0][::-1]


def cell_profile(x, solution, volts, length):
    """Potential (V) of a wide blocking cell whose layers have taken salt from its middle."""
    zeta = volts / 2 / solution.thermal_voltage
    c = solution.species[0].concentration

    def lost(middle):
        debye = salt(middle).debye_length
        return middle * (length + 8 * debye * np.sinh(zeta / 4) ** 2) - c * length

    inner = salt(brentq(lost, 0.1 * c, c, rtol=1e-15))
    left = double_layer.profile(inner, x, potential=volts / 2)
    return left + double_layer.profile(inner, length - x, potential=-volts / 2)


PEER = {
    "documented, 0.1 mM, 0.05 V": (0.1, 0.05, 100e-9, "interface", 1),
    "cell, 1 M, 0.2 V": (1000.0, 0.2, 20e-9, "cell", 1),
    "interface, 1 M, 0.2 V, raised in 4 steps": (1000.0, 0.2, 10e-9, "interface", 4),
    "interface, 1 M, 0.5 V, raised in 8 steps": (1000.0, 0.5, 10e-9, "interface", 8),
}
PATIENCE = 280  # s


def peer_case(name):
    """Solve one problem with matscipy on its default 200 segments; print time and error."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    from matscipy.electrochemistry import PoissonNernstPlanckSystem

    concentration, volts, length, kind, steps = PEER[name]
    solution, started, guess, total = salt(concentration), time.perf_counter(), {}, 0
    for v in np.linspace(volts / steps, volts, steps):
        system = PoissonNernstPlanckSystem(
            c=np.array([concentration] * 2),
            z=np.array([1, -1]),
            L=length,
            delta_u=v,
            relative_permittivity=solution.relative_permittivity,
            maxit=50,
            **guess,
        )
        getattr(system, f"use_standard_{kind}_bc")()
        try:
            system.solve()
        except np.linalg.LinAlgError as error:
            print(json.dumps({"seconds": time.perf_counter() - started, "failed": str(error)}))
            return
        guess = {
            "potential0": system.potential.copy(),
            "concentration0": system.nij * system.c_unit,
        }
        total += len(system.convergenceStepRelative)
    seconds = time.perf_counter() - started
    exact = interface_profile if kind == "interface" else cell_profile
    error = np.abs(system.potential - exact(system.grid, solution, volts, length)).max()
    print(
        json.dumps(
            {
                "seconds": seconds,
                "converged": bool(system.converged),
                "newton_iterations": total,
                "error_RT/F": float(error / solution.thermal_voltage),
            }
        )
    )


def peer():
    """The same problems by matscipy and by this package, in one run."""
    rows = {}
    for name, (concentration, volts, length, kind, _) in PEER.items():
        solution = salt(concentration)
        if kind == "interface":
            walls = {"left": Wall(potential=volts), "right": Wall(potential=0.0)}
            solve = poisson_boltzmann.solve
        else:
            walls = {"left": Wall(potential=volts / 2), "right": Wall(potential=-volts / 2)}
            solve = nernst_planck.solve
        seconds, got = best(lambda call=solve, s=solution, w=walls, n=length: call(s, w, length=n))
        exact = interface_profile if kind == "interface" else cell_profile
        x = got.x.values
        error = np.abs(got.potential.values - exact(x, solution, volts, length)).max()
        ours = {"seconds": seconds, "error_RT/F": float(error / solution.thermal_voltage)}
        try:
            done = subprocess.run(
                [sys.executable, __file__, "--peer-case", name],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
            theirs = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            theirs = {"seconds": PATIENCE, "failed": "stopped before it had converged"}
        rows[name] = {"this": ours, "matscipy": theirs}
        rows[name]["time_ratio"] = theirs["seconds"] / seconds
        if "error_RT/F" in theirs:
            rows[name]["error_ratio"] = theirs["error_RT/F"] / ours["error_RT/F"]
        print(name, rows[name], flush=True)
    return rows


SIZES = {2: (12, 26, 57, 128, 256, 408), 3: (5, 8, 12, 22, 36, 55)}


def step(dim, across, *, long=1e-2):
    """One implicit step of a cell with a Stern layer: cost of its Newton iterations."""
    solution = salt(10.0)
    length = 100 * solution.debye_length
    comm = MPI.COMM_WORLD
    along = graded(2 * across, left=3e-3, right=3e-3)
    domain = block([np.linspace(0, 1, across + 1)] * (dim - 1) + [along])
    near, far = ("bottom", "top") if dim == 2 else ("front", "back")
    stern = solution.permittivity / (0.1 * solution.debye_length)
    walls = {
        near: Wall(potential=4 * solution.thermal_voltage, stern_capacitance=stern),
        far: Wall(potential=0.0),
    }
    problem = build(structure(solution, walls, domain, (), False, 1))
    fill(problem, solution, walls, length, (), False)
    start(problem, solution, {}, length)
    newton, counts = problem.newton, []
    solve_linear = newton._solve_linear

    def counted(b):
        solve_linear(b)
        counts.append(newton.solver.getIterationNumber())

    newton._solve_linear = counted
    system = System(problem, state_of(problem, solution))
    before = sum(comm.allgather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)) / 1e6
    started, worked = time.perf_counter(), time.process_time()
    outcome = system.advance((1 / long, -1 / long, 0.0), 0.0)
    seconds, work = time.perf_counter() - started, time.process_time() - worked
    peak = sum(comm.allgather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)) / 1e6
    return {
        "dofs": int(problem.space.dofmap.index_map.size_global * 3),
        "converged": outcome.converged,
        "newton_iterations": outcome.iterations,
        "seconds_per_newton_step": seconds / outcome.iterations,
        "cpu_seconds_per_newton_step": work / outcome.iterations,
        "krylov_iterations": [] if not newton.iterative else counts,
        "memory_GB": peak,
        "memory_before_the_step_GB": before,
    }


def script(dim, across, ranks=1):
    """Run `step` in processes of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--step", str(dim), str(across)]
    if ranks > 1:
        command = [Path(sys.executable).parent / "mpiexec", "-n", str(ranks), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def scale():
    """Newton steps in two and three dimensions from 1e3 to 1e6 unknowns."""
    rows = {}
    for dim, sizes in SIZES.items():
        cases = []
        for across in sizes:
            cases.append(script(dim, across))
            print(dim, cases[-1], flush=True)
        large = [c for c in cases if c["krylov_iterations"]]
        # of processor time: others may be at work on the machine
        n, t = ([c[key] for c in large] for key in ("dofs", "cpu_seconds_per_newton_step"))
        rows[f"{dim}-D"] = {
            "steps": cases,
            "cost_exponent_of_the_iterative_ones": float(np.polyfit(np.log(n), np.log(t), 1)[0]),
        }
    return rows


def ranks():
    """Speed-up of one step on two processes, as a share of two."""
    one, two = script(2, 160), script(2, 160, ranks=2)
    return {
        "dofs": one["dofs"],
        "seconds_on_1": one["seconds_per_newton_step"],
        "seconds_on_2": two["seconds_per_newton_step"],
        "efficiency": one["seconds_per_newton_step"] / two["seconds_per_newton_step"] / 2,
        "krylov_iterations": [one["krylov_iterations"], two["krylov_iterations"]],
        "processors": os.cpu_count(),
    }


def draw(generator):
    """A random valid cell: ions, walls and times."""
    z = generator.choice([1, 2, 3], 2)
    c = 10 ** generator.uniform(-1, 3)
    size = generator.choice([0.0, 3e-10, 5e-10], 2)
    solution = Solution(
        (
            Species("cation", z[0], c / z[0], 10 ** generator.uniform(-11, -8), size[0]),
            Species("anion", -z[1], c / z[1], 10 ** generator.uniform(-11, -8), size[1]),
        ),
        relative_permittivity=generator.uniform(5, 100),
        temperature=generator.uniform(250, 600),
    )
    length = solution.debye_length * 10 ** generator.uniform(-0.5, 3.5)
    walls = {}
    for side in ("left", "right"):
        walls[side] = [
            Wall(potential=generator.uniform(-1, 1)),
            Wall(
                potential=generator.uniform(-1, 1), stern_capacitance=generator.uniform(0.05, 0.5)
            ),
        ][generator.integers(2)]
    slow = min(ion.diffusivity for ion in solution.species)
    late = [length * solution.debye_length / slow * 10 ** generator.uniform(-3, 1)]
    return solution, walls, length, (late if generator.uniform() < 0.5 else None)


def random(cases=500):
    """Random cells: how they end, and whether charge and salt balance."""
    generator, ends, longest = np.random.default_rng(2), {}, 0.0
    worst_charge = worst_salt = 0.0
    for k in range(cases):
        solution, walls, length, times = draw(generator)
        started = time.perf_counter()
        got = nernst_planck.solve(
            solution, walls, length=length, times=times, tolerance=1e-3, throw=False
        )
        longest = max(longest, time.perf_counter() - started)
        for name in got.data_vars:
            assert np.all(np.isfinite(got[name].values)), (k, name)
        if got.attrs["converged"]:
            end = got if times is None else got.isel(time=-1)
            held = np.array([ion.concentration * length for ion in solution.species])
            z = np.array([ion.charge_number for ion in solution.species])
            inside = FARADAY * float(z @ end.inventory.values)
            walls_hold = end.surface_charge.values
            gap = abs(walls_hold.sum() + inside) / (np.abs(walls_hold).max() + 1e-9)
            worst_charge = max(worst_charge, gap)
            worst_salt = max(worst_salt, np.abs(end.inventory.values / held - 1).max())
        end_of = "converged" if got.attrs["converged"] else got.attrs["outcome"]
        ends[end_of] = ends.get(end_of, 0) + 1
        if k % 50 == 49:
            print(k + 1, ends, f"{longest:.1f} s", flush=True)
    return {
        "cases": cases,
        "ends": ends,
        "longest_seconds": longest,
        "largest_charge_imbalance": worst_charge,
        "largest_salt_imbalance": worst_salt,
    }


PARTS = {f.__name__: f for f in (one_dimension, peer, scale, ranks, random)}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        answer = step(int(sys.argv[2]), int(sys.argv[3]))
        if MPI.COMM_WORLD.rank == 0:
            print(json.dumps(answer))
    elif sys.argv[1:2] == ["--peer-case"]:
        peer_case(sys.argv[2])
    else:
        path = Path(__file__).with_suffix(".json")
        for part in sys.argv[1:] or PARTS:
            rows = PARTS[part]()
            # read late: parts may run beside each other
            result = json.loads(path.read_text()) if path.exists() else {}
            result["machine"] = {"processor": platform.machine(), "processors": os.cpu_count()}
            result[part] = rows
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(rows, indent=1))
