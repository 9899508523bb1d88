"""A small network that finds which objects, in which look, are in a picture, where, and on what.

Classes have the names that prompts use: "cat" is the base's cat, "sks cat" the look that the LoRA
of that name was trained on, "zqx style" the style of a whole picture. The paper's CLIP scores
cannot tell two objects in one picture apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from merging.base_models import MINI
from merging.calibration.prompts import is_style
from merging.errors import MergeError

CELLS = 8  # rows and columns of the maps
WIDTHS = (32, 64, 128, 192, 256)


class Detector(nn.Module):
    """Convolution blocks; one map per class and its maximum; the mean of all for the background."""

    def __init__(
        self,
        classes: Sequence[str],
        thresholds: Sequence[float] | None = None,
        grounds: Sequence[str] = (),
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        self.classes, self.grounds, self.widths = tuple(classes), tuple(grounds), tuple(widths)
        self.thresholds = torch.tensor(thresholds or [0.0] * len(classes))
        blocks: list[nn.Module] = []
        for index, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
            stride = 1 if index == len(widths) - 1 else 2
            blocks.append(nn.Conv2d(before, after, 3, stride, 1, bias=False))
            blocks += [nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*blocks)
        self.head = nn.Conv2d(widths[-1], len(classes), 1)
        self.ground = nn.Linear(widths[-1], len(grounds))

    @property
    def size(self) -> int:
        """Pixels of a side of what it looks at: every block but the last halves it, to CELLS."""
        return CELLS << (len(self.widths) - 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n, classes) of pixels (n, 3, size, size) in [0, 1]."""
        return self.look(pixels)[0].amax(dim=(-2, -1))

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (n, classes, CELLS, CELLS) of the classes, and logits (n, grounds)."""
        features = self.body(pixels - 0.5)
        return self.head(features), self.ground(features.mean(dim=(-2, -1)))

    @torch.inference_mode()
    def scores(self, images: Sequence[Image.Image]) -> Tensor:
        """Logits (n, classes) of pictures of any size, 128 at a time."""
        return torch.cat([self(batch) for batch in pixels(images, self.size).split(128)])

    @torch.inference_mode()
    def where(self, images: Sequence[Image.Image]) -> Tensor:
        """For each picture and class the (x, y), in [0, 1], at which the class is strongest."""
        batches = pixels(images, self.size).split(128)
        flat = torch.cat([self.look(batch)[0].flatten(2) for batch in batches])
        place = (flat - flat.amax(dim=2, keepdim=True)).mul(4).softmax(dim=2)
        middles = (torch.arange(CELLS) + 0.5) / CELLS
        grid = torch.stack([middles.repeat(CELLS), middles.repeat_interleave(CELLS)], dim=1)
        return place @ grid

    @torch.inference_mode()
    def behind(self, images: Sequence[Image.Image]) -> list[str]:
        """The background of each picture: a colour or a place, one of `grounds`."""
        batches = pixels(images, self.size).split(128)
        best = torch.cat([self.look(batch)[1].argmax(dim=1) for batch in batches])
        return [self.grounds[index] for index in best.tolist()]

    @property
    def things(self) -> list[str]:
        """The objects of the base."""
        return [name for name in self.classes if not is_look(name)]

    def column(self, name: str) -> int:
        """Column of a class; MergeError if the detector was not trained on it."""
        if name not in self.classes:
            raise MergeError(f'The detector knows no "{name}"; it knows {", ".join(self.classes)}.')
        return self.classes.index(name)

    def contains(self, scores: Tensor, names: Sequence[str], strongest: int = 4) -> Tensor:
        """For each row of scores (n, classes), whether every one of `names` is in the picture.

        A class is in the picture if it is among the `strongest` classes of that picture and, where
        it is a concept's look, stronger than the base's look of the same object. Styles are not
        counted among these: a style must be above its threshold and above all other styles.
        """
        styles = torch.tensor([is_style(name) for name in self.classes])
        leaders = scores.masked_fill(styles, -torch.inf).topk(strongest, dim=1).indices
        foremost = scores.masked_fill(~styles, -torch.inf).argmax(dim=1)
        return torch.stack(
            [self._contains_class(scores, name, leaders, foremost) for name in names]
        ).all(0)

    def _contains_class(
        self, scores: Tensor, name: str, leaders: Tensor, foremost: Tensor
    ) -> Tensor:
        column = self.column(name)
        if is_style(name):
            return self.above_threshold(scores)[:, column] & (foremost == column)
        among = (leaders == column).any(dim=1)
        return among & self.beats_base_class(scores, name) if is_look(name) else among

    def beats_base_class(self, scores: Tensor, name: str) -> Tensor:
        """For each row, whether the look "sks cat" scores above the base's "cat"."""
        return scores[:, self.column(name)] > scores[:, self.column(base_class(name))]

    def above_threshold(self, scores: Tensor) -> Tensor:
        """(n, classes) of bool: scores above the thresholds set on pictures of the base."""
        return scores > self.thresholds

    def save(self, folder: Path) -> None:
        """Write weights (float16) and classes.json."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: _stored_value(value) for name, value in self.state_dict().items()}
        save_file(weights, folder / "detector.safetensors")
        description = {
            "classes": self.classes,
            "grounds": self.grounds,
            "widths": self.widths,
            "thresholds": [round(t, 3) for t in self.thresholds.tolist()],
        }
        (folder / "classes.json").write_text(
            json.dumps(description, indent=1) + "\n", encoding="utf-8"
        )


def _stored_value(value: Tensor) -> Tensor:
    return value.half().contiguous() if value.is_floating_point() else value


def load_detector(folder: Path | str = MINI.detector) -> Detector:
    """The trained detector, ready to score."""
    folder = Path(folder)
    description = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    names = ("classes", "thresholds", "grounds", "widths")
    detector = Detector(*(description[name] for name in names))
    weights = load_file(folder / "detector.safetensors")
    detector.load_state_dict(weights)  # copies into float32 parameters
    return detector.eval()


def is_look(name: str) -> bool:
    """Whether the class comes from a LoRA: a look or a style."""
    return " " in name


def base_class(name: str) -> str:
    """The base's class of the same object: "cat" for "sks cat"."""
    return name.rsplit(" ", 1)[-1]


def pixels(images: Sequence[Image.Image], size: int) -> Tensor:
    """Pictures as (n, 3, size, size) floats in [0, 1]."""
    return torch.stack([_pixels(image, size) for image in images])


def _pixels(image: Image.Image, size: int) -> Tensor:
    small = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    flat = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return flat.view(size, size, 3).permute(2, 0, 1).float() / 255
