"""The header of a LoRA that was carried to another base model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.carry.run import CarryOptions
from merging.export.convert import adapter_metadata
from merging.io.files import CARRIED_KEY, RECIPE_KEY
from merging.version import __version__

# What a header says of the base model's file; and a recipe would not give the carried file again.
OUTDATED = ("ss_sd_model_name", "ss_sd_model_hash", "ss_new_sd_model_hash", RECIPE_KEY)


def carried_header(adapter: Adapter, old: Base, new: Base, options: CarryOptions) -> dict[str, str]:
    """Header of the file that ``adapter`` was carried to; no times, so it is always the same.

    One field says how: SHA-256 of the LoRA, fingerprints of the weights of both base models, and
    the options. Of a folder or a file only the name is saved.
    """
    bases = {"from": old, "to": new}
    made = {
        "version": __version__,
        "lora": {"name": adapter.name, "sha256": adapter.sha256},
        **{
            key: {"name": _name(base), "fingerprint": base.fingerprint}
            for key, base in bases.items()
        },
        **asdict(options),
    }
    kept = adapter_metadata(adapter.metadata)
    return {key: value for key, value in kept.items() if key not in OUTDATED} | {
        CARRIED_KEY: json.dumps(made, ensure_ascii=False, sort_keys=True),
        "ss_training_comment": f"{adapter.name}, carried from {_name(old)} to {_name(new)} by "
        "IterIS Studio",
    }


def _name(base: Base) -> str:
    return Path(base.name).name if Path(base.name).exists() else base.name
