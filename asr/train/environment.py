"""The machine a run happens on."""
from __future__ import annotations

import torch

from asr.train.distributed import Ranks


def choose_device(name: str, ranks: Ranks) -> torch.device:
    """ "auto" is this process's GPU where there is one, else the CPU. Raises ValueError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"train.device: '{name}' is not a device; use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("train.device: cuda was asked for, but torch sees no GPU here; 'asr doctor' tells why; use auto or cpu")
        device = torch.device("cuda", device.index if device.index is not None else ranks.local)
        torch.cuda.set_device(device)
    return device


def check_amp(amp: str, device: torch.device) -> None:
    """Raises ValueError where this torch cannot autocast these models on the device."""
    if amp != "none" and device.type == "cpu" and int(torch.__version__.split(".")[0]) < 2:
        raise ValueError(f"train.amp: {amp} on the CPU needs torch 2 (this is {torch.__version__}); use none, or a GPU")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
