"""Networks of sd-scripts that store their factors as plain LoRA: the change is that of their code.

LoRA-FA trains the ups alone; DyLoRA trains rows and columns one by one, and joins them when it
saves. What both do at inference is alpha / rank times the product, whatever they did in training.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from merging.formats import overview, read
from tests.merging.formats.handmade import CONV, PROJ_IN, Q_PROJ, TO_K, Sample, saved

RANK, ALPHA = 4, 1.0


def dylora(sample: Sample) -> dict[str, torch.Tensor]:
    """One module as DyLoRA stores it: ``rank`` rows and columns, joined; 4-D for convolutions."""
    generator = torch.Generator().manual_seed(len(sample.name))
    height, width, *kernel = sample.shape
    ends = (1, 1) if kernel else ()
    rows = [torch.randn(1, width, *kernel, generator=generator) for _ in range(RANK)]
    columns = [torch.randn(height, 1, *ends, generator=generator) for _ in range(RANK)]
    return {
        f"{sample.kohya}.lora_down.weight": torch.cat(rows, dim=0),
        f"{sample.kohya}.lora_up.weight": torch.cat(columns, dim=1),
        f"{sample.kohya}.alpha": torch.tensor(ALPHA),
    }


@pytest.mark.parametrize("module", ["networks.lora_fa", "networks.dylora"])
def test_they_are_read_as_they_act(tmp_path: Path, module: str) -> None:
    samples = (TO_K, Q_PROJ, PROJ_IN, CONV)
    tensors = {key: value for sample in samples for key, value in dylora(sample).items()}
    header = {"ss_network_module": module, "ss_network_args": '{"unit": "2"}'}
    path = saved(tmp_path / "a.safetensors", tensors, header)
    found = read(path).layers
    assert found.keys() == {sample.name for sample in samples}
    assert overview(path).family == "kohya"
    for sample in samples:
        up = tensors[f"{sample.kohya}.lora_up.weight"].flatten(1).double()
        down = tensors[f"{sample.kohya}.lora_down.weight"].flatten(1).double()
        wanted = ALPHA / RANK * up @ down
        assert (found[sample.name].delta().double() - wanted).norm() < 1e-6 * wanted.norm()
