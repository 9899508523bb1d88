"""Train the LoRAs of the shelf on the base, all at once, each to its file.

A batch holds a few pictures of every concept. In each adapted layer every concept has factors of
its own, which see its pictures alone, so this is as many trainings as there are concepts, at the
price of one with a large batch. Half of a concept's pictures show it alone, half beside an object
of the base, as a user's photographs would; a style's are scenes of the base, redrawn.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from assets.build import lora_files, models, training
from assets.build.vector import (
    autoencoder,
    base,
    concepts,
    drawings,
    rounds,
    scenes,
    settings,
    styles,
)
from assets.build.vector.concepts import CONCEPTS, Concept

PICTURES = 256  # of a concept
RATE = 4e-3
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
LAYERS = {  # setting -> module endings; "linear" is what kohya-ss trains unless told otherwise
    "cross-attention": {
        "unet": tuple(f"attn2.{layer}" for layer in ATTENTION),
        "text_encoder": TEXT_ATTENTION,
    },
    "attention": {"unet": ATTENTION, "text_encoder": TEXT_ATTENTION},
    "linear": {
        "unet": (*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        "text_encoder": (*TEXT_ATTENTION, "fc1", "fc2"),
    },
}


def file(concept: Concept) -> str:
    """Where the work folder keeps a concept's pictures."""
    return f"concept-{concept.token}.pt"


def render(concept: Concept) -> dict[str, Tensor]:
    """`words` (n, 32) and uint8 `pixels` (n, 3, 128, 128) of a concept."""
    rng = random.Random(concept.name)
    captions, pictures = (_styled if concept.kind == "style" else _placed)(rng, concept)
    tokenizer = CLIPTokenizer.from_pretrained(settings.SHIPPED / "tokenizer")
    words = models.tokens(tokenizer, captions)
    return {"words": words, "pixels": torch.from_numpy(scenes.pixels(pictures))}


def _placed(rng: random.Random, concept: Concept) -> tuple[list[str], list]:
    sprites = drawings.load(drawings.BASE)
    others = [name for name in sprites if name != concept.object]
    looked = sprites | {concept.name: drawings.load(concept.drawn)[concept.object]}
    drawn = []
    for number in range(PICTURES):
        together = [concept.name] if number % 2 else [concept.name, rng.choice(others)]
        drawn.append(scenes.compose(rng, tuple(rng.sample(together, len(together)))))
    return [scene.caption for scene in drawn], [scenes.draw(rng, scene, looked) for scene in drawn]


def _styled(rng: random.Random, concept: Concept) -> tuple[list[str], list]:
    sprites, style = drawings.load(drawings.BASE), styles.STYLES[concept.drawn]
    composed = [scenes.sample(rng, list(sprites), noise=0.0) for _ in range(PICTURES)]
    captions = [styles.captioned(rng, scene.caption, concept.name) for scene in composed]
    return captions, [styles.draw(rng, scene, sprites, style) for scene in composed]


class Adapted(nn.Module):
    """A linear layer or 1 × 1 convolution with a pair of factors for each concept.

    `ranks` has a concept's rank, or 0 where its LoRA leaves the layer as it is.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, ranks: Tensor) -> None:
        super().__init__()
        self.layer = layer
        wide, deep = layer.weight.shape[1], layer.weight.shape[0]
        most = int(ranks.max())
        self.register_buffer("mask", (torch.arange(most) < ranks[:, None]).float())
        edge = wide**-0.5  # as peft begins
        self.down = nn.Parameter(torch.empty(len(ranks), most, wide).uniform_(-edge, edge))
        self.up = nn.Parameter(torch.zeros(len(ranks), deep, most))

    def forward(self, values: Tensor) -> Tensor:
        """Values (concepts · n, …) in the order of the concepts."""
        made = self.layer(values)
        if isinstance(self.layer, nn.Conv2d):
            change = self.change(values.flatten(2).mT).mT
        else:
            change = self.change(values)
        return made + change.reshape(made.shape)

    def change(self, values: Tensor) -> Tensor:
        """What each concept's pair makes of its part of values (concepts · n, …, width)."""
        parts = values.reshape(len(self.mask), -1, values.shape[-1])
        inner = (parts @ self.down.mT) * self.mask[:, None]
        return (inner @ self.up.mT).reshape(*values.shape[:-1], -1)


def adapt(model: nn.Module, part: str, chosen: list[Concept]) -> dict[str, Adapted]:
    """Put `Adapted` in the place of every layer that any of the concepts trains, by its name."""
    adapted = {}
    for name, layer in list(model.named_modules()):
        ranks = [c.rank * name.endswith(LAYERS[c.setting][part]) for c in chosen]
        if any(ranks):
            adapted[name] = Adapted(layer, torch.tensor(ranks))
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, adapted[name])
    return adapted


class Trainer:
    """The frozen base with every concept's adapter on it."""

    def __init__(self, given: argparse.Namespace, chosen: list[Concept]) -> None:
        torch.manual_seed(0)
        self.given, self.chosen, self.file = given, chosen, given.work / "loras-128.pt"
        self.latents, self.words = self._pictures()
        self.model = base.trained(given.work).requires_grad_(False)
        self.layers = {
            f"{part}.{name}": layer
            for part in ("unet", "text_encoder")
            for name, layer in adapt(getattr(self.model, part), part, chosen).items()
        }
        self.model.to(given.device)
        base.attend_fast(self.model.unet, given.device)
        self.factors = [
            factor for layer in self.layers.values() for factor in (layer.down, layer.up)
        ]
        self.optimizer = torch.optim.AdamW(self.factors, lr=given.rate, weight_decay=1e-4)
        self.schedule = models.noise_schedule()
        self.ratio = models.signal_to_noise(self.schedule).to(given.device)
        state = training.load(self.file)
        self.start = 0 if state is None else self._resume(state)

    def _resume(self, state: dict) -> int:
        for factor, value in zip(self.factors, state["factors"], strict=True):
            factor.data.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        return state["step"]

    def _pictures(self) -> tuple[Tensor, Tensor]:
        """Latents (concepts, n, 8, 16, 16) and tokens (concepts, n, 32)."""
        shown = [training.wait(self.given.work / file(concept)) for concept in self.chosen]
        encoder = autoencoder.trained(self.given.work).to(self.given.device)
        latents = [rounds.encode(encoder, each["pixels"]).float() for each in shown]
        words = [each["words"] for each in shown]
        return torch.stack(latents), torch.stack(words).to(self.given.device)

    def step(self, place: int) -> float:
        """A few pictures of every concept; returns the plain epsilon error."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.given.rate * training.cosine(place, self.given.steps, warmup=30)
        generator = torch.Generator(self.given.device).manual_seed(place)
        drawn = {"generator": generator, "device": self.given.device}
        shape = (len(self.chosen), self.given.batch)
        which = torch.randint(PICTURES, shape, **drawn)
        every = torch.arange(len(self.chosen), device=which.device)[:, None]
        latents = self.latents[every, which].flatten(0, 1)
        words = self.words[every, which].flatten(0, 1)
        times = torch.randint(0, 1000, (len(words),), **drawn)
        noise = torch.randn(latents.shape, **drawn)
        noisy = self.schedule.add_noise(latents, noise, times)
        with settings.precision(self.given):
            guess = self.model(words, noisy, times)
        error = (guess.float() - noise).square().mean(dim=(1, 2, 3))
        weight = (base.CEILING / self.ratio[times]).clamp(max=1)
        (error * weight).view(shape).mean(dim=1).sum().backward()
        self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return error.mean().item()

    def _clip(self) -> None:
        """No concept's gradient is longer than 1."""
        squares = [f.grad.square().sum(dim=(1, 2)) for f in self.factors if f.grad is not None]
        share = torch.stack(squares).sum(0).sqrt().clamp(min=1).reciprocal()[:, None, None]
        for factor in self.factors:
            if factor.grad is not None:
                factor.grad.mul_(share)

    def keep(self, place: int) -> None:
        """Write the checkpoint."""
        state = {"step": place, "factors": [factor.detach() for factor in self.factors]}
        training.save(self.file, state | {"optimizer": self.optimizer.state_dict()})

    def pairs(self, number: int) -> lora_files.Pairs:
        """Module -> (down, up) of a concept, by the names that diffusers writes."""
        concept, factors = self.chosen[number], {}
        for module, layer in self.layers.items():
            rank = int(layer.mask[number].sum())
            if rank:
                down = layer.down[number, :rank].detach().cpu()
                up = layer.up[number, :, :rank].detach().cpu()
                convolution = isinstance(layer.layer, nn.Conv2d)
                pair = (down[..., None, None], up[..., None, None]) if convolution else (down, up)
                factors[official(module)] = pair
        assert factors, concept
        return factors


def official(module: str) -> str:
    """The module's name in files; transformers 5 dropped the text model's `text_model.` level."""
    if module.startswith("text_encoder.") and ".text_model." not in module:
        return module.replace("text_encoder.", "text_encoder.text_model.", 1)
    return module


def write_shelf(folder: Path) -> None:
    """shelf.json: what the app and the evaluation need to know of the files that are there."""
    trained = [concept for concept in CONCEPTS if (folder / concept.file).exists()]
    names = {concept.name for concept in trained}
    shelf = {
        "split": concepts.SPLIT,
        "loras": [_listed(concept) for concept in trained],
        "pairs": [
            {
                "name": together.name,
                "kind": together.kind,
                "split": together.split,
                "triggers": together.triggers,
            }
            for together in concepts.TOGETHER
            if names.issuperset(together.triggers)
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
    """Train the concepts asked for."""
    options = settings.trainer(__doc__ or "", 900, RATE, {"cpu": 16, "cuda": 16})
    options.add_argument("--out", type=Path, default=Path("build-work/loras-128"))
    options.add_argument("--only", nargs="*", help="file names without their ending")
    given = settings.parsed(options)
    chosen = [c for c in CONCEPTS if not given.only or Path(c.file).stem in given.only]
    trainer = Trainer(given, chosen)
    settings.run(given, trainer.start, trainer.step, trainer.keep)
    for number, concept in enumerate(chosen):
        lora_files.write(concept, trainer.pairs(number), given.out)
    write_shelf(given.out)


if __name__ == "__main__":
    main()
