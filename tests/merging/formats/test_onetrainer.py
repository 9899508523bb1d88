"""OneTrainer's output formats: the names of five programs, each with what it trains.

Its LoRA has kohya's endings in the formats kohya and OMI, and PEFT's in the others; alpha is always
a tensor. LoHa, OFT and DoRA have the same endings in all formats.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from merging.formats import overview, read, table
from tests.merging.formats.families import Case, dora, loha, lora, oft_inputs, weight
from tests.merging.formats.handmade import (
    COMFY,
    LDM,
    Q_PROJ,
    SAMPLES,
    TO_K,
    Sample,
    accounted,
    merged_alone,
    saved,
)

BASES = {sample.name: weight(sample) for sample in SAMPLES}
FORMATS: dict[str, tuple[bool, Callable[[Sample], str]]] = {  # whether PEFT's endings, and names
    "kohya": (False, lambda s: s.kohya),
    "diffusers": (True, lambda s: s.name),
    "ComfyUI": (True, COMFY.__getitem__),
    "original": (True, lambda s: LDM.get(s, "")),  # of the UNet alone
    "OMI": (
        False,
        lambda s: f"unet.{LDM[s]}" if s in LDM else s.name.replace("text_encoder", "clip_l"),
    ),
}
FAMILIES: dict[str, Callable[[Sample], Case]] = {
    "LoRA": lora,
    "LoHa": lambda s: loha(s, 4),
    "DoRA": lambda s: dora(lora(s), "outputs"),
    "OFT by inputs": lambda s: oft_inputs(s, scaled=False),
}
PEFT = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_output_format_is_read_and_merged(tmp_path: Path, form: str, family: str) -> None:
    of_peft, spelled = FORMATS[form]
    cases = [FAMILIES[family](sample) for sample in (TO_K, Q_PROJ) if spelled(sample)]
    path = saved(
        tmp_path / "a.safetensors",
        {
            f"{spelled(case.sample)}.{PEFT.get(key, key) if of_peft else key}": value
            for case in cases
            for key, value in case.tensors.items()
        },
    )
    adapter = read(path, table("mini"), weights=BASES.get)
    for each in (adapter, merged_alone(adapter)):
        assert each.layers.keys() == {case.sample.name for case in cases}
        for case in cases:
            found = each.layers[case.sample.name].delta().double()
            assert (found - case.change).norm() < 1e-6 * case.change.norm()
    assert overview(path, table("mini")).needs_base == (family in ("DoRA", "OFT by inputs"))
    accounted(path)
