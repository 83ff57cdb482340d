"""Three faults planted in copies of SevenNet-0 and CHGNet, and what the certificate says of them.

    python pretrained.py                 # some minutes on one core: pretrained.json
    python pretrained.py sevennet-0      # one of them, beside what is recorded

Both compute in single precision, in which forces ripple, and their limits are wider for it. The
faults are small ones, in round numbers, that stand clear of those limits: forces on chlorine 2 %
too large, a dispersion that ends at 5 Å without a switch, and a hole at 1.2 Å between any two
atoms. Each copy is looked at for the properties that the faults break and for some that they leave
alone, in the eight atoms of a cell of NaCl, and so is the model as it ships.
"""

import json
import sys
import time
from pathlib import Path

import torch
from ase.build import bulk
from torch_sim.state import SimState

sys.path.insert(0, str(Path(__file__).parent))
from study import DAMPING, Altered, Results, holed, with_pairs

from atomistic.potentials.certificate import Certificate, certify
from atomistic.potentials.load import Potential, load

RECORD = Path(__file__).with_suffix(".json")
NAMES = ("sevennet-0", "chgnet")
# which property each fault breaks; those that look at the same thing may find it too
MEANT = {
    "direct": "jacobian_asymmetry",
    "truncated": "jump_in_structure",
    "holed": "fusion_well",
}
LOOK = (
    "translation", "rotation", "inversion", "permutation", "extensivity", "force_is_gradient",
    "jacobian_asymmetry", "jump_in_structure", "fusion_well", "compression", "energy_drift",
)  # fmt: skip


def direct(state: SimState, results: Results) -> Results:
    """Forces on chlorine 2 % too large, which no energy gives."""
    factor = torch.where(state.atomic_numbers == 17, 1.02, 1.0)[:, None]
    return results | {"forces": results["forces"] * factor}


def truncated(state: SimState, results: Results) -> Results:
    """A damped dispersion of 1000 eV Å6 that ends at 5 Å: 0.04 eV and 0.03 eV/Å a pair."""
    size = 1000.0

    def energy(r: torch.Tensor) -> torch.Tensor:
        return -size / (r**6 + DAMPING)

    return with_pairs(state, results, energy, lambda r: 6 * r**5 * energy(r) ** 2 / size)


def certificates(name: str) -> dict[str, Certificate]:
    """Certify a model as it ships and with each fault."""
    sound = load(name, device="cpu")
    structure = bulk("NaCl", "rocksalt", a=5.7, cubic=True)
    copies = [
        Potential(alter.__name__, Altered(sound.model, alter), sound.species, sound.cutoff)
        for alter in (direct, truncated, holed)
    ]
    found = {}
    for one in (sound, *copies):
        began = time.process_time()
        found[one.name] = certify(one, structure, only=LOOK, steps=200)
        print(f"{found[one.name].outcome} ({time.process_time() - began:.0f} s)", flush=True)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    for name in sys.argv[1:] or NAMES:
        record[name] = {
            which: json.loads(one.to_json()) for which, one in certificates(name).items()
        }
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
