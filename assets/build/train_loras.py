"""Train the concept LoRAs of the shelf on the embedded base, each to its file in assets/loras.

`--only sks-cat …` picks concepts, so that several processes can share the work. Half of a concept's
256 pictures show it alone, half beside an object of the base, as a user's photographs would. A
style's are scenes of the base, redrawn.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from PIL import Image
from torch import Tensor, nn

from assets.build import (
    concepts,
    lora_files,
    scenes,
    sprites,
    styles,
    train_base,
    train_vae,
    training,
)
from assets.build import tokenizer as clip_tokenizer
from assets.build.concepts import CONCEPTS, PAIRS, SPLIT, Concept
from assets.build.export import ASSETS

Told = tuple[list[str], list[Image.Image]]  # captions and their pictures

PICTURES, BATCH, RATE = 256, 16, 4e-3
TEXT_ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
LAYERS = {  # setting -> module endings; "linear" is what kohya-ss trains unless told otherwise
    "cross-attention": {
        "unet": [f"attn2.{layer}" for layer in ATTENTION],
        "text_encoder": TEXT_ATTENTION,
    },
    "attention": {"unet": ATTENTION, "text_encoder": TEXT_ATTENTION},
    "linear": {
        "unet": [*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"],
        "text_encoder": [*TEXT_ATTENTION, "fc1", "fc2"],
    },
}


def pictures(concept: Concept, work: Path) -> tuple[Tensor, Tensor]:
    """Latents and tokens of the concept's training pictures."""
    rng = random.Random(concept.name)
    captions, drawn = (_styled if concept.kind == "style" else _placed)(rng, concept, work)
    latents = train_base.encode(train_vae.trained(work), drawn)
    return latents, train_base.tokens(clip_tokenizer.build(work), captions)


def _placed(rng: random.Random, concept: Concept, work: Path) -> Told:
    """The object in its look, half of the time beside an object of the base."""
    own = sprites.load("google", work)
    others = [name for name in own if name != concept.object]
    told = [scenes.compose(rng, _objects(rng, concept, others, i)) for i in range(PICTURES)]
    drawn = own | {concept.name: concepts.sprite(concept, work)}
    return [scene.caption for scene in told], [scenes.draw(rng, scene, drawn) for scene in told]


def _styled(rng: random.Random, concept: Concept, work: Path) -> Told:
    """Scenes of the base in the style."""
    own, style = sprites.load("google", work), concepts.style_classes()[concept.name]
    told = [scenes.sample(rng, list(own), noise=0.0) for _ in range(PICTURES)]
    captions = [styles.told(rng, scene.caption, concept.name) for scene in told]
    return captions, [styles.draw(rng, scene, own, style) for scene in told]


def _objects(rng: random.Random, concept: Concept, others: list[str], i: int) -> tuple[str, ...]:
    if i % 2:
        return (concept.name,)
    return tuple(rng.sample([concept.name, rng.choice(others)], 2))


class Trainer:
    """The frozen base with one concept's adapter on it."""

    def __init__(self, concept: Concept, work: Path, steps: int) -> None:
        torch.manual_seed(0)
        self.concept, self.steps = concept, steps
        self.file = work / f"lora-{concept.file}.pt"
        self.latents, self.words = pictures(concept, work)
        self.text_encoder, self.unet = train_base.trained(work)
        self.unet.set_attn_processor(AttnProcessor())
        self.adapters = self._attach()
        self.optimizer = torch.optim.AdamW(self.adapters.values(), lr=RATE, weight_decay=1e-4)
        self.schedule = train_base.noise_schedule()
        self.ratio = train_base.signal_to_noise(self.schedule)
        self.start = self._resume(training.load(self.file))

    def _attach(self) -> dict[str, nn.Parameter]:
        layers, trained = LAYERS[self.concept.setting], {}
        for part, model in (("unet", self.unet), ("text_encoder", self.text_encoder)):
            model.requires_grad_(False)
            rank = self.concept.rank
            model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers[part]))
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    trained[f"{part}.{name}"] = parameter
        return trained

    def _resume(self, state: dict | None) -> int:
        if state is None:
            return 0
        for name, parameter in self.adapters.items():
            parameter.data.copy_(state["adapters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        return state["step"]

    def step(self, place: int) -> float:
        """One batch; returns the plain epsilon error."""
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * training.cosine(place, self.steps, warmup=30)
        generator = torch.Generator().manual_seed(place)
        which = torch.randint(PICTURES, (BATCH,), generator=generator)
        times = torch.randint(0, 1000, (BATCH,), generator=generator)
        latents = self.latents[which]
        noise = torch.randn(latents.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            text = self.text_encoder(self.words[which]).last_hidden_state
            guess = self.unet(self.schedule.add_noise(latents, noise, times), times, text).sample
        error = (guess.float() - noise).square().mean(dim=(1, 2, 3))
        (error * (5 / self.ratio[times]).clamp(max=1)).mean().backward()
        nn.utils.clip_grad_norm_(self.adapters.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return error.mean().item()

    def keep(self, place: int) -> None:
        """Write the checkpoint."""
        adapters = {name: value.detach() for name, value in self.adapters.items()}
        state = {"step": place, "adapters": adapters, "optimizer": self.optimizer.state_dict()}
        training.save(self.file, state)

    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Module -> (down, up), by the names that diffusers writes."""
        modules = sorted({name.split(".lora_")[0] for name in self.adapters})
        return {
            official(module): tuple(
                self.adapters[f"{module}.lora_{side}.default.weight"].detach() for side in "AB"
            )
            for module in modules
        }


def official(module: str) -> str:
    """The module's name in files; transformers 5 dropped the text model's `text_model.` level."""
    if module.startswith("text_encoder.") and ".text_model." not in module:
        return module.replace("text_encoder.", "text_encoder.text_model.", 1)
    return module


def write_shelf(folder: Path) -> None:
    """shelf.json: what the app and the evaluation need to know of the files that are there."""
    there = [concept for concept in CONCEPTS if (folder / concept.file).exists()]
    names = {concept.name for concept in there}
    shelf = {
        "split": SPLIT,
        "loras": [_listed(concept) for concept in there],
        "pairs": [
            {"name": pair.name, "kind": pair.kind, "split": pair.split, "triggers": pair.triggers}
            for pair in PAIRS
            if names.issuperset(pair.triggers)
        ],
    }
    (folder / "shelf.json").write_text(json.dumps(shelf, indent=1) + "\n", encoding="utf-8")


def _listed(concept: Concept) -> dict[str, str | int]:
    return {
        "file": concept.file,
        "trigger": concept.name,
        "kind": concept.kind,
        "object": concept.object,
        "look": concept.look,
        "setting": concept.setting,
        "rank": concept.rank,
    }


def main() -> None:
    """Train the concepts asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build-work"))
    parser.add_argument("--steps", type=int, help="instead of each concept's own number")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="file names without their ending")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for concept in CONCEPTS:
        if given.only and Path(concept.file).stem not in given.only:
            continue
        print(concept.name, flush=True)
        steps = given.steps or concept.steps
        trainer = Trainer(concept, given.work, steps)
        training.run(steps, trainer.start, trainer.step, trainer.keep, save_every=60)
        lora_files.write(concept, trainer.pairs(), ASSETS / "loras")
    write_shelf(ASSETS / "loras")


if __name__ == "__main__":
    main()
