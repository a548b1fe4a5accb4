"""Write the record that SynthMotion's splits are checked against; only for a new version.

python experiments/synthmotion/write_record.py
"""

from pathlib import Path

import torch

from flowhmr.synth import synthmotion

TARGET = Path(synthmotion.__file__).parent / "assets" / "synthmotion.json"

if __name__ == "__main__":
    torch.set_num_threads(1)
    synthmotion.write_record(TARGET)
    print(TARGET)
