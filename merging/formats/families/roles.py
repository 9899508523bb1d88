"""What a tensor is for in its layer, by the end of its key: one table for all programs.

Any spelling of a module's name may come with any of these endings: the programs exchange them.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from merging.formats.layer_tables import Role

UP_BIAS: Role = "up_b"  # PEFT's bias of the up factor, which is scaled as the factors are
# Ending → role, where the ending is not the role itself.
RENAMED: dict[str, Role] = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "lora_A.weight": "down",  # PEFT; also ComfyUI's and OneTrainer's
    "lora_B.weight": "up",
    "lora_B.bias": UP_BIAS,
    "lora_N.weight": "mid",  # between both: Structured LoRA's, and
    "lora_latent_mapping.weight": "mid",  # LoRA-XS's and LoRA-SB's
    "lora.down.weight": "down",  # diffusers' exporter of 2023
    "lora.up.weight": "up",
    "down.weight": "down",  # behind the names of attention processors
    "up.weight": "up",
    "oft_R.weight": "oft_R",  # peft and OneTrainer
    "oft_R.scaled_oft": "scaled_oft",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}
WHOLE_NUMBERS = (  # indices, which may be of any type
    *("shira_indices", "unilora_indices_A", "unilora_indices_B"),
    *("vblora_logits_A_topk_indices", "vblora_logits_B_topk_indices"),
)
SAME = (
    *("alpha", "scalar", "dora_scale"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"),
    *("lokr_t1", "lokr_t2"),
    *("diff", "diff_b", "w_norm", "b_norm"),
    *("a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight"),
    "on_input",
    *("oft_blocks", "rescale"),
    *("vera_lambda_b", "vera_lambda_d", "vera_A", "vera_B"),
    *("fourierft_spectrum", "hra_u", "boft_R", "boft_s"),
    *("shira_weight", *WHOLE_NUMBERS, "vblora_logits_A", "vblora_logits_B"),
    *("vblora_logits_A_topk_weights", "vblora_logits_B_topk_weights", "vblora_vector_bank"),
    *("unilora_scales_A", "unilora_scales_B", "unilora_theta_d"),
)
ENDINGS: dict[str, Role] = RENAMED | {role: role for role in SAME}
IA3_WEIGHT: Role = "weight"  # the ending of a whole weight too: IA³'s only beside on_input
# What PEFT trains and saves whole (modules_to_save, bias="all"): the new weight or vector itself.
WHOLE_WEIGHT: Role = "whole weight"
WHOLE_BIAS: Role = "whole bias"
WHOLE = re.compile(r"(modules_to_save\.[\w-]+\.)?(?P<kind>weight|bias)|base_layer\.(?P<own>bias)")
# PEFT's parameters, which hold the adapter's name inside a live model: lora_A.default.weight.
NAMED = re.compile(
    r"(?P<parameter>lora_[ABN]|lora_magnitude_vector|oft_R(?=\.[\w-]+\.weight)|hada_\w+|lokr_\w+"
    r"|vera_(lambda_[bd]|[AB])|fourierft_spectrum|hra_u|boft_[Rs]|shira_(weight|indices)"
    r"|vblora_(logits_[AB]|vector_bank)|unilora_((indices|scales)_[AB]|theta_d))\.[\w-]+"
)
# What all layers of a model share stands behind no layer's name.
SHARED = re.compile(
    r"(base_model\.)?(?P<role>vera_[AB]|vblora_vector_bank|unilora_theta_d)(\.[\w-]+)?"
)
LATENT = "_lora_latent_mapping.weight"  # the end of LoRA-XS's matrix


def role_of(ending: str) -> Role:
    """The role of a key's ending, with or without the name of an adapter; "" if unknown."""
    return ENDINGS.get(ending) or ENDINGS.get(NAMED.sub(r"\g<parameter>", ending, count=1), "")


def separated(key: str, modules: Collection[str]) -> str:
    """The key of LoRA-XS's matrix with its role behind the module; any other key as it is.

    The module's name is followed by a dot and the adapter's name, or by nothing but an underscore.
    """
    stem = key.removesuffix(LATENT)
    if stem == key:
        return key
    module = stem if stem in modules else stem.rpartition(".")[0]
    return f"{module}.{LATENT[1:]}"


def shared_role(key: str) -> Role:
    """The role of a tensor that all layers share; "" for other keys."""
    match = SHARED.fullmatch(key)
    return match["role"] if match else ""


def whole_role(ending: str) -> Role:
    """The role of a tensor that replaces one of the base's; "" for other endings."""
    match = WHOLE.fullmatch(ending)
    roles = {"weight": WHOLE_WEIGHT, "bias": WHOLE_BIAS}
    return roles[match["kind"] or match["own"]] if match else ""


def is_whole(key: str) -> bool:
    """Whether a key of a vector is of the new vector itself, not of its change."""
    return key.endswith((".weight", ".bias")) and not is_up_bias(key)


def is_up_bias(key: str) -> bool:
    """Whether a key is of PEFT's bias of the up factor."""
    return re.search(r"\.lora_B(\.[\w-]+)?\.bias$", key) is not None
