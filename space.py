"""The page on a ZeroGPU Space: what `python3 run.py space --sdk gradio` makes a Space start."""

import os

# ZeroGPU forks this process for a task, and OpenMP's threads do not outlive a fork: with more than
# one, the first large operation on the CPU never ends.
os.environ["OMP_NUM_THREADS"] = "1"

import spaces  # noqa: F401, I001 -- before whatever may touch CUDA
import sys

from app.__main__ import main

# A variable of the Space goes before these.
os.environ.setdefault("ITERIS_EXECUTOR", "zerogpu")
os.environ.setdefault("ITERIS_SLOTS", "4")  # ZeroGPU has a line of its own behind ours
os.environ.setdefault("ITERIS_BASE", "sd15")
os.environ.setdefault("ITERIS_PRECISION", "fp16")
os.environ.setdefault("GRADIO_SERVER_NAME", "0.0.0.0")

if __name__ == "__main__":
    sys.exit(main([]))
