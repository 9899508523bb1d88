"""Trainers and mergers whose files hold plain LoRA: the change is that of their own arithmetic.

LoRA-FA of sd-scripts trains the ups alone; its DyLoRA trains rows and columns one by one, and joins
them when it saves. InvokeAI's trainer saves float32, alpha too, without a header. supermerger adds
up factors, whose signs and roots of strengths it puts into them, or cuts a sum to a new rank.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from merging.formats import overview, read
from tests.merging.formats.handmade import (
    CONV,
    PROJ_IN,
    Q_PROJ,
    TO_K,
    TO_OUT,
    Sample,
    accounted,
    factors,
    merged_alone,
    saved,
)

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
    assert overview(path).family == "kohya"
    expected = {}
    for sample in samples:
        up = tensors[f"{sample.kohya}.lora_up.weight"].flatten(1).double()
        down = tensors[f"{sample.kohya}.lora_down.weight"].flatten(1).double()
        expected[sample] = ALPHA / RANK * up @ down
    assert_changes(path, expected, 1e-6)


def assert_changes(path: Path, expected: dict[Sample, torch.Tensor], error: float) -> None:
    """Every sample's change is the expected one, merged or not."""
    adapter = read(path)
    for each in (adapter, merged_alone(adapter)):
        assert each.layers.keys() == {sample.name for sample in expected}
        for sample, change in expected.items():
            delta = each.layers[sample.name].delta().double()
            assert (delta - change).norm() < error * change.norm(), sample.name
    accounted(path)


def test_what_invokeai_trains(tmp_path: Path) -> None:
    """invoke-training's converter from PEFT: attention alone, all tensors float32."""
    tensors, expected = {}, {}
    for sample in (TO_K, TO_OUT, Q_PROJ):
        own = factors(sample)
        tensors[f"{sample.kohya}.lora_down.weight"] = own.down.float()
        tensors[f"{sample.kohya}.lora_up.weight"] = own.up.float()
        tensors[f"{sample.kohya}.alpha"] = torch.tensor(8).to(torch.float32)
        expected[sample] = 8 / 4 * own.product()
    assert_changes(saved(tmp_path / "a.safetensors", tensors), expected, 1e-6)


HEADER = {"ss_output_name": "both", "ss_network_module": "networks.lora", "sshs_model_hash": "0"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_supermerger_adds_up(tmp_path: Path, dtype: torch.dtype) -> None:
    """Sums of factors, whatever they are of the LoRAs: −0.5 is √0.5 in both, the down negative."""
    tensors, expected = {}, {}
    for sample in (TO_K, PROJ_IN, Q_PROJ):
        one, root = factors(sample), 0.5**0.5
        up, down = one.up.flip(0), one.down.flip(1)  # of another LoRA
        pairs = {"lora_down": one.down - root * down, "lora_up": one.up + root * up}
        stored = {name: value.to(dtype) for name, value in pairs.items()}
        tensors |= {f"{sample.kohya}.{name}.weight": value for name, value in stored.items()}
        tensors[f"{sample.kohya}.alpha"] = torch.tensor(2.0).to(dtype)
        up, down = (stored[name].double().flatten(1) for name in ("lora_up", "lora_down"))
        expected[sample] = 2 / 4 * up @ down
    assert_changes(saved(tmp_path / "a.safetensors", tensors, HEADER), expected, 1e-6)


@pytest.mark.parametrize("alpha", [torch.tensor(3), torch.tensor(3).half()])
def test_what_supermerger_cuts_to_a_rank(tmp_path: Path, alpha: torch.Tensor) -> None:
    """Singular vectors in half precision; alpha is the rank, a whole number."""
    tensors, expected = {}, {}
    for sample in (TO_K, PROJ_IN):
        kernel = torch.Size(sample.shape[2:])
        u, s, vh = torch.linalg.svd(factors(sample).product().flatten(1), full_matrices=False)
        up, down = (u[:, :3] * s[:3]).half(), vh[:3].half()
        tensors[f"{sample.kohya}.lora_up.weight"] = up.reshape(*up.shape, *kernel)
        tensors[f"{sample.kohya}.lora_down.weight"] = down.reshape(*down.shape, *kernel)
        tensors[f"{sample.kohya}.alpha"] = alpha.clone()
        expected[sample] = up.double() @ down.double()
    assert_changes(saved(tmp_path / "a.safetensors", tensors, HEADER), expected, 1e-6)
