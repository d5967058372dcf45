"""Configuration of the Zipformer and its named sizes."""
from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from asr.models.chunks import ChunkConfig

SIZES: dict[str, dict[str, Any]] = {
    "mini": {
        "layers": (1, 1, 1, 1), "dims": (64, 96, 128, 96), "unmasked_dims": (64,) * 4, "feed_forward": (128, 192, 256, 192),
        "heads": (4,) * 4, "kernels": (15,) * 4, "downsampling": (1, 2, 4, 2), "frontend_channels": (4, 8, 32),
    },
    "tiny": {
        "layers": (1, 1, 1, 1, 1, 1), "dims": (96, 96, 128, 128, 128, 96), "unmasked_dims": (96,) * 6,
        "feed_forward": (192, 192, 256, 256, 256, 192), "heads": (4,) * 6,
    },
    "small": {
        "layers": (2, 2, 2, 2, 2, 2), "dims": (192, 256, 256, 256, 256, 256), "unmasked_dims": (192,) * 6,
        "feed_forward": (512, 768, 768, 768, 768, 768), "heads": (4, 4, 4, 8, 4, 4),
    },
    "medium": {
        "layers": (2, 2, 3, 4, 3, 2), "dims": (192, 256, 384, 512, 384, 256), "unmasked_dims": (192, 192, 256, 256, 256, 192),
        "feed_forward": (512, 768, 1024, 1536, 1024, 768), "heads": (4, 4, 4, 8, 4, 4),
    },
    "large": {
        "layers": (2, 2, 4, 5, 4, 2), "dims": (192, 256, 512, 768, 512, 256), "unmasked_dims": (192, 192, 256, 320, 256, 192),
        "feed_forward": (512, 768, 1536, 2048, 1536, 768), "heads": (4, 4, 4, 8, 4, 4),
    },
}
"""small, medium and large as published (Yao et al. 2023, table 3): 23.3, 65.5, 148.4 M parameters with a 500-piece
stateless transducer of dimension 512; tiny: 2.4 M with the ten digits and dimension 128; mini: 1.1 M, for an hour on one core."""


class ZipformerConfig(ChunkConfig):
    """One value per stack in the tuples. Whatever is not given comes from the named size.

    layers: of each stack. dims: channels. unmasked_dims: channels that feature dropout never touches. feed_forward: hidden
        channels of the second feed-forward module (the first has 3/4, the third 5/4 of them). heads: of the attention.
    kernels: width of the depthwise convolutions, odd. downsampling: of each stack, relative to 50 Hz.
    query_head_dim, value_head_dim, pos_head_dim: channels of each attention head. pos_dim: of the position encoding.
    frontend: ``conv``, convolutions over Mel bins, or ``frames``, a projection of stacked frames, for what a frontend makes of units.
    frontend_channels: of the three convolutions.
    subsampling: input frames per encoder frame; ``conv`` needs 4. 2 is for units at 50 Hz, 1 for units at 25 Hz or less: the stacks
        then work at the input's own rate, and 1 does without the halving at the end.
    causal, chunk_sizes, left_frames, decode_chunk_size, decode_left_frames: streaming, see :class:`ChunkConfig`; in frames at 50 Hz.
    warmup_steps: training steps over which the stacks, one after the other, cease to be skipped half of the time.
    """

    type: Literal["zipformer"] = "zipformer"
    size: Literal["mini", "tiny", "small", "medium", "large"] = "tiny"
    layers: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    unmasked_dims: tuple[int, ...] = ()
    feed_forward: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    kernels: tuple[int, ...] = (31, 31, 15, 15, 15, 31)
    downsampling: tuple[int, ...] = (1, 2, 4, 8, 4, 2)
    query_head_dim: int = 32
    value_head_dim: int = 12
    pos_head_dim: int = 4
    pos_dim: int = 48
    frontend: Literal["conv", "frames"] = "conv"
    frontend_channels: tuple[int, int, int] = (8, 32, 128)
    subsampling: Literal[1, 2, 4] = 4
    chunk_sizes: tuple[int, ...] = (16, 32, 64, -1)
    left_frames: tuple[int, ...] = (64, 128, 256, -1)
    warmup_steps: int = 4000

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Fills in what the size says, so that a dumped config holds every value."""
        return {**SIZES.get(str(values.get("size", "tiny")), {}), **values} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _check(self) -> "ZipformerConfig":
        stacks = len(self.downsampling)
        for name in ("layers", "dims", "unmasked_dims", "feed_forward", "heads", "kernels"):
            if len(getattr(self, name)) != stacks:
                raise ValueError(f"{name} has {len(getattr(self, name))} values for the {stacks} stacks of 'downsampling'")
        if any(u > d for u, d in zip(self.unmasked_dims, self.dims)):
            raise ValueError(f"unmasked_dims {self.unmasked_dims} must not exceed dims {self.dims}")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels must be odd, got {self.kernels}")
        if any(dim % 4 for dim in self.dims) or self.pos_dim % 2:
            raise ValueError(f"dims must be multiples of 4 and pos_dim of 2, got {self.dims} and {self.pos_dim}")
        if self.frontend == "conv" and self.subsampling != 4:
            raise ValueError(f"subsampling {self.subsampling} needs 'frontend: frames'; the convolutions take 4 frames for one")
        if self.causal:
            self.check_chunks(period=max(1 if self.subsampling == 1 else 2, *self.downsampling))
        return self
