"""The modal SPMe of many cells: errors, its band, what it makes of a corrector's flags, and speed.

    python -m benchmarks.residual_modal FOLDER

FOLDER holds the reference data that `multiscale train-corrector` left (``results/reference``); what
is lacking is made. Writes ``residual_modal.json`` beside this script. All is judged by the batched
P2D on the profiles that no corrector has learnt from: ``calibration fast`` and ``calibration slow``
have set the correctors' own bands and that of a checked correction, all others have set neither.

Left out: the factor of the modal band, the largest that any other set asks for (the conformal
factors of its steady and of its changing currents), and the share of profiles that it covers on
this one. Beside it the share that the factor in the code covers, the largest of all sets.

Checked: samples where the ensemble is more than 3 mV off, the share of them that is flagged, false
flags, and profiles within the band wherever it does not abstain; by the ensemble itself ("before")
and by the modal run ("after"), with each corrector's own shares of the modal doubt. The factors are
what the calibration splits of all sets ask for together; a corrector without its own takes those.
"""

import json
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from benchmarks.residual import per_step
from benchmarks.residual_methods import data
from continuum.cell import pybamm
from couplers.residual import batch, checking, modal
from couplers.residual.corrector import SHIPPED, conformal, load
from couplers.residual.data import HELD_OUT, cell_hash, drawn_electrolytes
from couplers.residual.features import KINDS, kind
from couplers.residual.layers import ELECTROLYTE
from couplers.residual.modal import Modal
from couplers.residual.p2d import P2D
from couplers.residual.parameters import read_cell
from couplers.residual.profiles import us06_like
from couplers.residual.spme import SPMe
from couplers.residual.training import LARGE, errors

SETS = sorted(file.stem for file in SHIPPED.glob("*.npz"))
LEARNT = ("fast", "slow")
CALIBRATION = ("calibration fast", "calibration slow")
CELLS, STEPS, REPEATS = (64, 1000, 4000), 40, 4
DRAWS = 1000


def judged(name, folder):
    """Errors (mV) of the modal SPMe and of the ensemble with their doubts, by split; kept."""
    cell, corrector = read_cell(pybamm.ParameterValues(name)), load(name)
    path = folder / f"modal-{cell_hash(cell)}.npz"
    if path.exists():
        with np.load(path) as stored:
            arrays = {key: stored[key] for key in stored.files}
        return {
            split: {
                key.split("|")[1]: v for key, v in arrays.items() if key.startswith(f"{split}|")
            }
            for split in dict.fromkeys(key.split("|")[0] for key in arrays)
        }
    rows = {}
    for split, found in data(name, folder).items():
        if split in LEARNT:
            continue
        truth, seconds = found["voltage"].values, found["time"].values
        current = cell.capacity * found["c_rate"].values
        voltage, doubt = modal.voltages(
            cell,
            current,
            seconds,
            state_of_charge=found["state_of_charge"].values,
            electrolyte={key: found[key].values for key in ELECTROLYTE},
        )
        said = errors(corrector, found)["ensemble"]
        rows[split] = {
            "steady": kind(found["c_rate"].values, seconds),
            "modal": 1e3 * (voltage - truth),
            "doubt": 1e3 * doubt,
            "spme": 1e3 * (found["spme_voltage"].values - truth),
            "ensemble": 1e3 * said["unguarded_error"].values,
            "corrected": 1e3 * said["error"].values,
            "band": 1e3 * said["band"].values,
            "away": said["abstained"].values,
        }
    np.savez(path, **{f"{split}|{key}": v for split, row in rows.items() for key, v in row.items()})
    return rows


def largest(ratio, there):
    """The largest value of each profile that has any."""
    some = there.any(axis=1)
    return np.where(there, ratio, -np.inf).max(axis=1)[some], some


def own_scores(row):
    """Of each profile, the largest error of the modal SPMe in doubts; and its kind."""
    there = np.isfinite(row["modal"]) & np.isfinite(row["doubt"])
    with np.errstate(invalid="ignore"):
        score, some = largest(np.abs(row["modal"]) / row["doubt"], there)
    return score, row["steady"][some]


def check_scores(row):
    """The same of what an ensemble's error exceeds its distance from the modal SPMe by."""
    return checking.scores(row["ensemble"], row["modal"], row["doubt"], row["steady"])


def by_kind(scores):
    """Conformal factors, steady currents last, of (score, kind) pairs."""
    score, kinds = (np.concatenate(each) for each in zip(*scores, strict=True))
    return [conformal(score[kinds == k]) for k in range(len(KINDS))]


def held(error, band, there):
    """The share of profiles within a band wherever they are there."""
    with np.errstate(invalid="ignore"):
        away, _ = largest(np.abs(error) - band, there)
    return share(away <= 0)


def share(which):
    """As a rounded number, None of nothing."""
    return round(float(np.mean(which)), 4) if which.size else None


def mean(values):
    """As a rounded number, None of nothing."""
    return round(float(values.mean()), 4) if values.size else None


def rms(values):
    """Of what is finite, None of nothing."""
    values = values[np.isfinite(values)]
    return round(float(np.sqrt(np.mean(values**2))), 4) if values.size else None


def checked_as(row, shares):
    """The checked ensemble: where it is kept, and its band (mV)."""
    apart = row["ensemble"] - row["modal"]
    half = checking.half_width(apart, row["doubt"], shares, row["steady"])
    return half <= 1e3 * batch.MOST, half


def flags(row, away):
    """Share of large errors that is flagged, and of all samples flagged for nothing."""
    there = np.isfinite(row["ensemble"])
    large = np.abs(row["ensemble"]) > LARGE
    return {
        "large": int((there & large).sum()),
        "flagged": share(away[there & large]),
        "false_flags": share((away & ~large)[there]),
    }


def tabled(all_rows):
    """What is said of each set and split, once all are there."""
    own = {
        name: max(by_kind(own_scores(row) for row in rows.values()))
        for name, rows in all_rows.items()
    }
    check = {
        name: [check_scores(rows[split]) for split in CALIBRATION]
        for name, rows in all_rows.items()
    }
    table = {
        "factor": max(own.values()),
        "checked_factors": by_kind(chain.from_iterable(check.values())),
        "in the code": {"factor": modal.FACTOR, "checked_factors": batch.CHECKED},
        "sets": {},
        "all sets": {},
    }
    shares = {name: load(name).about["checked"] for name in all_rows}
    for name, rows in all_rows.items():
        left_out = max(factor for other, factor in own.items() if other != name)
        table["sets"][name] = {"factor_left_out": round(left_out, 3)}
        for split, row in rows.items():
            there = np.isfinite(row["modal"])
            truth = np.isfinite(row["spme"]) | there
            table["sets"][name][split] = {
                "rms_mV": rms(row["modal"]),
                "max_mV": round(float(np.nanmax(np.abs(row["modal"]))), 3),
                "spme_rms_mV": rms(row["spme"]),
                "ensemble_rms_mV": rms(np.where(row["away"], np.nan, row["corrected"])),
                "ended_early": share(~there[truth]),
                "covered_left_out": share(own_scores(row)[0] <= left_out),
                "covered": share(own_scores(row)[0] <= modal.FACTOR),
                "half_width_mV": mean(modal.FACTOR * row["doubt"][there].clip(0, 1e3)),
                **compared(row, shares[name]),
            }
    for split in next(iter(all_rows.values())):
        rows = [rows[split] for rows in all_rows.values()]
        table["all sets"][split] = pooled(rows, list(shares.values()))
    return table


def compared(row, shares):
    """Flags and bands of the ensemble by itself, and checked."""
    near, half = checked_as(row, shares)
    there = np.isfinite(row["ensemble"])
    kept = there & ~row["away"]
    return {
        "before": flags(row, row["away"])
        | {
            "covered": held(row["corrected"], row["band"], kept),
            "half_width_mV": mean(row["band"][kept]),
        },
        "after": flags(row, ~near)
        | {
            "covered": held(row["ensemble"], half, there & near),
            "half_width_mV": mean(half[there & near]),
        },
    }


def pooled(rows, shares):
    """Of all sets together, every profile and every sample counting alike."""
    found = {}
    for when in ("before", "after"):
        counts = np.zeros(4)
        inside = []
        for row, own in zip(rows, shares, strict=True):
            near, half = checked_as(row, own)
            away = row["away"] if when == "before" else ~near
            error = row["corrected"] if when == "before" else row["ensemble"]
            band = row["band"] if when == "before" else half
            there = np.isfinite(row["ensemble"])
            large = np.abs(row["ensemble"]) > LARGE
            counts += [
                (there & large).sum(),
                (there & large & away).sum(),
                (there & ~large & away).sum(),
                there.sum(),
            ]
            with np.errstate(invalid="ignore"):
                inside.append(largest(np.abs(error) - band, there & ~away)[0] <= 0)
        found[when] = {
            "large": int(counts[0]),
            "flagged": round(counts[1] / counts[0], 4) if counts[0] else None,
            "false_flags": round(counts[2] / counts[3], 5),
            "covered": share(np.concatenate(inside)),
        }
    return found


def speed(name):
    """CPU microseconds of a cell-step by model and number of cells, random currents each second."""
    cell, found = read_cell(pybamm.ParameterValues(name)), {}
    for label, make, steps in (
        ("modal SPMe", Modal, STEPS),
        ("SPMe", SPMe, STEPS),
        ("P2D", P2D, STEPS // 4),
    ):
        found[label] = {}
        for count in CELLS:
            rng = np.random.default_rng(0)
            cells = make(
                cell,
                rng.uniform(0.5, 0.9, count),
                electrolyte={"diffusivity_scale": rng.uniform(0.8, 1.2, count)},
            )
            current = torch.as_tensor(cell.capacity * rng.uniform(-0.5, 1.0, (steps, count)))
            found[label][f"{count} cells"] = round(per_step(cells, current, REPEATS), 2)
    found["P2D to modal SPMe"] = {
        cells: round(found["P2D"][cells] / spent, 2) for cells, spent in found["modal SPMe"].items()
    }
    return found


def draws(name):
    """CPU s of a thousand electrolytes on a drive cycle, by what `simulate` is asked for."""
    cell, seconds = read_cell(pybamm.ParameterValues(name)), np.arange(601.0)
    current = np.tile(2 * cell.capacity * us06_like(HELD_OUT)[: seconds.size], (DRAWS, 1))
    drawn = drawn_electrolytes(np.random.default_rng(HELD_OUT), DRAWS)
    found = {}
    for label, corrector, checked in (
        ("modal", None, False),
        ("corrected", name, False),
        ("checked", name, True),
    ):
        started = time.process_time()
        batch.simulate(
            cell,
            corrector,
            current,
            seconds,
            state_of_charge=np.full(DRAWS, 0.7),
            electrolyte=drawn,
            checked=checked,
        )
        found[f"{label}, cpu_s"] = round(time.process_time() - started, 2)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    target = Path(__file__).with_suffix(".json")
    result = json.loads(target.read_text()) if target.exists() else {}

    def keep(**parts):
        """Write what there is so far."""
        result.update(parts)
        result["versions"] = {"pybamm": pybamm.__version__, "torch": torch.__version__}
        target.write_text(json.dumps(result, indent=1) + "\n")

    keep(**tabled({name: judged(name, Path(sys.argv[1])) for name in SETS}))
    keep(speed={name: speed(name) for name in ("Chen2020", "Ecker2015")})
    keep(thousand_electrolytes=draws("Chen2020"))
