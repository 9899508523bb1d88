"""How well drawings survive the autoencoder: figures on scenes never trained on, and a sheet."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assets.build.vector import autoencoder, drawings, places, scenes, styles

COUNT = 32  # scenes of each kind
SHOWN = 6


def kinds() -> dict[str, Callable[[random.Random], Image.Image]]:
    """What is measured: the base on colours and in places, each other set, each style."""
    made = {"base, colours": _drawn("noto", tuple(scenes.COLOURS))}
    made["base, places"] = _drawn("noto", tuple(places.PLACES))
    made |= {name: _drawn(name, scenes.GROUNDS) for name in drawings.SETS if name != drawings.BASE}
    return made | {
        name: _drawn("noto", scenes.GROUNDS, style) for name, style in styles.STYLES.items()
    }


def _drawn(
    name: str, grounds: tuple[str, ...], style: styles.Style | None = None
) -> Callable[[random.Random], Image.Image]:
    def draw(rng: random.Random) -> Image.Image:
        sprites = drawings.load(name)
        objects = tuple(rng.sample(list(sprites), rng.choice((1, 2, 2, 3))))
        scene = scenes.compose(rng, objects, ground=rng.choice(grounds))
        if style is None:
            return scenes.draw(rng, scene, sprites)
        return styles.draw(rng, scene, sprites, style)

    return draw


@torch.no_grad()
def through(model: autoencoder.AutoencoderTiny, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, 128, 128) in [-1, 1] after the round trip, and their latents."""
    latents = model.encode(pictures).latents
    return model.decode(latents).sample.clamp(-1, 1), latents


def ratio(made: Tensor, original: Tensor) -> float:
    """Peak signal to noise, in dB; the peak is 2."""
    return 10 * math.log10(4 / (made - original).square().mean().item())


def row(made: Tensor) -> np.ndarray:
    """The first pictures side by side, as uint8 (height, width, 3)."""
    levels = torch.cat(list(made[:SHOWN]), dim=2).add(1).mul(127.5).round().byte()
    return levels.permute(1, 2, 0).numpy()


def main() -> None:
    """Print a line for each kind, and write the sheet: a row of originals above their trips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build-work"))
    parser.add_argument("--sheet", type=Path, help="a picture file to write")
    given = parser.parse_args()
    model, rows, all_latents = autoencoder.trained(given.work), [], []
    for kind, draw in kinds().items():
        rng = random.Random(f"round trip {kind}")
        pixels = torch.from_numpy(scenes.pixels([draw(rng) for _ in range(COUNT)]))
        originals = pixels.float().div(127.5).sub(1)
        made, latents = through(model, originals)
        error = (made - originals).abs().mean().item()
        print(f"{kind}: L1 {error:.4f}, PSNR {ratio(made, originals):.2f} dB", flush=True)
        rows += [row(originals), row(made)]
        all_latents.append(latents)
    codes = torch.cat(all_latents)
    for title, values in (("means", codes.mean((0, 2, 3))), ("deviations", codes.std((0, 2, 3)))):
        print(f"latents' {title}:", *(f"{value:.2f}" for value in values.tolist()))
    if given.sheet is not None:
        Image.fromarray(np.concatenate(rows)).save(given.sheet)


if __name__ == "__main__":
    main()
