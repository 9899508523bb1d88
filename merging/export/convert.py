"""What stays of an adapter's header and precision when it is written to another file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from merging.base_models import SD15
from merging.formats.overview import HASHES

# Header fields about the file itself, which would be wrong in a file made from it.
FILE_FIELDS = {
    *HASHES,
    *("ss_output_name", "ss_network_module", "ss_network_dim", "ss_network_alpha"),
    *("ss_network_args", "lora_adapter_metadata", "format"),
    *SD15.header,
}
# safetensors' types → our names; all others fit into float16.
PRECISIONS = {"F64": "fp32", "F32": "fp32", "BF16": "bf16"}


def adapter_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The header fields about the adapter, without those about its file."""
    return {key: value for key, value in metadata.items() if key not in FILE_FIELDS}


def main_dtype(dtypes: Counter[str]) -> str:
    """The type of most tensors in a file, as one of the types that we write.

    Whole numbers, as of places, are of no account.
    """
    counts = Counter({name: count for name, count in dtypes.items() if name[0] not in "IU"})
    return PRECISIONS.get((counts or dtypes).most_common(1)[0][0], "fp16")
