"""What a file is for: other base models and other kinds of file are refused by name.

The order and the evidence are those of practice: names of blocks first, then the width of the text
features that the cross-attention reads, which no trainer can get wrong; what the header says of its
base is often copied from elsewhere, and so decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from merging.errors import MergeError
from merging.formats.header import Header

# Patterns of keys, and the base model they give away.
ARCHITECTURES = (
    (r"double_blocks|single_blocks|single_transformer_blocks", "Flux"),
    (r"joint_blocks|add_k_proj|add_q_proj", "Stable Diffusion 3"),
    (r"blocks[._]\d+[._](self|cross)_attn", "Wan or a related video model"),
    (r"layers[._]\d+[._]attention[._]", "Lumina"),
    (r"img_mlp|txt_mlp", "Qwen-Image"),
    (r"^(lora_)?transformer[._]", "a transformer model such as Flux or Stable Diffusion 3"),
    (r"motion_modules|temporal", "AnimateDiff"),
    (r"^lora_te2_|^text_encoder_2\.|add_embedding|label_emb", "SDXL"),
    (r"transformer_blocks[._][1-9]", "SDXL"),
)
# How a plain LoRA names its narrow half, whose second dimension is the layer's input width.
DOWN = r"(lora_A|down)\.weight$"
WIDTHS: tuple[tuple[str, Mapping[int, str]], ...] = (
    (
        rf"attn2.*to_[kv].*{DOWN}",
        {1024: "Stable Diffusion 2", 2048: "SDXL", 1280: "the SDXL refiner"},
    ),
    (
        rf"^(lora_te|text_encoder).*(q_proj|k_proj|v_proj|to_[qkv]_lora).*{DOWN}",
        {1024: "Stable Diffusion 2", 1280: "SDXL"},
    ),
    (rf"conv_in.*{DOWN}", {9: "an inpainting model"}),
)
# Kinds of file that are no adapters of layers at all.
OTHER_FILES = (
    (r"string_to_param|^emb_params$|^<.*>$|^clip_[lg]$", "a textual inversion"),
    (r"^(model\.diffusion_model|first_stage_model|cond_stage_model)\.", "a whole model"),
    (r"^control_model\.|lora_controlnet|^controlnet", "a ControlNet"),
    (r"^ip_adapter|^image_proj", "an IP-Adapter"),
)
# Adapters of layers that are written otherwise than as a plain pair of factors.
OTHER_ADAPTERS = (
    (r"\.hada_", "a LoHa"),
    (r"\.lokr_", "a LoKr"),
    (r"\.dora_scale$|lora_magnitude_vector", "a DoRA"),
    (r"\.lora_mid\.", "a LoCon with Tucker decomposition (lora_mid)"),
    (r"\.diff(_b)?$", "a full-rank difference (diff)"),
    (r"\.[wb]_norm$", "a LoRA with trained normalisation layers (norm)"),
    (r"\.on_input$", "an IA³"),
    (r"oft_", "an OFT"),
    (r"\.[ab][12]\.weight$", "a GLoRA"),
    (r"^bundle_emb", "a LoRA with textual inversions inside (bundle_emb)"),
    (r"lora_B\.bias$", "a LoRA with trained biases"),
    (r"^base_model\.model\.", "a bare PEFT file, whose alpha lies in another file"),
    (r"^(unet|text_encoder):\d+:", "a LoRA of cloneofsimo's trainer, which names no layers"),
    (r"^diffusion_model\.|^lora_unet_(input|middle|output)_block", "a LoRA with ldm layer names"),
)
# Adapters that change how a model samples, not what it shows.
DISTILLED = re.compile(r"(?<![a-z])(lcm|hyper|lightning|turbo|dpo|tcd)(?![a-z])")
CLAIMS = ("ss_base_model_version", "modelspec.architecture")  # header fields that name the base
OTHER_CLAIMS = re.compile(r"sd_?v2|stable-diffusion-v2|sd_?xl|stable-diffusion-xl|sd3|flux")


def refuse_strangers(header: Header, file: str) -> None:
    """Raise MergeError for a file that is for another base model, or of another kind."""
    base, key = _first(header, ARCHITECTURES) or _by_width(header) or ("", "")
    if base:
        raise MergeError(
            f"{file} was made for {base} (it has {key}); only LoRAs for Stable Diffusion 1.x "
            "can be merged here."
        )
    kind, key = _first(header, OTHER_FILES) or ("", "")
    if kind:
        raise MergeError(f"{file} is {kind}, not a LoRA (it has {key}); choose a LoRA file.")
    kind, key = _first(header, OTHER_ADAPTERS) or ("", "")
    if kind:
        raise MergeError(
            f"{file} is {kind} (it has {key}), which cannot be read yet; convert it to a plain "
            "LoRA in kohya or diffusers form."
        )


def _first(header: Header, patterns: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    """Name of the first pattern that a key shows, and that key."""
    for pattern, name in patterns:
        for key in header.tensors:
            if re.search(pattern, key):
                return name, key
    return None


def _by_width(header: Header) -> tuple[str, str] | None:
    """The base model that an input width gives away, and the key that has it."""
    for pattern, widths in WIDTHS:
        for key, info in header.tensors.items():
            if len(info.shape) > 1 and info.shape[1] in widths and re.search(pattern, key):
                return widths[info.shape[1]], f"{key} {info.shape[1]} wide"
    return None


def doubts(header: Header, name: str) -> list[str]:
    """Sentences on what fits Stable Diffusion 1.x by its shapes and still may not serve."""
    found = []
    for field in CLAIMS:
        claim = header.metadata.get(field, "")
        if OTHER_CLAIMS.search(claim.lower()):
            found.append(f"Its header says that it was made for {claim}; its layers fit anyhow.")
            break
    titles = (
        name,
        header.metadata.get("ss_output_name", ""),
        header.metadata.get("modelspec.title", ""),
    )
    if any(DISTILLED.search(title.lower()) for title in titles):
        found.append(
            "By its name it changes how the model samples (LCM, Hyper, Turbo, DPO …), not what it "
            "shows; merging it with concepts seldom works."
        )
    return found
