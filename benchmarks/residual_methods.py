"""What else could correct an SPMe: other regressors on the same data, and a set left out.

    python -m benchmarks.residual_methods FOLDER        # of the reference data
    python -m benchmarks.residual_methods FOLDER left-out

FOLDER holds the reference data that `multiscale train-corrector` left (``results/reference``); what
is lacking is made. Writes ``residual_methods.json`` beside this script, a method at a time. Every
method sees the same profiles of `SET` and the same features, and is judged, without abstaining, on
the same held-out profiles: RMS errors in mV. The recurrent network sees the features without the
memories of the current, in their order of time, and the length of each step. CPU is that of the
fit, on one thread.

Left out: one corrector for all sets, of the features alone, trained on all but one and judged on
that one, 0 outside the box of the others' features. Its members each lack a further set, so that
their differences say how a network fares on a cell that it has not seen: the shrunk correction is
their mean, drawn to 0 by the jackknife's variance, m^3 / (m^2 + s^2).
"""

import json
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from continuum.cell import pybamm
from couplers.residual.corrector import SHIPPED, load
from couplers.residual.data import generate
from couplers.residual.features import ACTIVE, STATIC
from couplers.residual.parameters import read_cell
from couplers.residual.training import (
    TEACHER,
    UNIT,
    Network,
    corrected,
    designed,
    fit,
    miss,
    samples,
)

SET = "Chen2020"
LEARN = ("fast", "slow")
PASS_OVER = ("calibration fast", "calibration slow", "foreign electrolytes", *LEARN)
SAMPLES = 100_000
SHARED, SHARED_EPOCHS = 40_000, 10  # samples of each set for one corrector of all; passes


def data(name, folder):
    """The reference data of a set by name of split."""
    cell, about = read_cell(pybamm.ParameterValues(name)), load(name).about
    designs = designed(about["highest_c_rate"], slow_profiles=about.get("slow_profiles"))
    return generate(cell, designs, folder)


def scaled(corrector, static, active):
    """Features as the networks see them."""
    parts = (
        (static - corrector.static_mean) / corrector.static_scale,
        active / corrector.active_scale,
    )
    return np.concatenate(parts, -1).astype(np.float32)


def judged(found, corrector, predict):
    """RMS errors (mV) by split."""
    errors = {}
    for name, split in found.items():
        if name in PASS_OVER:
            continue
        there = np.isfinite(split["residual"].values)
        x = scaled(corrector, split["static"].values, split["active"].values)
        error = predict(x)[there] - split["residual"].values[there] / UNIT
        errors[name] = round(1e3 * UNIT * float(np.sqrt(np.mean(error**2))), 3)
    return errors


def flat(model):
    """A regressor of rows as one of (draw, time, feature)."""
    # after the end of a profile there are no features, and nothing is judged
    return lambda x: model.predict(np.nan_to_num(x.reshape(-1, x.shape[-1]))).reshape(x.shape[:-1])


def ridge(x, y):
    """Quadratic polynomial."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    return flat(make_pipeline(PolynomialFeatures(2), Ridge(1.0)).fit(x[:40_000], y[:40_000]))


def boosting(x, y):
    """Gradient boosting of trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return flat(
        HistGradientBoostingRegressor(
            max_iter=300, learning_rate=0.08, max_leaf_nodes=63, l2_regularization=1.0
        ).fit(x, y)
    )


def process(x, y):
    """Gaussian process of 1 000 samples."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(10.0) * RBF(6.0) + WhiteKernel(0.01)
    return flat(GaussianProcessRegressor(kernel, normalize_y=True).fit(x[:1000], y[:1000]))


class Recurrent(torch.nn.Module):
    """A gated recurrent unit and a small network on top; nothing at rest is not built in."""

    def __init__(self, inputs, width=16):
        super().__init__()
        self.unit = torch.nn.GRU(inputs, width, batch_first=True)
        self.top = torch.nn.Sequential(
            torch.nn.Linear(inputs + width, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)
        )

    def forward(self, x):
        """The correction in its unit, (draw, time)."""
        return self.top(torch.cat([self.unit(x)[0], x], -1))[..., 0]


def sequences(corrector, split):
    """Features without memories, with the logarithm of each step's length."""
    x = scaled(corrector, split["static"].values, split["active"].values)
    kept = [k for k, name in enumerate(STATIC + ACTIVE) if not name.startswith("memory")]
    steps = np.log(np.diff(split["time"].values, prepend=split["time"].values[0] - 1.0))
    steps = np.broadcast_to(steps.astype(np.float32)[None, :, None], (*x.shape[:2], 1))
    return torch.as_tensor(np.concatenate([np.nan_to_num(x[..., kept]), steps], -1))


def recurrent(found, corrector, epochs=16):
    """Trained on whole profiles of both kinds."""
    torch.manual_seed(0)
    inputs = {name: sequences(corrector, found[name]) for name in LEARN}
    targets = {
        name: torch.as_tensor(found[name]["residual"].values / UNIT, dtype=torch.float32)
        for name in LEARN
    }
    network = Recurrent(inputs["fast"].shape[-1])
    optimiser = torch.optim.AdamW(network.parameters(), 4e-3)
    batches = [(name, pick) for name in LEARN for pick in torch.arange(len(inputs[name])).split(32)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 8e-3, total_steps=epochs * len(batches)
    )
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        for k in rng.permutation(len(batches)):
            name, pick = batches[k]
            y = targets[name][pick]
            there = torch.isfinite(y)
            loss = torch.nn.functional.huber_loss(
                network(inputs[name][pick])[there], y[there], delta=0.5
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return network


def compare(folder, keep):
    """Every method on one set."""
    corrector, found = load(SET), data(SET, folder)
    static, active, residual = samples({name: found[name] for name in LEARN})
    pick = np.random.default_rng(0).choice(len(residual), SAMPLES, replace=False)
    x, y = scaled(corrector, static[pick], active[pick]), residual[pick] / UNIT
    table = {
        "SPMe": {"rms_mV": judged(found, corrector, lambda x: np.zeros(x.shape[:-1]))},
        "student": {
            "rms_mV": judged(found, corrector, lambda x: shipped(corrector, x, 0)),
            "weights": corrector.size,
        },
        "ensemble": {"rms_mV": judged(found, corrector, lambda x: shipped(corrector, x, 1))},
    }
    keep(table)
    for name, regress in (
        ("quadratic ridge", ridge),
        ("gradient boosting", boosting),
        ("Gaussian process", process),
    ):
        started = time.process_time()
        predict = regress(x, y)
        spent = time.process_time() - started
        table[name] = {"rms_mV": judged(found, corrector, predict), "fit_cpu_s": round(spent, 1)}
        keep(table)
    started = time.process_time()
    network = recurrent(found, corrector)
    spent = time.process_time() - started
    errors = {}
    for name, split in found.items():
        if name not in PASS_OVER:
            with torch.no_grad():
                said = UNIT * network(sequences(corrector, split)).numpy()
            error = said - split["residual"].values
            errors[name] = round(1e3 * float(np.sqrt(np.nanmean(error**2))), 3)
    table["gated recurrent unit"] = {"rms_mV": errors, "fit_cpu_s": round(spent, 1)}
    keep(table)


def shipped(corrector, x, which):
    """What the shipped networks say of scaled features, in their unit."""
    s, d = np.split(x, [len(STATIC)], axis=-1)
    static = s * corrector.static_scale + corrector.static_mean
    return corrector.terms(static, d * corrector.active_scale)[0][which] / UNIT


class Shared:
    """Networks of the features alone, each trained on some of the sets; corrections in V."""

    def __init__(self, members, lowest, highest):
        self.members, self.lowest, self.highest = members, lowest, highest

    def says(self, static, active):
        """What each says, (member, ...), and whether a sample is in the box of all of them."""
        both = np.concatenate([static, active], -1)
        said = []
        for network, mean, scale in self.members:
            x = torch.as_tensor((both - mean) / scale, dtype=torch.float32)
            with torch.no_grad():
                said.append(UNIT * corrected(network, x).numpy())
        inside = ((both >= self.lowest) & (both <= self.highest)).all(-1)
        return np.stack(said), inside


def learnt(parts, seed):
    """One network for the samples of some sets, with its scales."""
    static, active, residual = (np.concatenate(each) for each in zip(*parts, strict=True))
    mean = np.append(static.mean(0), np.zeros(active.shape[1]))
    scale = np.append(static.std(0) + 1e-6, np.sqrt((active**2).mean(0)) + 1e-9)
    x = torch.as_tensor((np.concatenate([static, active], -1) - mean) / scale).float()
    y = torch.as_tensor(residual / UNIT, dtype=torch.float32)
    torch.manual_seed(seed)
    network = Network(x.shape[1], active.shape[1], TEACHER)
    return fit(network, miss, x, y, epochs=SHARED_EPOCHS, seed=seed), mean, scale


def shrunk(said):
    """Mean of the members, drawn to 0 where they differ: by the jackknife's variance over sets."""
    count, mean = len(said), said.mean(0)
    variance = (count - 1) / count * ((said - mean) ** 2).sum(0)
    return mean * mean**2 / (mean**2 + variance + 1e-30)


def leave_out(folder, keep):
    """One corrector for all sets but one, on that one, by members that each lack a further set."""
    names = sorted(file.stem for file in SHIPPED.glob("*.npz"))
    rng = np.random.default_rng(0)
    parts, boxes = {}, {}
    for name in names:
        found = data(name, folder)
        static, active, residual = samples({kind: found[kind] for kind in LEARN})
        both = np.concatenate([static, active], -1)
        boxes[name] = both.min(0), both.max(0)
        pick = rng.choice(len(residual), SHARED, replace=False)
        parts[name] = static[pick], active[pick], residual[pick]
    pairs = {
        frozenset(pair): learnt([parts[name] for name in names if name not in pair], k)
        for k, pair in enumerate(combinations(names, 2))
    }
    table = {}
    for out in names:
        others = [name for name in names if name != out]
        shared = Shared(
            [pairs[frozenset((out, name))] for name in others],
            np.min([boxes[name][0] for name in others], axis=0),
            np.max([boxes[name][1] for name in others], axis=0),
        )
        table[out] = {}
        for name, split in data(out, folder).items():
            if name in PASS_OVER:
                continue
            there = np.isfinite(split["residual"].values)
            truth = split["residual"].values[there]
            said, inside = shared.says(split["static"].values[there], split["active"].values[there])
            table[out][name] = {"abstained": round(float((~inside).mean()), 3)} | {
                label: round(1e3 * float(np.sqrt(np.mean((truth - voltage) ** 2))), 3)
                for label, voltage in (
                    ("spme_rms_mV", np.zeros_like(truth)),
                    ("mean_rms_mV", np.where(inside, said.mean(0), 0.0)),
                    ("shrunk_rms_mV", np.where(inside, shrunk(said), 0.0)),
                )
            }
        keep(table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    path = Path(__file__).with_suffix(".json")
    result = json.loads(path.read_text()) if path.exists() else {}
    what = "left out" if sys.argv[2:] == ["left-out"] else "methods"

    def keep(table):
        """Write what there is so far."""
        result[what] = table
        result["versions"] = {"pybamm": pybamm.__version__, "torch": torch.__version__}
        path.write_text(json.dumps(result, indent=1) + "\n")

    (leave_out if what == "left out" else compare)(Path(sys.argv[1]), keep)
