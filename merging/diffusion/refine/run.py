"""A merge refined: its LoRAs paint pictures together, and it is trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from merging.base_models import base_model
from merging.calibration.plan import Refined, RefinePlan, Refiner
from merging.calibration.prompts import composed_prompts, is_style
from merging.calibration.refine_size import PROOF_STEPS, PROOFS, ROWS, refine_cost
from merging.diffusion.base import Base, latent_side, latent_size
from merging.diffusion.prompts.clip_skip import using_clip_skip
from merging.diffusion.refine.checkpoint import Checkpoint, checkpoint_of
from merging.diffusion.refine.composites import Composites, orders, shows_both
from merging.diffusion.refine.concept import Concept, ModelChange, check_phrases
from merging.diffusion.refine.judge import Judge, build_judge
from merging.diffusion.refine.lessons import Lessons, draw_lessons
from merging.diffusion.refine.sampling import draw_latents, seeded_noise
from merging.diffusion.refine.student import Student, trainable
from merging.diffusion.refine.training import Losses, train
from merging.diffusion.textual_inversion import using_embeddings
from merging.errors import MergeError
from merging.linalg.delta import Delta
from merging.runtime.memory import explain_out_of_memory, free_bytes
from merging.runtime.progress import Progress, Stop, part
from merging.runtime.seeds import seed_for

COPIES = 4  # of every factor: itself, its gradient, and AdamW's two means
# Activations of one row that the way back needs, in maps of the first block's size; the way of a
# checkpointed base keeps the blocks' inputs alone.
MAPS_HELD, MAPS_CHECKPOINTED = 120, 40


def refiner(base: Base, folder: Path | None = None) -> Refiner:
    """What ``merging.engine.merge`` refines through, with a folder for checkpoints."""
    return partial(refine_merge, base, folder)


def refine_merge(
    base: Base, folder: Path | None, plan: RefinePlan, progress: Progress, stop: Stop
) -> Refined:
    """Paint the pictures, train the merge on them, and compare what it draws before and after.

    Raises MergeError for LoRAs without different trigger phrases, or where memory does not suffice;
    Cancelled once ``stop`` turns true, even inside a step. Without any painted picture that shows
    two of the LoRAs the merge stays as it was, and a note says so.
    """
    concepts = _concepts(plan)
    check_phrases(concepts)
    _check_memory(base, plan)
    cost = refine_cost(len(concepts), sum(map(is_style, plan.phrases)), plan.steps)
    progress(0.0, f"refining takes about {cost.total:,.0f} passes of the model")
    judged, drawn = cost.judge / cost.total, (cost.judge + cost.lessons) / cost.total
    trained = drawn + cost.training / cost.total
    saved = checkpoint_of(folder, base, plan)
    remedy = "refine no merge here (refine 0), or take another device"
    memory = explain_out_of_memory(f"Refining the merge on {base.device}", remedy)
    parked = base.parked("vae", "safety_checker")
    words, skip = using_embeddings(base, plan.embeddings), using_clip_skip(base, plan.clip_skip)
    with memory, parked, words, skip, base.stopping_at_layers(stop):
        with plan.phases("painting"):
            judge = _judge(base, concepts, plan, saved, part(progress, 0.0, judged))
            lessons = draw_lessons(judge, plan, saved, part(progress, judged, drawn))
        notes = [_composite_note(lessons.composites)]
        if not len(lessons.composites.pictures):
            return Refined({}, (*notes, "None of them passed, so the merge was not refined."))
        with plan.phases("refining"):
            training = part(progress, drawn, trained)
            layers, losses = _train(base, plan, concepts, lessons, saved, training)
        with plan.phases("comparing"):
            before, after = (_proof(judge, plan, deltas) for deltas in (plan.start, layers))
    return Refined(layers, (*notes, _loss_note(plan, losses), _proof_note(before, after)))


def _judge(
    base: Base,
    concepts: Sequence[Concept],
    plan: RefinePlan,
    saved: Checkpoint,
    progress: Progress,
) -> Judge:
    """The judge of the LoRAs; its thresholds are kept."""

    def thresholds() -> list[float]:
        judge = build_judge(base, concepts, seed=plan.seed, progress=progress)
        return list(judge.thresholds)

    return Judge(base, tuple(concepts), tuple(saved.kept("thresholds", thresholds)), seed=plan.seed)


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
    saved: Checkpoint,
    progress: Progress,
) -> tuple[dict[str, Delta], Losses]:
    """The trained layers, and the losses of the steps."""
    loras = [concept.change.on(base) for concept in concepts]
    with trainable(base):
        student = Student(base, plan.start, plan.start_shifts)
        seed = seed_for(plan.seed, "refine")
        losses = train(student, loras, lessons, plan.steps, seed, saved, progress)
    return student.layers(), losses


@dataclass(frozen=True)
class _Proof:
    """What the judge says of pictures that ask for two LoRAs."""

    both: float  # share in which it finds both
    weaker: float  # mean advantage of the one that is there less, in thresholds


def _proof(judge: Judge, plan: RefinePlan, layers: Mapping[str, Delta]) -> _Proof:
    """Draw with a merge, and look for both LoRAs that are asked for."""
    base, change = judge.base, ModelChange(layers, plan.start_shifts)
    pairs = orders(judge.concepts)
    size, guidance = latent_size(base), base_model(base.name).guidance
    good, weaker = 0, 0.0
    for number in range(PROOFS):
        two = pairs[number % len(pairs)]
        concepts = [judge.concepts[i] for i in two]
        phrases = sorted(concept.phrase for concept in concepts)
        (prompt,) = composed_prompts(phrases, 1, seed_for(plan.seed, "proof", str(number)))
        noise = seeded_noise(base, [seed_for(plan.seed, "proof", str(number))], size)
        latents = draw_latents(base, [prompt], noise, change, steps=PROOF_STEPS, guidance=guidance)
        pair = judge.of(two)
        maps = pair.maps(latents, [prompt])
        good += int(shows_both(maps, [concept.style for concept in concepts]).item())
        weaker += min(finding.score for finding in pair.read(maps[0]))
    return _Proof(good / PROOFS, weaker / PROOFS)


def _check_memory(base: Base, plan: RefinePlan) -> None:
    """MergeError if factors, optimiser and activations do not fit."""
    factors = sum(delta.up.numel() + delta.down.numel() for delta in plan.start.values())
    side, width = latent_side(base), base.pipeline.unet.config.block_out_channels[0]
    maps = MAPS_HELD if side < 32 else MAPS_CHECKPOINTED
    rows = max(1, min(sum(ROWS.values()), 16384 // side**2))
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
        for kind, (first, last) in ((kind, losses.ends(kind)) for kind in ROWS)
    ]
    return f"Refined in {plan.steps} steps; loss at the beginning → end: {', '.join(sentences)}."


def _proof_note(before: _Proof, after: _Proof) -> str:
    return (
        f"Of {PROOFS} pictures that ask for two LoRAs, the check finds both in {before.both:.0%} "
        f"before and {after.both:.0%} after; mean advantage of the weaker one, in thresholds: "
        f"{before.weaker:.2f} before, {after.weaker:.2f} after. The layers' errors in this report "
        "are those before."
    )
