"""Which permittivity leaves least to learn: short trainings on labels less charges in each.

    python scan.py FOLDER [permittivity ...]   # FOLDER holds train.py's round_1.extxyz

Every eighth frame is held out. Numbers go to ``scan.json`` beside this script; "none" takes no
charges off at all.
"""

import json
import sys
from pathlib import Path

import torch
from ase.io import read

sys.path.insert(0, str(Path(__file__).parent))
import train

from atomistic.learning import distil
from atomistic.potentials.load import load

RECORD = Path(__file__).with_suffix(".json")
STEPS = 800
NONE = 1e9  # a permittivity in which charges do nothing
DEFAULT = (1.0, 1.5, 2.0, 2.5, 3.5, NONE)


def main(folder: Path, permittivities: tuple[float, ...]) -> None:
    """Train once for each permittivity and write the errors down."""
    labelled = read(folder / "round_1.extxyz", ":")
    learn = [one for number, one in enumerate(labelled) if number % train.EVERY]
    held_out = labelled[:: train.EVERY]
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    for permittivity in permittivities:
        name = "none" if permittivity == NONE else f"{permittivity:g}"
        path = distil.train(
            train.rest(learn, permittivity), folder=folder / f"scan_{name}", steps=STEPS, seed=1
        )
        student = load(str(path), device="cpu")
        record[name] = train.by_kind(held_out, student, permittivity)
        print(name, json.dumps(record[name]), flush=True)
        RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), tuple(map(float, sys.argv[2:])) or DEFAULT)
