"""Train the small CLIP on the same scenes and on the concepts' looks, and export it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from assets.build import round_trip, scenes, tokenizer, train_base, train_detector, training
from assets.build.export import ASSETS
from merging.scoring.clip import embed_pixels, embed_tokens

BATCH, COUNT, HELD_OUT = 128, 12_000, 500
NAME = "clip.pt"


def network() -> CLIPModel:
    """An untrained CLIP, 128 wide: three layers over 16 × 16 pixel patches, two over tokens."""
    ends = {"bos_token_id": tokenizer.TOKENS - 2, "eos_token_id": tokenizer.TOKENS - 1}
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
    text = tower | ends | {"num_hidden_layers": 2, "vocab_size": tokenizer.TOKENS}
    text |= {"max_position_embeddings": tokenizer.LENGTH, "pad_token_id": tokenizer.TOKENS - 1}
    vision = tower | {"num_hidden_layers": 3, "image_size": 64, "patch_size": 16}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


class Trainer:
    """Model, optimiser and data; everything a restart needs is in `keep`'s checkpoint."""

    def __init__(self, work: Path, steps: int, rate: float) -> None:
        torch.manual_seed(0)
        self.rate = rate
        self.file, self.steps, self.model = work / NAME, steps, network()
        told, self.pixels = round_trip.dataset(work, COUNT, "scorers", looks=0.3)
        self.words = train_base.tokens(tokenizer.build(work), [shown.caption for shown in told])
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=1e-2)
        self.data = round_trip.mark(work)
        self.start = self._resume(training.load(self.file))

    def _resume(self, state: dict | None) -> int:
        if state is None or state.get("data") != self.data:
            return 0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        return state["step"]

    def step(self, place: int) -> float:
        """One batch; every picture must pick its own caption, every caption its own picture."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * training.cosine(place, self.steps, warmup=50)
        generator = torch.Generator().manual_seed(place)
        which = torch.randint(len(self.pixels), (BATCH,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            seen = train_detector.disturbed(self.pixels[which], generator)
            pictures = embed_pixels(self.model, seen)
            texts = embed_tokens(self.model, self.words[which])
        logits = self.model.logit_scale.exp().clamp(max=100) * pictures @ texts.T
        own = torch.arange(BATCH)
        loss = functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item() / 2

    def keep(self, place: int) -> None:
        """Write the checkpoint."""
        state = {"step": place, "model": self.model.state_dict(), "data": self.data}
        training.save(self.file, state | {"optimizer": self.optimizer.state_dict()})


@torch.no_grad()
def held_out(model: CLIPModel, work: Path) -> Tensor:
    """Share of unseen pictures that pick the plain text of their own first class out of all."""
    classes = tuple(round_trip.drawings(work))
    told, seen = round_trip.dataset(work, HELD_OUT, "held-out", looks=0.4)
    alone = [i for i, shown in enumerate(told) if len(shown.classes) == 1]
    captions = [scenes.one(name) for name in classes]
    words = train_base.tokens(tokenizer.build(work), captions)
    scores = embed_pixels(model, seen[alone].float() / 255) @ embed_tokens(model, words).T
    wanted = torch.tensor([classes.index(told[i].classes[0]) for i in alone])
    return (scores.argmax(dim=1) == wanted).float().mean()


def main() -> None:
    """Train to --steps and write assets/mini-clip."""
    given = training.arguments(__doc__ or "", steps=2_000, rate=1e-3)
    trainer = Trainer(given.work, given.steps, given.rate)
    print(f"CLIP: {training.count(trainer.model):,} parameters", flush=True)
    training.run(given.steps, trainer.start, trainer.step, trainer.keep, given.save_every)
    model = trainer.model.eval()
    print(f"held-out single objects named right: {held_out(model, given.work):.3f}")
    folder = ASSETS / "mini-clip"
    model.half().save_pretrained(folder)
    tokenizer.build(given.work).save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    size = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    CLIPImageProcessorPil(**size, image_mean=half, image_std=half).save_pretrained(folder)


if __name__ == "__main__":
    main()
