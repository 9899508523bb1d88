"""Refuse files for other base models and other kinds of files, and say what they are.

Names of blocks are checked first, then the width of the text features in cross-attention, which no
trainer can get wrong. The base model in the header is often copied from elsewhere, so it decides
nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from merging.errors import MergeError
from merging.formats.header import Header
from merging.io.files import CARRIED_KEY, PACK_KEY

# Patterns of keys, and the base models that have such keys.
ARCHITECTURES = (
    (r"double_blocks|single_blocks|single_transformer_blocks", "Flux"),
    (r"joint_blocks|add_k_proj|add_q_proj|text_encoder_3|^lora_te3_", "Stable Diffusion 3"),
    (r"^lora_prior_unet|^prior_unet", "Stable Cascade"),
    (r"caption_projection|adaln_single", "PixArt"),
    (r"blocks[._]\d+[._](self|cross)_attn", "Wan or a related video model"),
    (r"layers[._]\d+[._]attention[._]", "Lumina"),
    (r"img_mlp|txt_mlp", "Qwen-Image"),
    (r"^(lora_)?transformer[._]", "a transformer model such as Flux or Stable Diffusion 3"),
    (r"motion_modules|temporal", "AnimateDiff"),
    (r"^lora_te2_|^text_encoder_2\.|^text_encoders\.clip_g|add_embedding|label_emb", "SDXL"),
    (r"transformer_blocks[._][1-9]", "SDXL"),
)
# The tensors whose second dimension is the layer's input width, in all families.
DOWN = r"(lora_A(\.[\w-]+)?\.weight|down\.weight|hada_w1_b|b2\.weight|diff|lokr_w2(_b)?)$"
WIDTHS: tuple[tuple[str, Mapping[int, str]], ...] = (
    (
        rf"attn2.*to_[kv].*{DOWN}",
        {1024: "Stable Diffusion 2", 2048: "SDXL", 1280: "the SDXL refiner"},
    ),
    (
        rf"^(lora_te|text_encoder|clip_l|(base_model\.model\.)?text_model).*(q_proj|k_proj|v_proj|to_[qkv]_lora).*{DOWN}",
        {1024: "Stable Diffusion 2", 1280: "SDXL"},
    ),
    (rf"(conv_in|input_blocks[._]0[._]0)\..*{DOWN}", {9: "an inpainting model"}),
)
# Kinds of files that are no adapters of layers.
OTHER_FILES = (
    (r"lora_controlnet", "a Control-LoRA"),
    (r"^(model\.diffusion_model|first_stage_model|cond_stage_model)\.", "a whole model"),
    (
        r"^control_model\.|^controlnet|input_hint_block|controlnet_cond_embedding",
        "a ControlNet",
    ),
    (r"^lllite_unet", "a ControlNet-LLLite"),
    (r"^adapter\.(body|conv_in)", "a T2I-Adapter"),
    (r"^(ip_adapter|image_proj)\b|_ip\.weight$|^\d+\.to_\w+_lora\.", "an IP-Adapter"),
    (r"^(encoder|decoder)\.(conv_in|down|up|mid)\b", "a VAE"),
    (r"^(unet|text_encoder):\d+:", "a LoRA of cloneofsimo's trainer, which names no layers"),
)
BESIDE = "load it beside the merge, in the program that draws: a merge leaves alone what it changes"
# What can be done with files that are no LoRAs for Stable Diffusion 1.x.
REMEDIES = {
    "AnimateDiff": BESIDE,
    "a Control-LoRA": BESIDE,
    "a ControlNet": BESIDE,
    "a ControlNet-LLLite": BESIDE,
    "a T2I-Adapter": BESIDE,
    "an IP-Adapter": BESIDE,
    "a VAE": BESIDE,
    "a whole model": "choose it as the base model",
    "a textual inversion": "use it with --embedding",
}
INVERSION = "a textual inversion"
INVERSIONS = re.compile(r"^bundle_emb\.|string_to_param|^emb_params$|^<.*>$|^clip_[lg](_out)?$")
# Names of adapters that change how a model samples, not what it shows.
DISTILLED = re.compile(
    r"(?<![a-z])((animate)?lcm|hyper(-?sd)?|lightning|(sd)?turbo|dpo|spo|tcd|pcm|dmd2?|flash-?sd)(?![a-z])"
)
# Names of LoRAs that belong to an IP-Adapter, whose picture they read.
FACES = re.compile(r"ip-adapter|faceid")
GUIDANCE = re.compile(r"time_embedding[._]cond_proj")  # only distilled models have this layer
INPAINTING = re.compile(r"inpaint", re.IGNORECASE)
CLAIMS = ("ss_base_model_version", "modelspec.architecture")  # header fields that name the base
OTHER_CLAIMS = re.compile(r"sd_?v2|stable-diffusion-v2|sd_?xl|stable-diffusion-xl|sd3|flux")


def refuse_other_files(header: Header, file: str) -> None:
    """Raise MergeError for a file that is for another base model, or of another kind."""
    if PACK_KEY in header.metadata:
        raise MergeError(
            f"{file} is a pack of several LoRAs; name one of them, as in {file}#NAME "
            "(the command unpack lists them)."
        )
    base, key = _first(header, ARCHITECTURES) or _by_width(header) or ("", "")
    if base:
        remedy = f"; {REMEDIES[base]}" if base in REMEDIES else ""
        raise MergeError(
            f"{file} was made for {base} (it has {key}); only LoRAs for Stable Diffusion 1.x "
            f"can be merged here{remedy}."
        )
    kind, key = _first(header, OTHER_FILES) or ("", "")
    if not kind and all(INVERSIONS.search(key) for key in header.tensors):
        kind, key = INVERSION, next(iter(header.tensors))
    if kind:
        more = f", or {REMEDIES[kind]}" if kind in REMEDIES else ""
        raise MergeError(f"{file} is {kind}, not a LoRA (it has {key}); choose a LoRA file{more}.")


def _first(header: Header, patterns: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    """Name of the first pattern that a key matches, and that key."""
    for pattern, name in patterns:
        for key in header.tensors:
            if re.search(pattern, key):
                return name, key
    return None


def _by_width(header: Header) -> tuple[str, str] | None:
    """The base model with the input width of a key, and that key."""
    for pattern, widths in WIDTHS:
        for key in header.tensors:
            width = _width(key, header)
            if width in widths and re.search(pattern, key):
                return widths[width], f"{key} {width} wide"
    return None


def _width(key: str, header: Header) -> int:
    """Input width by a tensor, 0 if it has none; for a half of a LoKr, the product of both."""
    shape = header.tensors[key].shape
    if len(shape) < 2:
        return 0
    name, _, half = key.rpartition(".")
    if half not in ("lokr_w2", "lokr_w2_b"):
        return shape[1]
    others = (header.tensors.get(f"{name}.{other}") for other in ("lokr_w1", "lokr_w1_b"))
    return shape[1] * next((other.shape[-1] for other in others if other and other.shape), 0)


def doubts(header: Header, name: str) -> list[str]:
    """Sentences on why a file that fits Stable Diffusion 1.x by its shapes may still not work."""
    sentences = []
    claims = [header.metadata.get(field, "") for field in CLAIMS]
    if header.metadata.get("ss_v2") == "True":
        claims.append("sd_v2")
    if others := [claim for claim in claims if OTHER_CLAIMS.search(claim.lower())]:
        claim = others[0][:60]
        sentences.append(f"Its header says that it was made for {claim}, but its layers fit.")
    titles = (
        name,
        *(header.metadata.get(field, "") for field in ("ss_output_name", "modelspec.title")),
    )
    by_name = any(DISTILLED.search(title.lower().replace("_", "-")) for title in titles)
    if by_name or any(GUIDANCE.search(key) for key in header.tensors):
        sentences.append(
            f"By its {'name' if by_name else 'layers'} it changes how the model samples (LCM, "
            "Hyper, Turbo, DPO …), not what it shows; merging it with concepts rarely works: load "
            "it beside the merge, with its own sampler and number of steps."
        )
    if any(FACES.search(title.lower().replace("_", "-")) for title in titles):
        sentences.append(
            "By its name it belongs to an IP-Adapter, beside which alone it shows a face; load it "
            "with that, not in a merge."
        )
    return [*sentences, *_base_doubts(header)]


def _base_doubts(header: Header) -> list[str]:
    """What its trainer says of the base that it was trained on, where others differ from it."""
    fields, sentences = header.metadata, []
    if fields.get("modelspec.prediction_type") == "v" or _is_set(header, "ss_v_parameterization"):
        sentences.append(
            "It was trained on a base that predicts velocities (v-prediction): on others, which "
            "predict noise, its pictures may be washed out or burnt."
        )
    if _is_set(header, "ss_zero_terminal_snr"):
        sentences.append(
            "It was trained with noise that hides the picture entirely (zero terminal SNR): on "
            "other bases, which expect a rest of it, brightness and contrast may be off."
        )
    if INPAINTING.search(trained_on := fields.get("ss_sd_model_name", "")):
        sentences.append(
            f"It was trained on an inpainting model ({trained_on[:60]}): on a base that draws from "
            "text alone it may do less; draw it alone before merging it."
        )
    if (layers := fields.get("ss_clip_skip", "")).isdecimal() and int(layers) > 1:
        sentences.append(f"It was trained with clip skip {layers[:2]}: draw with the same.")
    if base := _carried_to(header):
        sentences.append(
            f"It was carried to the base {base[:60]}: elsewhere take the one it was made from."
        )
    return sentences


def _carried_to(header: Header) -> str:
    """The base that the command carry has made the file for, "" for other files."""
    try:
        return str(json.loads(header.metadata.get(CARRIED_KEY, "{}"))["to"]["name"])
    except (ValueError, LookupError, TypeError):
        return ""


def _is_set(header: Header, field: str) -> bool:
    """Whether a field of kohya's, "True" or "False", is true."""
    return header.metadata.get(field, "").lower() == "true"
