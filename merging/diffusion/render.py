"""Pictures from a base and LoRAs: diffusers' pipeline with the LoRAs' changes added by hooks.

File loaders are not used: the scaling that they apply differs from file to file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from PIL import Image
from torch import Tensor

from merging.adapter import Adapter
from merging.base_models import base_model
from merging.diffusion.attention_maps import AttentionRecorder
from merging.diffusion.base import Base, latent_side, latent_size
from merging.diffusion.calibration_samples import POSITIONS_PER_BATCH
from merging.diffusion.compose import COMPOSITIONS, Composition, composition
from merging.diffusion.compose.scene import Scene, Weighted
from merging.diffusion.preview import OnEstimate
from merging.diffusion.prompts.clip_skip import using_clip_skip
from merging.diffusion.prompts.encoder import piece_count
from merging.diffusion.sampling import draw
from merging.diffusion.schedulers import using_sampler
from merging.diffusion.textual_inversion import using_embeddings
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.io.png import Origin, UsedAdapter
from merging.io.regions import Region
from merging.options import Sampler
from merging.runtime.memory import explain_out_of_memory
from merging.runtime.progress import Progress, Stop, check, never, part, silent
from merging.text.syntax import Prompt, parse_prompt

MAX_STEPS = 200
MAX_GUIDANCE = 30.0


def render(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    adapters: Sequence[tuple[Adapter, float]] = (),
    embeddings: Sequence[Embedding] = (),
    steps: int = 25,
    guidance: float | None = None,
    compose: str = "sum",
    negative: str = "",
    sampler: Sampler = "DDIM",
    size: str = "",
    clip_skip: int = 1,
    phrases: Sequence[str] = (),
    regions: Sequence[Region] = (),
    first_alone: bool = False,
    progress: Progress = silent,
    stop: Stop = never,
    on_estimate: OnEstimate | None = None,
) -> list[Image.Image]:
    """One picture per (prompt, seed) pair; ``image.info`` has the texts for its PNG.

    Prompts may have A1111's syntax, (word:1.3), [word] and BREAK, and more tokens than the text
    encoder reads at once. ``clip_skip`` 2 leaves out the encoder's last layer, as in A1111.

    ``guidance`` None is the base's best value. ``size`` is WIDTHxHEIGHT in pixels, "" for the
    native size of the base. With ``phrases``, ``image.info["maps"]`` has the attention to every
    phrase: phrase → (height, width) of the latent (`merging.diffusion.attention_maps`).

    ``compose`` is how several adapters act together, a name of
    `merging.diffusion.compose.COMPOSITIONS`; a single one acts as it is. Prompts may use the words
    of ``embeddings`` and of the adapters' embeddings. ``regions`` are for compositions that need
    them.

    Pictures that are drawn together differ in their last bits from those drawn one by one. With
    ``first_alone`` the first is by itself, as in a comparison, which shows it before the others.

    ``on_estimate`` gets, after every step, the latents that the pictures seem to come to, and the
    position of the first of them (`merging.diffusion.preview`).

    Noise is drawn on the CPU picture by picture, so a seed means the same on every device.
    Raises MergeError for values out of range, Cancelled once ``stop`` turns true.
    """
    guidance = _guidance_in_range(base, steps, guidance)
    row = composition(compose)
    if regions and "regions" not in row.needs:
        raise MergeError(f"“{row.title}” takes no regions; compose by regions, or leave them out.")
    pairs = list(zip(prompts, seeds, strict=True))
    latent = latent_size(base, size)
    common = Origin(
        prompt="",
        negative=negative,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        compose=compose,
        base=base.name,
        size=size.strip(),
        clip_skip=clip_skip,
        side=latent_side(base) * base.pipeline.vae_scale_factor,
        adapters=tuple(UsedAdapter(one.name, w, one.trigger, one.sha256) for one, w in adapters),
        regions=tuple(regions),
    )
    most = 1 if row.one_by_one else len(pairs)
    batch_size = max(1, min(most, POSITIONS_PER_BATCH // (2 * latent[0] * latent[1])))
    images: list[Image.Image] = []
    written = [(parse_prompt(prompt), seed) for prompt, seed in pairs]
    avoided = parse_prompt(negative)
    words = [word for adapter, _ in adapters for word in adapter.embeddings]
    with _set_up(base, [*words, *embeddings], sampler, clip_skip):
        _check_prompts(base, [*(prompt for prompt, _ in written), avoided], row, adapters)
        for places in batches_of(len(pairs), batch_size, first_alone):
            check(stop)
            start, chunk = places.start, written[places.start : places.stop]
            share = part(progress, start / len(pairs), places.stop / len(pairs))
            scene = Scene(base, chunk, avoided, adapters, latent, steps, guidance, regions)
            watch = _from_place(on_estimate, start)
            images += _draw_batch(scene, row, phrases, share, stop, watch)
    for image, (prompt, seed) in zip(images, pairs, strict=True):
        image.info.update(replace(common, prompt=prompt, seed=seed).texts())
    return images


@contextmanager
def _set_up(
    base: Base, embeddings: Sequence[Embedding], sampler: Sampler, clip_skip: int
) -> Iterator[None]:
    """The base with textual inversions, sampler and clip skip; as it was afterwards."""
    memory = explain_out_of_memory(f"Drawing on {base.device}", "close other programs that use it")
    with (
        memory,
        using_embeddings(base, embeddings),
        using_sampler(base, sampler),
        using_clip_skip(base, clip_skip),
    ):
        yield


def _check_prompts(
    base: Base, prompts: Sequence[Prompt], row: Composition, adapters: Sequence[Weighted]
) -> None:
    """MergeError for prompts that are too long, or too rich for a composition by triggers."""
    rich = [one for one in prompts if not one.is_plain or piece_count(base, one) > 1]
    if rich and row.needs and len(adapters) > 1:
        raise MergeError(
            f"“{row.title}” looks for triggers among the tokens of a plain prompt: leave out "
            f"emphasis and BREAK, and keep to {base.pipeline.tokenizer.model_max_length} tokens, "
            "or let the LoRAs act as a sum."
        )


def batches_of(count: int, size: int, first_alone: bool) -> list[range]:
    """The places of so many pictures, in batches that are drawn together."""
    lead = min(count, 1) if first_alone else 0
    starts = range(lead, count, size)
    rest = [range(start, min(start + size, count)) for start in starts]
    return [range(lead), *rest] if lead else rest


def _from_place(on_estimate: OnEstimate | None, start: int) -> Callable[[Tensor], None] | None:
    """What a batch that begins at ``start`` tells its estimates to."""
    return (lambda latents: on_estimate(latents, start)) if on_estimate else None


def _guidance_in_range(base: Base, steps: int, guidance: float | None) -> float:
    """The guidance, by default the base's; MergeError if it or the steps are out of range."""
    if guidance is None:
        guidance = base_model(base.name).guidance
    if not 1 <= steps <= MAX_STEPS or not 0 <= guidance <= MAX_GUIDANCE:
        raise MergeError(
            f"Steps must be 1 to {MAX_STEPS} and guidance 0 to {MAX_GUIDANCE:g}, "
            f"not {steps} and {guidance:g}."
        )
    return guidance


def _draw_batch(
    scene: Scene,
    row: Composition,
    phrases: Sequence[str],
    progress: Progress,
    stop: Stop,
    on_estimate: Callable[[Tensor], None] | None,
) -> list[Image.Image]:
    """The scene's pictures, with their attention maps of the phrases in ``info``."""
    # One LoRA has nothing to be composed with: it acts as it is, unless it has a region.
    alone = len(scene.adapters) < 2 and not scene.regions
    composer = (COMPOSITIONS["sum"] if alone else row).composer_class(scene)
    marks = scene.phrase_masks(phrases)
    watch = AttentionRecorder(scene.base, marks, scene.latent)
    watching = watch.recording() if phrases else nullcontext()
    images = draw(scene, composer, progress, stop, watching, on_estimate)
    if phrases:
        known = composer.maps(phrases)
        for image, maps in zip(images, watch.maps() if known is None else known, strict=True):
            image.info["maps"] = dict(zip(phrases, maps, strict=True))
    return images
