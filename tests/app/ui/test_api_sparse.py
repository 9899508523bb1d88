"""A sparse merge by the public endpoint: the zip that peft loads."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from gradio_client import Client, handle_file

from merging import formats
from merging.adapter import Adapter, LoraLayer
from merging.io.files import PEFT_WEIGHTS
from tests.conftest import SHELF


def test_merge_writes_a_sparse_sum_as_shira(client: Client, tmp_path: Path) -> None:
    """One entry of one layer from each file; a zip has what peft loads."""
    files, layer = [], next(iter(formats.read(SHELF["sks cat"]).layers))
    rows, columns = formats.table("mini").shapes[layer]
    for place in range(2):
        up, down = torch.zeros(rows, 1), torch.zeros(1, columns)
        up[place], down[0, place] = 3.0, 1.0
        lora = Adapter(f"dot {place}", {layer: LoraLayer(up, down, 1.0)}, trigger=f"dot{place}")
        files.append(tmp_path / f"dot-{place}.safetensors")
        formats.write_kohya(lora, files[-1], torch.float32)
    bundle, _ = client.predict(
        files=[handle_file(path) for path in files],
        method="sum",
        rank="full",
        dtype="fp32",
        file_format="shira",
        api_name="/merge",
    )
    with zipfile.ZipFile(bundle) as zipped:
        zipped.extractall(tmp_path / "made")
    (weights,) = (tmp_path / "made").rglob(PEFT_WEIGHTS)
    change = formats.read(weights, formats.table("mini")).layers[layer].delta()
    assert torch.equal(change.nonzero(), torch.tensor([[0, 0], [1, 1]]))
    assert change[0, 0] == change[1, 1] == 3
