"""Write this checkout as a Hugging Face Space and upload it: ``python3 run.py space``."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from huggingface_hub import HfApi, get_token

from app.hub_upload import FAILURES, failure
from merging.base_models import base_model
from merging.errors import MergeError

ROOT = Path(__file__).parents[1]
Sdk = Literal["gradio", "docker"]
FOLDERS = ("app", "merging", "assets")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.py[cod]", "build", "readme")
FILES: dict[Sdk, tuple[str, ...]] = {
    "gradio": ("LICENSE", "space.py"),
    "docker": ("LICENSE", "requirements.txt", "Dockerfile", ".dockerignore"),
}
HARDWARE: dict[Sdk, str] = {"gradio": "zero-a10g", "docker": "cpu-basic"}  # the first is ZeroGPU
# The newest of each that ZeroGPU offers (huggingface.co/docs/hub/spaces-zerogpu).
ZEROGPU_PYTHON, ZEROGPU_TORCH = "3.12", "2.11.0"
# What a Space keeps of Stable Diffusion 1.5 when it is built: its weights in fp16.
PRELOADED = (
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
)
LINKS = re.compile(r"!\[[^\]]*\]\([^)]*\)\n*|\[([^\]]*)\]\((?!https?:)[^)]*\)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the Space, and upload it or list its files; print why not and return 2."""
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="iteris-space-") as folder:
            write_space(options.sdk, Path(folder), options.hardware)
            if options.dry_run:
                _show(Path(folder))
            else:
                print(_upload(options, Path(folder)))
    except MergeError as error:
        print(f"run.py space: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py space",
        description="Make a Hugging Face Space of this checkout, or bring one up to date.",
        epilog="The token is that of `hf auth login`, or HF_TOKEN; it must be allowed to write.",
    )
    parser.add_argument("--sdk", choices=FILES, required=True, help="gradio is for ZeroGPU")
    parser.add_argument("name", metavar="OWNER/NAME", type=_name)
    parser.add_argument("--private", action="store_true", help="for its owner alone")
    parser.add_argument("--hardware", help=f"of a new Space; default: {HARDWARE}")
    parser.add_argument("--dry-run", action="store_true", help="show every file, upload nothing")
    return parser


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        raise argparse.ArgumentTypeError(f"a Space is called OWNER/NAME, not {text!r}")
    return text


def write_space(sdk: Sdk, folder: Path, hardware: str | None = None) -> None:
    """Write all files of the Space into a folder; MergeError if this is no checkout.

    The Dockerfile gets torch with CUDA unless the hardware is a CPU.
    """
    missing = [name for name in (*FOLDERS, *FILES[sdk]) if not (ROOT / name).exists()]
    if missing:
        raise MergeError(f"{missing[0]} is not in {ROOT}: run this in a checkout of the project.")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
    for name in FILES[sdk]:
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "README.md").write_text(readme(sdk), encoding="utf-8")
    if sdk == "gradio":
        (folder / "requirements.txt").write_text(zerogpu_requirements(), encoding="utf-8")
    elif not (hardware or HARDWARE[sdk]).startswith("cpu"):
        text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        text = re.sub(r"^ARG TORCH_INDEX=.*", "ARG TORCH_INDEX=", text, flags=re.MULTILINE)
        (folder / "Dockerfile").write_text(text, encoding="utf-8")


def readme(sdk: Sdk) -> str:
    """The Space's settings, and the first lines of the project's README."""
    _, settings, text = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    head = yaml.safe_load(settings)
    if sdk == "gradio":
        head = _on_zerogpu(head)
    introduction = LINKS.sub(r"\1", text.split("\n## ")[0].split("\n*")[0])
    lines = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=9999)
    return f"---\n{lines}---\n{introduction}"


def _on_zerogpu(head: dict[str, Any]) -> dict[str, Any]:
    """The settings of a Space with the Gradio SDK."""
    base = base_model("sd15")
    common = {name: value for name, value in head.items() if name not in ("sdk", "app_port")}
    return {
        **common,
        "sdk": "gradio",
        "sdk_version": _pinned("gradio"),
        "python_version": ZEROGPU_PYTHON,
        "app_file": "space.py",
        "startup_duration_timeout": "30m",
        "preload_from_hub": [f"{base.hub_id} {','.join(PRELOADED)} {base.revision}"],
    }


def zerogpu_requirements() -> str:
    """The pins for ZeroGPU's Python, with the torch that it offers, and `spaces`."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [re.sub(r"^torch==.*", f"torch=={ZEROGPU_TORCH}", line) for line in lines]
    extra = (ROOT / "requirements-zerogpu.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in [*pins, *extra] if not line.startswith("#")) + "\n"


def _pinned(package: str) -> str:
    """The release of a package in requirements.txt."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    match = re.search(rf"^{package}(?:\[.*\])?==(\S+)", text, re.MULTILINE)
    assert match, package
    return match[1]


def _show(folder: Path) -> None:
    """Print every file with its size, and the text of those that are written for the Space."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        print(f"{path.stat().st_size:>10,}  {path.relative_to(folder).as_posix()}")
    for name in ("README.md", "requirements.txt"):
        print(f"\n{name}:\n{(folder / name).read_text(encoding='utf-8')}")


def _upload(options: argparse.Namespace, folder: Path) -> str:
    """Make the Space unless it is there, and upload the files; returns its address."""
    if not get_token():
        raise MergeError("There is no token of the Hub: type `hf auth login`, or set HF_TOKEN.")
    api = HfApi()
    sdk = cast(Sdk, options.sdk)
    try:
        api.create_repo(
            options.name,
            repo_type="space",
            space_sdk=sdk,
            private=options.private,
            space_hardware=options.hardware or HARDWARE[sdk],
            exist_ok=True,
        )
        commit = api.upload_folder(
            repo_id=options.name,
            repo_type="space",
            folder_path=folder,
            delete_patterns="*",  # of an older version
            commit_message="IterIS Studio",
        )
    except FAILURES as error:
        raise MergeError(f"{options.name} was not uploaded: {failure(error)}.") from None
    return f"https://huggingface.co/spaces/{options.name} ({commit.oid[:12]})"


if __name__ == "__main__":
    sys.exit(main())
