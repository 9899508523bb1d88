"""Make the base of 128 pixels: `python -m assets.build`, from the project's root.

The trainings go on from their checkpoints in `--work`, so that this can be stopped and started
again at any time. Each step is a command of its own, too, and has options of its own there.
"""

from __future__ import annotations

import subprocess
import sys
import time

from assets.build.vector import settings

TRAININGS = ("autoencoder", "base")
LAST = "export"


def run(step: str, options: list[str]) -> None:
    """One step in a process of its own; says how long it took."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", f"assets.build.vector.{step}", *options], check=True)
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
    for place, step in enumerate(TRAININGS):
        limit = [f"--minutes={given.minutes[place]}"] if given.minutes else []
        run(step, [*common, *limit])
    run(LAST, ["--work", str(given.work)])


if __name__ == "__main__":
    main()
