"""Pictures and sounds of the error page, as text that stands in HTML: SVG, and PNG and FLAC as data addresses."""
from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.score.calibration import Bin
from asr.score.errors import Counts

COLOURS = {"substitutions": "#d9a400", "deletions": "#c0392b", "insertions": "#2c6fbb"}
WIDTH = 260
SECONDS_SHOWN = 30.0
"""Of a longer utterance, the first so many seconds are shown and played."""
_BANDS, _DECIBELS = 128, 70.0


@dataclass(frozen=True)
class Clip:
    """The audio of an utterance. samples: float32 (samples,) in -1..1; rate: Hz."""

    samples: Any
    rate: int

    def first(self, seconds: float) -> "Clip":
        return Clip(self.samples[: int(seconds * self.rate)], self.rate)


def error_bar(counts: Counts, longest: float) -> str:
    """Substitutions, deletions and insertions per reference word, one behind the other; ``longest`` is the rate that fills the width."""
    scale, start, bars = WIDTH / max(counts.length * longest, 1e-9), 0.0, []
    for name, colour in COLOURS.items():
        number = getattr(counts, name)
        width = min(number * scale, WIDTH - start)
        if number:
            bars.append(f'<rect x="{start:.1f}" width="{width:.1f}" height="12" fill="{colour}"><title>{number} {name}</title></rect>')
        start += width
    return f'<svg width="{WIDTH}" height="12" role="img">{"".join(bars)}</svg>'


def reliability_diagram(before: Sequence[Bin], after: Sequence[Bin]) -> str:
    """Share of right words over confidence, before calibration (rings) and after (discs); on the diagonal confidence is the truth."""
    size, margin = 260, 30
    total = max(sum(b.words for b in before), 1)
    parts = [f'<rect x="{margin}" y="0" width="{size}" height="{size}" fill="none" stroke="#999"/>',
             f'<line x1="{margin}" y1="{size}" x2="{margin + size}" y2="0" stroke="#999" stroke-dasharray="4"/>',
             *(f'<text x="{margin + v * size}" y="{size + 16}" text-anchor="middle">{v}</text>'
               f'<text x="{margin - 4}" y="{size - v * size + 4}" text-anchor="end">{v}</text>' for v in (0, 0.5, 1))]
    for bins, style in ((before, 'fill="none" stroke="#c0392b" stroke-width="2"'), (after, 'fill="#2c6fbb" fill-opacity="0.7"')):
        for b in bins:
            parts.append(f'<circle cx="{margin + b.confidence * size:.1f}" cy="{size - b.accuracy * size:.1f}" '
                         f'r="{3 + 12 * (b.words / total) ** 0.5:.1f}" {style}><title>{b.words} words</title></circle>')
    return (f'<svg width="{size + margin + 20}" height="{size + 24}" viewBox="0 -4 {size + margin + 20} {size + 28}" role="img" '
            f'font-size="12">{"".join(parts)}</svg>')


def spectrogram(clip: Clip) -> str:
    """A data address of a PNG: log power in windows of 25 ms every 10 ms, low frequencies at the bottom."""
    from matplotlib.image import imsave

    window, hop = int(0.025 * clip.rate), int(0.01 * clip.rate)
    samples = np.pad(np.asarray(clip.samples, dtype=np.float64), (0, max(0, window - len(clip.samples))))
    frames_TW = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop] * np.hanning(window)
    power_TF = np.abs(np.fft.rfft(frames_TW, n=1 << (window - 1).bit_length())) ** 2
    bands = np.array_split(np.arange(power_TF.shape[1]), min(_BANDS, power_TF.shape[1]))
    decibels_FT = 10 * np.log10(np.stack([power_TF[:, band].mean(axis=1) for band in bands]) + 1e-10)
    picture = io.BytesIO()
    imsave(picture, decibels_FT[::-1], cmap="gray_r", format="png", vmax=decibels_FT.max(), vmin=decibels_FT.max() - _DECIBELS)
    return f"data:image/png;base64,{b64encode(picture.getvalue()).decode()}"


def sound(clip: Clip) -> str:
    """A data address of the audio as 16-bit FLAC, which every browser plays."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(clip.samples, -1, 1), clip.rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{b64encode(file.getvalue()).decode()}"
