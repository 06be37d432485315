"""Adapters on disk: what a method trained, alone, in one safetensors file with the fingerprint of its base."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from engine.adapters import METADATA, Adapter, AdapterCard, AdapterKind
from engine.errors import ModelError
from training.report import RECIPE, Recipe

if TYPE_CHECKING:
    from training.methods import Adapted

ADAPTER = "adapter.safetensors"


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256, in hex, of names, types, shapes and numbers, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_adapter(directory: Path, adapted: Adapted, recipe: Recipe, kind: AdapterKind | None = None) -> None:
    """Writes what the method trained, alone, beside the model; nothing of full fine-tuning, which leaves no base.

    ``kind`` says of what model it is an adapter that can be chosen per request where the method is LoRA: then its
    matrices are written as they are served. None says that it can't be.
    """
    settings = adapted.settings
    if settings.method == "full":
        return
    about: dict[str, Any] = {
        "name": recipe.name, "method": settings.method, "base": adapted.base, "source": recipe.source,
        "license": recipe.license, "notes": recipe.card,
    }  # fmt: skip
    if kind and settings.method in ("lora", "qlora"):
        matrices, shift = adapted.matrices()
        offset = recipe.offset + recipe.scale * shift
        Adapter(AdapterCard(**about, kind=kind, scale=recipe.scale, offset=offset), matrices).write(directory / ADAPTER)
        return
    kept = {name: tensor.detach().cpu().float().contiguous() for name, tensor in adapted.tensors().items()}
    card = about | {"format": 1, "kind": kind or f"{recipe.task}, whole"}
    save_file(kept, directory / ADAPTER, metadata={METADATA: msgspec.json.encode(card).decode()})


def load_into(model: torch.nn.Module, directory: Path) -> None:
    """Puts the adapter of a run's directory into the parameters it was taken from. Raises ModelError naming it."""
    path = directory / ADAPTER
    parameters = dict(model.named_parameters())
    try:
        tensors = load_file(path)
        with torch.no_grad():
            for name, tensor in tensors.items():
                parameters[name].copy_(tensor)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path} cannot be put into its base beside it ({error}). Train it anew") from error


def read_recipe(directory: Path) -> Recipe | None:
    """What training left beside a model, or None. Raises ModelError on a file that cannot be read."""
    path = directory / RECIPE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recipe)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path}: {error}") from error
