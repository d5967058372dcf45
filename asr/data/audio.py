"""Audio files: which library reads them, and what is in them."""
from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from functools import cache
from math import gcd
from pathlib import Path

import torch
from torch import Tensor


@cache
def read_sphere_by_libsndfile() -> None:
    """Lets lhotse read NIST SPHERE (``.sph``) without the program sph2pipe, which only compressed files need."""
    from lhotse.audio.backend import CompositeAudioBackend, Sph2pipeSubprocessBackend, get_default_audio_backend, set_current_audio_backend

    if shutil.which("sph2pipe") or "LHOTSE_AUDIO_BACKEND" in os.environ:
        return
    usual = get_default_audio_backend()
    assert isinstance(usual, CompositeAudioBackend)
    set_current_audio_backend(CompositeAudioBackend([one for one in usual.backends if not isinstance(one, Sph2pipeSubprocessBackend)]))


def read_audio(path: Path, sample_rate: int) -> Tensor:
    """float32 (samples,) in -1..1 at ``sample_rate``. Raises ValueError for what is not readable audio."""
    import soundfile
    from scipy.signal import resample_poly

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{path}: not readable as audio ({error})") from None
    mono = samples.mean(axis=1)
    if not len(mono):
        raise ValueError(f"{path}: no audio in it")
    if rate != sample_rate:
        common = gcd(rate, sample_rate)
        mono = resample_poly(mono, sample_rate // common, rate // common).astype("float32")
    return torch.from_numpy(mono)


def utterance_audio(cuts_path: Path, ids: Collection[str]) -> dict[str, tuple[Tensor, int]]:
    """Samples, float32 (samples,) in -1..1, and sample rate of some utterances of a split, by id.

    Raises ValueError, with the utterance's id, where audio cannot be read.
    """
    from asr.data.loader import waveform
    from asr.data.manifests import read_cuts

    return {cut.id: (waveform(cut, cut.sampling_rate), cut.sampling_rate) for cut in read_cuts(cuts_path) if cut.id in ids}
