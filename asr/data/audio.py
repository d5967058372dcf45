"""Which library reads audio files."""
from __future__ import annotations

import os
import shutil
from functools import cache


@cache
def read_sphere_by_libsndfile() -> None:
    """Lets lhotse read NIST SPHERE (``.sph``) without the program sph2pipe, which only compressed files need."""
    from lhotse.audio.backend import CompositeAudioBackend, Sph2pipeSubprocessBackend, get_default_audio_backend, set_current_audio_backend

    if shutil.which("sph2pipe") or "LHOTSE_AUDIO_BACKEND" in os.environ:
        return
    usual = get_default_audio_backend()
    assert isinstance(usual, CompositeAudioBackend)
    set_current_audio_backend(CompositeAudioBackend([one for one in usual.backends if not isinstance(one, Sph2pipeSubprocessBackend)]))
