"""Folders of peft's OFT, beside what its modules then do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import OFTConfig, get_peft_model

from merging.diffusion.base import Base, canonical
from tests.merging.formats.producers import CLIP_LAYERS, LAYERS, Models, changes, check, trained

pytestmark = pytest.mark.usefixtures("quiet")
OFT_OF_PEFT: dict[str, dict[str, Any]] = {
    "series": {"oft_block_size": 16},
    "three terms": {"oft_block_size": 16, "num_cayley_neumann_terms": 3},
    "seven terms": {"r": 8, "oft_block_size": 0, "num_cayley_neumann_terms": 7},
    "exact": {"oft_block_size": 8, "use_cayley_neumann": False},
    "shared blocks": {"oft_block_size": 32, "block_share": True},
}


@pytest.mark.parametrize("name", OFT_OF_PEFT)
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_oft_of_peft(tmp_path: Path, base: Base, models: Models, part: str, name: str) -> None:
    """It rotates inputs; OneTrainer's OFT 2 has the same tensors and the default series."""
    layers = CLIP_LAYERS if part == "text_encoder" else (LAYERS[0], LAYERS[1], LAYERS[2])
    own = OFTConfig(target_modules=list(layers), **OFT_OF_PEFT[name])
    wrapped = get_peft_model(models[part], own)
    trained(wrapped, ("oft_R",))
    wrapped.save_pretrained(tmp_path)
    names = {canonical(part, layer): layer for layer in layers}
    adapter = check(tmp_path / "adapter_model.safetensors", base, changes(models, base, names))
    assert adapter.family == "diffusers (PEFT), OFT by inputs"
