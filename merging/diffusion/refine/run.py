"""A merge refined: its LoRAs paint pictures together, and it is trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from merging.base_models import base_model
from merging.calibration.plan import Refined, RefinePlan, Refiner
from merging.calibration.prompts import composed_prompts
from merging.diffusion.base import Base, latent_side, latent_size
from merging.diffusion.prompts.clip_skip import using_clip_skip
from merging.diffusion.refine.composites import Composites, orders, shows_both, tried_of_each
from merging.diffusion.refine.concept import Concept, ModelChange, check_phrases
from merging.diffusion.refine.judge import Judge, build_judge
from merging.diffusion.refine.lessons import Lessons, draw_lessons
from merging.diffusion.refine.sampling import draw_latents, seeded_noise
from merging.diffusion.refine.student import Student, trainable
from merging.diffusion.refine.training import KINDS, Losses, train
from merging.diffusion.textual_inversion import using_embeddings
from merging.errors import MergeError
from merging.linalg.delta import Delta
from merging.runtime.memory import explain_out_of_memory, free_bytes
from merging.runtime.progress import Progress, Stop, part
from merging.runtime.seeds import seed_for

PROOFS, PROOF_STEPS = 8, 15  # pictures before and after, each with two of the LoRAs
COPIES = 4  # of every factor: itself, its gradient, and AdamW's two means
# Activations of one row that the way back needs, in maps of the first block's size; the way of a
# checkpointed base keeps the blocks' inputs alone.
MAPS_HELD, MAPS_CHECKPOINTED = 120, 40


def refiner(base: Base) -> Refiner:
    """What ``merging.engine.merge`` refines through."""
    return partial(refine_merge, base)


def refine_merge(base: Base, plan: RefinePlan, progress: Progress, stop: Stop) -> Refined:
    """Paint the pictures, train the merge on them, and compare what it draws before and after.

    Raises MergeError for LoRAs without different trigger phrases, or where memory does not suffice;
    Cancelled once ``stop`` turns true, even inside a step. Without any painted picture that shows
    two of the LoRAs the merge stays as it was, and a note says so.
    """
    concepts = _concepts(plan)
    check_phrases(concepts)
    _check_memory(base, plan)
    progress(0.0, f"refining takes about {passes_of(len(concepts), plan.steps):,} passes")
    remedy = "refine no merge here (refine 0), or take another device"
    memory = explain_out_of_memory(f"Refining the merge on {base.device}", remedy)
    parked = base.parked("vae", "safety_checker")
    words, skip = using_embeddings(base, plan.embeddings), using_clip_skip(base, plan.clip_skip)
    with memory, parked, words, skip, base.stopping_at_layers(stop):
        with plan.phases("painting"):
            judge = build_judge(base, concepts, seed=plan.seed, progress=part(progress, 0, 0.1))
            lessons = draw_lessons(judge, plan, part(progress, 0.1, 0.4))
        notes = [_composite_note(lessons.composites)]
        if not len(lessons.composites.pictures):
            return Refined({}, (*notes, "None of them passed, so the merge was not refined."))
        with plan.phases("refining"):
            layers, losses = _train(base, plan, concepts, lessons, part(progress, 0.4, 0.95))
        with plan.phases("comparing"):
            shares = [_share_with_both(judge, plan, deltas) for deltas in (plan.start, layers)]
    return Refined(layers, (*notes, _loss_note(plan, losses), _share_note(shares)))


def _concepts(plan: RefinePlan) -> list[Concept]:
    changes = zip(plan.names, plan.phrases, plan.deltas, plan.shifts, strict=True)
    return [
        Concept(phrase, ModelChange(deltas, shifts), name)
        for name, phrase, deltas, shifts in changes
    ]


def _train(
    base: Base,
    plan: RefinePlan,
    concepts: Sequence[Concept],
    lessons: Lessons,
    progress: Progress,
) -> tuple[dict[str, Delta], Losses]:
    """The trained layers, and the losses of the steps."""
    loras = [concept.change.on(base) for concept in concepts]
    with trainable(base):
        student = Student(base, plan.start, plan.start_shifts)
        seed = seed_for(plan.seed, "refine")
        losses = train(student, loras, lessons, plan.steps, seed, progress)
    return student.layers(), losses


def _share_with_both(judge: Judge, plan: RefinePlan, layers: Mapping[str, Delta]) -> float:
    """Share of the merge's pictures in which the judge finds both LoRAs that are asked for."""
    base, change = judge.base, ModelChange(layers, plan.start_shifts)
    pairs = orders(judge.concepts)
    size, guidance = latent_size(base), base_model(base.name).guidance
    good = 0
    for number in range(PROOFS):
        two = pairs[number % len(pairs)]
        concepts = [judge.concepts[i] for i in two]
        phrases = sorted(concept.phrase for concept in concepts)
        (prompt,) = composed_prompts(phrases, 1, seed_for(plan.seed, "proof", str(number)))
        noise = seeded_noise(base, [seed_for(plan.seed, "proof", str(number))], size)
        latents = draw_latents(base, [prompt], noise, change, steps=PROOF_STEPS, guidance=guidance)
        maps = judge.of(two).maps(latents, [prompt])
        good += int(shows_both(maps, [concept.style for concept in concepts]).item())
    return good / PROOFS


def passes_of(loras: int, steps: int) -> int:
    """Pictures that go through the UNet for ``loras`` of them, backward ones counted twice more.

    The time of a refinement is about this times the time of one.
    """
    pairs = loras * (loras - 1)
    painted = pairs * tried_of_each(pairs) * (2 * 12 + 8 + 2 * 15 + 27)
    return painted + (loras + 1) * 48 * 24 + loras * 24 * 42 + steps * sum(KINDS.values()) * 5


def _check_memory(base: Base, plan: RefinePlan) -> None:
    """MergeError if factors, optimiser and activations do not fit."""
    factors = sum(delta.up.numel() + delta.down.numel() for delta in plan.start.values())
    side, width = latent_side(base), base.pipeline.unet.config.block_out_channels[0]
    maps = MAPS_HELD if side < 32 else MAPS_CHECKPOINTED
    rows = max(1, min(sum(KINDS.values()), 16384 // side**2))
    needed = COPIES * 4 * factors + rows * maps * side**2 * width * 2
    free = free_bytes(base.device)
    if free is not None and needed > free:
        raise MergeError(
            f"Refining would need {needed / 2**30:.1f} GiB on {base.device}, where "
            f"{free / 2**30:.1f} are free; set refine to 0, or take another device."
        )


def _composite_note(composites: Composites) -> str:
    counts = ", ".join(
        f"{name} {composites.kept[name]} of {tried}" for name, tried in composites.tried.items()
    )
    return f"Painted pictures that show both LoRAs by their own check: {counts}."


def _loss_note(plan: RefinePlan, losses: Losses) -> str:
    sentences = [
        f"{kind} {first:.4f} → {last:.4f}"
        for kind, (first, last) in ((kind, losses.ends(kind)) for kind in KINDS)
    ]
    return f"Refined in {plan.steps} steps; loss at the beginning → end: {', '.join(sentences)}."


def _share_note(shares: Sequence[float]) -> str:
    before, after = shares
    return (
        f"Of {PROOFS} pictures that ask for two LoRAs, the check finds both in {before:.0%} before "
        f"and {after:.0%} after; the layers' errors in this report are those before."
    )
