"""Training a small part of a model: adapters behind its layers, or low-rank changes of its weights (LoRA), the rest being frozen.

One base model serves many languages this way, each with a fraction of a per cent of its parameters. Both start as no change at all.
Shape legend: asr/types.py; R is the rank, I and O the inputs and outputs of a linear layer.
"""
from __future__ import annotations

import logging
import re
from typing import Any, Literal, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from asr.config import Config as BaseConfig
from asr.config import one_of

log = logging.getLogger(__name__)

LAYERS = r"encoder\.(.+\.)?layers\.\d+"
"""The layers of every encoder, by the names of modules."""


class Adapter(nn.Module):
    """x + W_up relu(W_down norm(x)): Kannan et al., "Large-scale multilingual speech recognition with a streaming end-to-end model",
    Interspeech 2019, section 3.3; Houlsby et al., ICML 2019. W_up starts at zero.
    """

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, rank)
        self.up = nn.Linear(rank, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x_BSD: Tensor) -> Tensor:
        return x_BSD + self.up(torch.relu(self.down(self.norm(x_BSD))))


class LowRank(nn.Module):
    """W + alpha / R · B A, in place of the weight W: Hu et al., "LoRA", ICLR 2022, equation 3. A starts random, B at zero."""

    def __init__(self, weight_OI: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down_RI = nn.Parameter(torch.randn(rank, weight_OI.shape[1]) * weight_OI.shape[1] ** -0.5)
        self.up_OR = nn.Parameter(torch.zeros(len(weight_OI), rank))

    def forward(self, weight_OI: Tensor) -> Tensor:
        with torch.autocast(weight_OI.device.type, enabled=False):  # so that it is the sum that merging stores
            return torch.addmm(weight_OI, self.up_OR, self.down_RI, alpha=self.scale)


class Adapters:
    class Config(BaseConfig):
        """rank: width of the bottleneck.
        modules: regular expressions of the modules behind whose output there is an adapter; the encoder's layers by default.
        full: regular expressions of modules that are trained as a whole besides, such as ``joiner``, ``ctc`` or ``predictor``.
        """

        type: Literal["adapters"] = "adapters"
        rank: int = Field(default=16, ge=1)
        modules: tuple[str, ...] = (LAYERS,)
        full: tuple[str, ...] = ()

    @staticmethod
    def attach(config: "Adapters.Config", model: Any, modules: Mapping[str, nn.Module]) -> None:
        for name, dim in _output_dims(model, modules).items():
            modules[name].adapter = Adapter(dim, config.rank)  # type: ignore[assignment]
            modules[name].register_forward_hook(_adapted)  # type: ignore[arg-type]


class Lora:
    class Config(BaseConfig):
        """rank, alpha: the change of a weight is alpha / rank times a product of that rank.
        modules: regular expressions of modules whose linear layers, their own or further in, are changed; the encoder's layers by default.
        full: as of adapters.
        """

        type: Literal["lora"] = "lora"
        rank: int = Field(default=8, ge=1)
        alpha: float = Field(default=16.0, gt=0)
        modules: tuple[str, ...] = (LAYERS,)
        full: tuple[str, ...] = ()

    @staticmethod
    def attach(config: "Lora.Config", model: Any, modules: Mapping[str, nn.Module]) -> None:
        inner = {linear for module in modules.values() for linear in module.modules() if isinstance(linear, nn.Linear)}
        linears = [module for module in model.modules() if module in inner]  # in the model's order, whose random numbers they draw
        if not linears:
            raise ValueError(f"train.tune.modules: no linear layer in {', '.join(modules)}")
        for linear in linears:
            parametrize.register_parametrization(linear, "weight", LowRank(linear.weight, config.rank, config.alpha))


TUNES: dict[str, Any] = {"adapters": Adapters, "lora": Lora}
TuneConfig = one_of(TUNES)


def tune(model: Any, config: Any, fresh: tuple[str, ...] = ()) -> None:
    """Freezes ``model`` but for ``config.full`` (a ``TuneConfig``), and adds what is to be trained.

    fresh: names of parameters that are not those of a trained model.
    Raises ValueError for a pattern without a module, and where fresh parameters would stay as they were drawn.
    """
    full = tuple(f"{name}." for name in _named(model, config.full, "full"))
    frozen = [name for name, _ in model.named_parameters() if not name.startswith(full)]
    if never := [name for name in fresh if name in frozen]:
        raise ValueError(f"train.tune: {', '.join(never)} would neither come from train.init_from, at least not for every token, nor be "
                         f"trained; add {', '.join(sorted({name.rpartition('.')[0] for name in never}))} to train.tune.full")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    TUNES[config.type].attach(config, model, _named(model, config.modules, "modules"))
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    log.info("%s: %d of %d parameters are trained (%.2f %%)", config.type, trained, total, 100 * trained / total)


def merge(model: nn.Module) -> None:
    """Puts changed weights in place of the original ones: a plain model that computes the same. Adapters stay what they are."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The part of the state dict that training changes: all but frozen parameters."""
    frozen = _frozen(model)
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_trained(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads a :func:`trained_state`. Raises RuntimeError where it is of another model."""
    frozen = _frozen(model)
    own = model.state_dict()
    model.load_state_dict({**{name: own[name] for name in frozen}, **state})


def _frozen(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def _adapted(module: Any, inputs: Any, output: Tensor) -> Tensor:
    """Forward hook: so the layer keeps its class and the names of its parameters."""
    return module.adapter(output)


def _named(model: nn.Module, patterns: tuple[str, ...], key: str) -> dict[str, nn.Module]:
    found = {}
    for pattern in patterns:
        matching = {name: module for name, module in model.named_modules() if re.fullmatch(pattern, name)}
        if not matching:
            raise ValueError(f"train.tune.{key}: no module of the model matches '{pattern}'; its parts are "
                             f"{', '.join(name for name, _ in model.named_children())}, and what they consist of")
        found.update(matching)
    return found


@torch.no_grad()
def _output_dims(model: Any, modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """Channels that each module gives, as the encoder is tried on silence."""
    dims: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                dims[name] = output.shape[-1]

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    training = model.training
    model.eval()
    frames = 4 * model.encoder.min_frames
    device = next(model.parameters()).device
    model.encoder(torch.zeros(1, frames, model.encoder.feature_dim, device=device), torch.tensor([frames], device=device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    if unfit := [name for name in modules if name not in dims]:
        raise ValueError(f"train.tune.modules: no adapter fits behind {', '.join(unfit)}: name modules of the encoder that give one tensor")
    return dims
