"""What may be chosen, by name. Nothing heavy is imported here: the page shows these at once."""

from __future__ import annotations

from typing import Literal

# --- of a merge (what each means: merging/request.py and the modules that it names) ---------------
Targets = Literal["cross-attention", "attention", "all"]  # layers that are solved from prompts
Teacher = Literal["single", "composed", "sum", "tsv"]  # merging/calibration/teachers.py
Fallback = Literal["mean", "sum", "zero"]  # merging/linalg/closed_form.py
Mode = Literal["delta", "delta+residual", "full"]  # merging/linalg/closed_form.py
Weighting = Literal["merged", "delta", "relative", "uniform"]  # merging/linalg/row_set_weights.py
Padding = Literal["keep", "first-eos"]  # tokens after a sentence's end: counted, or left out
Tokens = Literal["all", "concept"]  # of a sentence: counted all, or the trigger's alone
Rank = int | Literal["exact", "auto", "full"]  # "full" is exact where that is not low either

# --- of a picture ---------------------------------------------------------------------------------
Compose = Literal["sum", "gated"]  # merging/diffusion/render.py
Sampler = Literal["DDIM", "Euler", "Euler a", "DPM++ 2M", "DPM++ 2M Karras", "UniPC"]

# --- of the machine -------------------------------------------------------------------------------
DEVICES = ("auto", "cpu", "cuda", "mps")  # where a base model works

# --- of numbers -----------------------------------------------------------------------------------
Dtype = Literal["fp16", "bf16", "fp32"]  # of an adapter's file
Precision = Literal["auto", "fp32", "fp16", "bf16"]  # of the base model at work
