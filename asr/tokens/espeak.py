"""eSpeak NG by ctypes (the library comes with the package espeakng-loader), and the pronunciations that its rules and dictionaries give."""
from __future__ import annotations

import ctypes
import functools
import re

SAMPLE_RATE = 22050
_SYNCHRONOUS, _CHARS_UTF8 = 2, 1
_SEPARATOR = "_"
_IPA_SEPARATED = 0x02 | ord(_SEPARATOR) << 8
_NO_PHONE = re.compile(r"\([^)]*\)|[ˈˌ]")
"""Changes of language, ``(en)``, and stress, which would make each vowel three phones."""


@functools.cache
def library() -> ctypes.CDLL:
    """The library, initialised in this process."""
    try:
        import espeakng_loader
    except ImportError:
        raise ValueError("espeakng-loader is not installed, which eSpeak NG comes with: pip install espeakng-loader") from None
    loaded = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = loaded.espeak_Initialize(_SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate != SAMPLE_RATE:
        raise ValueError(f"eSpeak NG could not be initialised (status {rate}); reinstall espeakng-loader")
    loaded.espeak_TextToPhonemes.restype = ctypes.c_char_p
    loaded.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    return loaded


def pronounce(word: str, voice: str) -> tuple[str, ...]:
    """The phones of a word in IPA, without stress; none where it has no sound. Raises ValueError for a voice that eSpeak NG lacks."""
    if library().espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice '{voice}': voices are named by languages, as sw, en-us, pt-br")
    text, found = ctypes.c_char_p(word.encode()), ""
    while text.value is not None:  # a clause at a time
        found += _SEPARATOR + library().espeak_TextToPhonemes(ctypes.byref(text), _CHARS_UTF8, _IPA_SEPARATED).decode()
    return tuple(phone for phone in re.split(rf"[{_SEPARATOR}\s]", _NO_PHONE.sub("", found)) if phone)
