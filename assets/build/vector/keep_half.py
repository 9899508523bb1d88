"""Keep the autoencoder of the work folder in half precision, for a later training to go on from.

It is written to `checkpoints/`; a training whose work folder is empty begins with it, without what
only the work folder holds: the optimiser's momenta and the discriminator.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import save_file

from assets.build import training
from assets.build.vector import autoencoder


def main() -> None:
    """Write the averages of the last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build-work"))
    work = parser.parse_args().work
    model, state = autoencoder.trained(work), training.load(work / autoencoder.NAME)
    assert state is not None
    tensors = {name: value.half() for name, value in model.state_dict().items()}
    autoencoder.KEPT.parent.mkdir(exist_ok=True)
    save_file(tensors, autoencoder.KEPT, {"step": str(state["step"])})


if __name__ == "__main__":
    main()
