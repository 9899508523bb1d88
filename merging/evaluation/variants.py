"""IterIS with one option changed at a time, to choose its defaults by.

`python -m merging evaluate concepts --split tuning --contestant VARIANT…`; never the test pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from merging.evaluation.contestants import CONTESTANTS, Contestant, merged

# Options that differ from the contestant "composed": composed teacher, mode delta.
CHANGED_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "single-teacher": {"teacher": "single"},
    "single-preserve": {"teacher": "single", "preserve": 1.0},
    "composed-weight-1": {"composed_weight": 1.0},
    "residual-composed-1": {"mode": "delta+residual", "composed_weight": 1.0},
    "residual-composed-8": {"mode": "delta+residual", "composed_weight": 8.0},
    "taught-by-sum": {"teacher": "sum", "mode": "delta+residual"},
    "taught-delta": {"teacher": "tsv"},
    "taught-composed-10": {"teacher": "tsv", "mode": "delta+residual", "composed_weight": 10.0},
    "taught-preserve-1": {"teacher": "tsv", "mode": "delta+residual", "preserve": 1.0},
    "no-preserve": {"preserve": 0.0},
    "preserve-1": {"preserve": 1.0},
    "fallback-mean": {"fallback": "mean"},
    "fallback-zero": {"fallback": "zero"},
    "ridge-1e-4": {"ridge": 1e-4},
    "ridge-1e-2": {"ridge": 1e-2},
    "full": {"mode": "full"},
    "residual-preserve-1": {"mode": "delta+residual", "preserve": 1.0},
    "residual-mean": {"mode": "delta+residual", "fallback": "mean"},
    "lambda-delta": {"weighting": "delta"},
    "lambda-relative": {"weighting": "relative"},
    "lambda-uniform": {"weighting": "uniform"},
    "first-eos": {"padding": "first-eos"},
    "concept-tokens": {"tokens": "concept"},
    "text-and-cross": {"targets": "cross-attention"},
    "every-layer": {"targets": "all"},
    "samples-20": {"samples": 20},
    "samples-100": {"samples": 100},
}


def _variant(changed: Mapping[str, Any]) -> Contestant:
    title = ", ".join(f"{option} {value}" for option, value in changed.items())
    composed = {"method": "iteris", "teacher": "composed", "mode": "delta"}
    return merged(f"composed, but {title}", **{**composed, **changed})


VARIANTS = {key: _variant(changed) for key, changed in CHANGED_OPTIONS.items()}
ENTRANTS: Mapping[str, Contestant] = {**CONTESTANTS, **VARIANTS}
