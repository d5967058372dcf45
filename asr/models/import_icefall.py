"""State dicts of icefall's LibriSpeech ``zipformer`` recipe, turned into ours."""
from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import torch
from torch import Tensor

from asr.models.ctc import CtcHead
from asr.models.joiner import Joiner
from asr.models.predictors import StatelessPredictor
from asr.models.transducer import Transducer
from asr.models.zipformer import Zipformer

_NAMES: tuple[tuple[str, str], ...] = (
    (r"encoder_embed\.conv\.0\.", "encoder.frontend.conv1."),
    (r"encoder_embed\.conv\.4\.", "encoder.frontend.conv2."),
    (r"encoder_embed\.conv\.7\.", "encoder.frontend.conv3."),
    (r"encoder_embed\.convnext\.depthwise_conv\.", "encoder.frontend.convnext.depthwise."),
    (r"encoder_embed\.convnext\.pointwise_conv1\.", "encoder.frontend.convnext.in_proj."),
    (r"encoder_embed\.convnext\.pointwise_conv2\.", "encoder.frontend.convnext.out_proj."),
    (r"encoder_embed\.out\.", "encoder.frontend.out_proj."),
    (r"encoder_embed\.out_norm\.", "encoder.frontend.norm."),
    (r"encoder\.downsample_output\.", "encoder.downsample."),
    (r"encoder\.encoders\.(\d+)\.downsample\.", r"encoder.stacks.\1.downsample."),
    (r"encoder\.encoders\.(\d+)\.out_combiner\.bypass_scale", r"encoder.stacks.\1.bypass.scale"),
    (r"encoder\.encoders\.(\d+)\.(?:encoder\.)?layers\.(\d+)\.", r"encoder.stacks.\1.layers.\2."),
    (r"self_attn_weights\.linear_pos\.", "attention.pos_proj."),
    (r"self_attn_weights\.", "attention."),
    (r"\.self_attn([12])\.", r".self_attention\1."),
    (r"\.nonlin_attention\.", ".nonlinear."),
    (r"\.conv_module([12])\.", r".conv\1."),
    (r"\.depthwise_conv\.causal_conv\.", ".conv.causal."),
    (r"\.depthwise_conv\.chunkwise_conv\.", ".conv.within."),
    (r"(\.conv[12])\.depthwise_conv\.", r"\1.conv."),
    (r"\.bypass_mid\.bypass_scale", ".bypass_middle.scale"),
    (r"\.bypass\.bypass_scale", ".bypass.scale"),
    (r"^decoder\.", "predictor."),
    (r"^joiner\.decoder_proj\.", "joiner.predictor_proj."),
    (r"^ctc_output\.1\.", "ctc.output_linear."),
)
"""Pattern and replacement, applied one after the other to each name."""

_UNUSED = re.compile(r"^encoder\.encoders\.\d+\.(encoder\.)?layers\.\d+\.bypass_scale$")
"""A parameter that the published layer holds but never reads."""

_OF_THE_LOSS = re.compile(r"^simple_(am|lm)_proj\.")
"""The pruned loss's linear joiner, which no search needs."""


class Imported(NamedTuple):
    """config, feature dimension and vocabulary size make the model; state is for its ``load_state_dict``.

    loss_state: the projections of the pruned loss's simple joiner, under their published names; empty where there are none.
    """

    config: Transducer.Config
    feature_dim: int
    vocab_size: int
    state: dict[str, Tensor]
    loss_state: dict[str, Tensor]


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint file. Raises ValueError where it holds anything else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such checkpoint") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a checkpoint of plain tensors ({str(error)[:200]})") from None
    state = state.get("model", state) if isinstance(state, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a state dict, plain or under the key 'model'")
    return state


def read_dims(path: Path) -> dict[str, Any]:
    """The model options in a JSON file, by their names. Raises ValueError where it is not one."""
    try:
        dims = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file of dimensions") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(dims, dict):
        raise ValueError(f"{path}: expected a JSON object of option names and values")
    return dims


def convert(state_dict: Mapping[str, Tensor], dims: Mapping[str, Any]) -> Imported:
    """Turns an icefall state dict into our config and float32 state dict.

    dims: the recipe's model options, by the names of its command line ("num_encoder_layers": "2,2,3,4,3,2", ...), with
    feature_dim, vocab_size and context_size. Raises ValueError where an option is absent or a name unknown.
    """
    config = _config(dims, has_ctc=any(name.startswith("ctc_output.") for name in state_dict))
    state: dict[str, Tensor] = {}
    loss_state: dict[str, Tensor] = {}
    for name, value in state_dict.items():
        if _OF_THE_LOSS.match(name):
            loss_state[name] = value.float()
        elif not _UNUSED.match(name):
            state.update(_renamed(name, value.float(), config))
    return Imported(config, _integer(dims, "feature_dim"), _integer(dims, "vocab_size"), state, loss_state)


def _renamed(name: str, value: Tensor, config: Transducer.Config) -> dict[str, Tensor]:
    if name.endswith(".chunkwise_conv_scale"):  # (2, D, K): left and right edge
        target = re.sub(r"\.depthwise_conv\.chunkwise_conv_scale$", ".conv.", name)
        for pattern, replacement in _NAMES:
            target = re.sub(pattern, replacement, target)
        return {f"{target}left_edge": value[0].t().contiguous(), f"{target}right_edge": value[1].t().contiguous()}
    target = name
    for pattern, replacement in _NAMES:
        target = re.sub(pattern, replacement, target)
    if re.search(r"\.pointwise_conv[12]\.weight$", name):
        value = value[:, :, 0, 0]
    if name == "encoder_embed.out.weight":  # columns channel by channel; ours band by band
        channels = config.encoder.frontend_channels[-1]
        value = value.unflatten(1, (channels, -1)).transpose(1, 2).flatten(1)
    return {target: value.contiguous()}


def _config(dims: Mapping[str, Any], has_ctc: bool) -> Transducer.Config:
    stacks = len(_integers(dims, "downsampling_factor"))

    def per_stack(name: str) -> tuple[int, ...]:
        values = _integers(dims, name)
        return values * stacks if len(values) == 1 else values

    def single(name: str) -> int:
        values = set(_integers(dims, name))
        if len(values) != 1:
            raise ValueError(f"{name}: {dims[name]}: only one value for all stacks can be imported")
        return values.pop()

    encoder = Zipformer.Config(
        layers=per_stack("num_encoder_layers"), dims=per_stack("encoder_dim"), unmasked_dims=per_stack("encoder_unmasked_dim"),
        feed_forward=per_stack("feedforward_dim"), heads=per_stack("num_heads"), kernels=per_stack("cnn_module_kernel"),
        downsampling=per_stack("downsampling_factor"), query_head_dim=single("query_head_dim"),
        value_head_dim=single("value_head_dim"), pos_head_dim=single("pos_head_dim"), pos_dim=_integer(dims, "pos_dim"),
        causal=bool(dims.get("causal", False)), chunk_sizes=_integers(dims, "chunk_size"),
        left_frames=_integers(dims, "left_context_frames"),
    )
    return Transducer.Config(
        encoder=encoder,
        predictor=StatelessPredictor.Config(dim=_integer(dims, "decoder_dim"), context_size=_integer(dims, "context_size")),
        joiner=Joiner.Config(dim=_integer(dims, "joiner_dim")),
        ctc=CtcHead.Config() if has_ctc else None,
    )


def _integers(dims: Mapping[str, Any], name: str) -> tuple[int, ...]:
    if name not in dims:
        raise ValueError(f"the dimensions lack '{name}': give every model option of the recipe's command line")
    try:
        return tuple(int(part) for part in str(dims[name]).split(","))
    except ValueError:
        raise ValueError(f"{name}: expected integers separated by commas, got {dims[name]!r}") from None


def _integer(dims: Mapping[str, Any], name: str) -> int:
    values = _integers(dims, name)
    if len(values) != 1:
        raise ValueError(f"{name}: expected one integer, got {dims[name]!r}")
    return values[0]
