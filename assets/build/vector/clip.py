"""Train the small CLIP on the scorers' pictures and their captions, and export it."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from assets.build import models, tokenizer, training
from assets.build.vector import scenes, scored, settings
from assets.build.vector.disturbed import disturbed
from merging.scoring.clip import embed_pixels, embed_tokens

NAME = "clip-128.pt"


def network() -> CLIPModel:
    """An untrained CLIP, 128 wide: three layers over 16 × 16 pixel patches, two over tokens."""
    ends = {"bos_token_id": tokenizer.TOKENS - 2, "eos_token_id": tokenizer.TOKENS - 1}
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
    text = tower | ends | {"num_hidden_layers": 2, "vocab_size": tokenizer.TOKENS}
    text |= {"max_position_embeddings": tokenizer.LENGTH, "pad_token_id": tokenizer.TOKENS - 1}
    vision = tower | {"num_hidden_layers": 3, "image_size": scenes.SIZE, "patch_size": 16}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


class Trainer:
    """Model, optimiser and data; everything a restart needs is in `keep`'s checkpoint."""

    def __init__(self, given: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.given, self.file, self.model = given, given.work / NAME, network().to(given.device)
        captions = [shown.caption for shown in scored.scenes_of("scorers")]
        self.pixels = scored.pictures("scorers", given)
        self.words = words(captions).to(given.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), given.rate, weight_decay=1e-2)
        self.start = training.resume(self.file, self.model, self.optimizer)

    def step(self, place: int) -> float:
        """One batch; every picture must pick its own caption, every caption its own picture."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.given.rate * training.cosine(place, self.given.steps, warmup=50)
        generator = torch.Generator(self.given.device).manual_seed(place)
        drawn = {"generator": generator, "device": self.given.device}
        which = torch.randint(len(self.pixels), (self.given.batch,), **drawn)
        with settings.precision(self.given):
            seen = disturbed(self.pixels[which], generator)
            pictures = embed_pixels(self.model, seen)
            texts = embed_tokens(self.model, self.words[which])
        logits = self.model.logit_scale.exp().clamp(max=100) * pictures.float() @ texts.float().T
        place_of = torch.arange(len(which), device=logits.device)
        loss = functional.cross_entropy(logits, place_of)
        loss = loss + functional.cross_entropy(logits.T, place_of)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item() / 2

    def keep(self, place: int) -> None:
        """Write the checkpoint."""
        training.keep(self.file, place, self.model, self.optimizer)


def words(captions: list[str]) -> Tensor:
    """(n, 32) token numbers."""
    return models.tokens(CLIPTokenizer.from_pretrained(settings.SHIPPED / "tokenizer"), captions)


@torch.no_grad()
def held_out(model: CLIPModel, given: argparse.Namespace) -> float:
    """Share of unseen pictures of one object that pick its plain text out of all classes'."""
    asked, seen = scored.scenes_of("held-out"), scored.pictures("held-out", given)
    alone = [i for i, shown in enumerate(asked) if len(shown.scene.objects) == 1]
    names = list(scored.sprites())
    asked = words([f"a photo of {scenes.with_article(name)}" for name in names])
    scores = embed_pixels(model, seen[alone].float() / 255)
    scores = scores @ embed_tokens(model, asked.to(given.device)).T
    wanted = torch.tensor([names.index(asked[i].scene.objects[0]) for i in alone])
    return (scores.argmax(dim=1).cpu() == wanted).float().mean().item()


def main() -> None:
    """Train to --steps and write --out."""
    options = settings.trainer(__doc__ or "", 4_000, 1e-3, {"cpu": 128, "cuda": 256})
    options.add_argument("--out", type=Path, default=Path("build-work/clip-128"))
    given = settings.parsed(options)
    trainer = Trainer(given)
    print(f"CLIP: {training.count(trainer.model):,} parameters", flush=True)
    settings.run(given, trainer.start, trainer.step, trainer.keep)
    model = trainer.model.eval()
    print(f"held-out single objects named right: {held_out(model, given):.3f}", flush=True)
    model.cpu().half().save_pretrained(given.out)
    CLIPTokenizer.from_pretrained(settings.SHIPPED / "tokenizer").save_pretrained(given.out)
    half, side = [0.5, 0.5, 0.5], scenes.SIZE
    size = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    CLIPImageProcessorPil(**size, image_mean=half, image_std=half).save_pretrained(given.out)


if __name__ == "__main__":
    main()
