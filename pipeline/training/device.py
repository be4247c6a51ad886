"""Chooses where tensors live."""

from __future__ import annotations

import torch

from pipeline.errors import BadSetting


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where there is one. Raises BadSetting when `cuda` is asked for and absent."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise BadSetting("Setting `training.device` is cuda, but PyTorch sees no GPU. Set it to auto or cpu.")
    return torch.device("cuda" if available and name in ("auto", "cuda") else "cpu")
