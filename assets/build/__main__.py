"""Make the embedded base, its LoRAs and the scorers: `python -m assets.build`.

The trainings go on from their checkpoints in `--work`, so that this can be stopped and started
again at any time. Each step is a command of its own, too, and has options of its own there. What is
made lies in `--work` at the end, to be looked at before it takes the place of what is shipped.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from assets.build.vector import settings

TRAININGS = ("autoencoder", "base", "detector", "clip", "loras")
EXPORTED = ("detector", "clip", "loras")  # steps that write a folder by themselves


def command(step: str, options: list[str]) -> list[str]:
    """One step as a process of its own."""
    return [sys.executable, "-m", f"assets.build.vector.{step}", *options]


@contextmanager
def drawing(options: list[str]) -> Iterator[None]:
    """Draw the pictures that the trainings wait for, beside them."""
    process = subprocess.Popen(command("draw", options))
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def run(step: str, options: list[str]) -> None:
    """One step; prints how long it took."""
    began = time.monotonic()
    subprocess.run(command(step, options), check=True)
    print(f"{step}: {(time.monotonic() - began) / 60:.0f} minutes", flush=True)


def main() -> None:
    """All steps in order."""
    options = settings.machine(__doc__ or "")
    options.add_argument(
        "--minutes",
        type=float,
        nargs=len(TRAININGS),
        metavar=tuple(name.upper() for name in TRAININGS),
        help="time for each training, on a machine that is there for some minutes",
    )
    given = options.parse_args()
    names = ("work", "threads", "device", "renderers")
    common = [f"--{name}={getattr(given, name)}" for name in names]
    common += ["--bf16"] if given.bf16 else []
    with drawing(common):
        for place, step in enumerate(TRAININGS):
            limit = [f"--minutes={given.minutes[place]}"] if given.minutes else []
            out = [f"--out={given.work / step}"] if step in EXPORTED else []
            run(step, [*common, *limit, *out])
    run("export", [f"--work={given.work}", f"--device={given.device}", f"--out={given.work}/base"])


if __name__ == "__main__":
    main()
