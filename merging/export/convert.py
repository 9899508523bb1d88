"""What of an adapter's header stays true when it is written anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from merging.base_models import SD15
from merging.formats.overview import HASHES

# What a header says of the file that it was in, which is not true of one made from it.
OF_THE_FILE = {
    *HASHES,
    *("ss_output_name", "ss_network_module", "ss_network_dim", "ss_network_alpha"),
    *("ss_network_args", "lora_adapter_metadata", "format"),
    *SD15.header,
}


# safetensors' types by ours; what is neither wide nor bfloat16 fits into float16.
PRECISIONS = {"F64": "fp32", "F32": "fp32", "BF16": "bf16"}


def kept(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a header says of the adapter, without what it says of the file."""
    return {key: value for key, value in metadata.items() if key not in OF_THE_FILE}


def precision(dtypes: Counter[str]) -> str:
    """The type that most of a file's tensors have, as far as we write it."""
    return PRECISIONS.get(dtypes.most_common(1)[0][0], "fp16")
