"""One HTML page about one decoded set: where its errors are, how they look and how they sound.

The page holds all it needs (no script, nothing from elsewhere, which its content policy also forbids), and escapes whatever comes from a
corpus. Words take the direction of their script; combining characters stay with their letters, because no word is taken apart.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from asr.score import calibration, detectors, plots
from asr.score.errors import Counts, Scored, ScoredUtterance
from asr.score.evaluate import Result, calibration_of
from asr.score.report import confusions

SHOWN = 20
"""Rows of a table of words, of speakers, of findings."""
AUDIO_BYTES = 12_000_000
"""What the players of a page may take all together; utterances beyond have none."""

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 66em; padding: 0 1em; color: #222 }
h2 { margin-top: 2em; border-bottom: 1px solid #ccc } table { border-collapse: collapse; margin: .5em 0 }
th, td { padding: .15em .7em; text-align: right; vertical-align: top } th { font-weight: 600 } tr:nth-child(even) { background: #f6f6f6 }
th:first-child, td:first-child { text-align: start } .beside { display: flex; flex-wrap: wrap; gap: 2em }
.utterance { margin: 1.2em 0; padding: .6em 1em; background: #fafafa; border: 1px solid #e5e5e5 } .muted { color: #777 }
.aligned { display: flex; flex-wrap: wrap; gap: .3em .6em; margin: .5em 0 }
.pair { display: flex; flex-direction: column; align-items: center } .pair span { unicode-bidi: isolate }
.S { color: #9a7400 } .D { color: #c0392b } .I { color: #2c6fbb } .pair.S, .pair.D, .pair.I { background: #fff1d6; padding: 0 .25em }
audio { width: 100% } .spectrogram { width: 100%; height: 128px; display: block; image-rendering: pixelated }
.marks { position: relative; height: 1.5em; overflow: hidden }
.marks bdi { position: absolute; font-size: 12px; border-left: 1px solid #c0392b; padding-left: 2px; white-space: nowrap }
"""


def worst(scored: Scored, count: int) -> list[ScoredUtterance]:
    """Those with the most word errors; of equally many those with the higher rate."""
    wrong = [u for u in scored.utterances if u.words.errors]
    return sorted(wrong, key=lambda u: (-u.words.errors, -u.words.rate, u.utterance.id))[:count]


def best(scored: Scored, count: int) -> list[ScoredUtterance]:
    """Those with the lowest rate; of equal ones those with the most words."""
    return sorted(scored.utterances, key=lambda u: (u.words.rate, -u.words.length, u.utterance.id))[:count]


def error_page(result: Result, title: str, sets: Mapping[str, Counts], clips: Mapping[str, plots.Clip], *, utterances: int) -> str:
    """The page as text. sets: word counts of all sets that this search has decoded. clips: audio of the worst utterances, by id, as
    far as there is any. utterances: how many of the worst and of the best to show."""
    scored = result.scored
    sections = [
        ("", _overview(result)),
        ("By set", _rates("set", sets)),
        ("By speaker", _by_speaker(scored)),
        ("By length", f'<div class="beside">{_by_length(scored, "words", lambda u: u.words.length)}'
                      f'{_by_length(scored, "seconds", lambda u: u.utterance.duration)}</div>'),
        ("Words", _words(scored)),
        ("Confidence", _confidence(result)),
        ("Words left out in a row", _findings(detectors.deleted_stretches(scored), "words")),
        ("Repetitions", _findings(detectors.repetitions(scored), "times")),
        (f"The {utterances} utterances with the most errors", _worst(worst(scored, utterances), clips)),
        (f"The {utterances} utterances with the lowest rate", "".join(map(_utterance, best(scored, utterances)))),
    ]
    body = "".join(f"<h2>{heading}</h2>{content}" if heading else content for heading, content in sections if content)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
            f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body><h1>{_text(title)}</h1>{body}</body></html>\n")


def _text(text: str) -> str:
    """Any string as HTML; what is no Unicode text (a lone surrogate) becomes a question mark."""
    return escape(text.encode("utf-8", "replace").decode())


def _bdi(text: str) -> str:
    return f"<bdi>{_text(text)}</bdi>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML."""
    lines = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table><tr>{''.join(f'<th>{column}</th>' for column in columns)}</tr>\n{chr(10).join(lines)}</table>"


def _overview(result: Result) -> str:
    scored, header = result.scored, result.header
    measures = {"WER": scored.words, "CER": scored.characters, "MER": scored.mixed}
    rows = [(name, f"{100 * c.rate:.2f} %", str(c.length), str(c.substitutions), str(c.deletions), str(c.insertions))
            for name, c in measures.items() if c is not None]
    low, high = result.interval.low, result.interval.high
    tuned = f"; scales tuned on {_text(header.tuned_on)}" if header.tuned_on else ""
    settings = _text(json.dumps(header.settings, indent=1, ensure_ascii=False))
    return (f"<p>{len(scored.utterances)} utterances, {header.audio_seconds / 60:.1f} minutes; WER {100 * scored.words.rate:.2f} % "
            f"[{100 * low:.2f}, {100 * high:.2f}]; weights: {_text(header.checkpoint)}{tuned}.</p>"
            + _table(["", "rate", "of", "S", "D", "I"], rows)
            + '<p>Bars: <b class="S">substitutions</b>, <b class="D">deletions</b>, <b class="I">insertions</b>.</p>'
            + f"<details><summary>Settings of the search</summary><pre>{settings}</pre></details>")


def _rates(column: str, counts: Mapping[str, Counts], sizes: Mapping[str, int] | None = None) -> str:
    """A row with a bar for each group of utterances."""
    longest = max([1e-9, *(min(c.rate, 1.5) for c in counts.values())])
    rows = [(_bdi(name), *([str(sizes[name])] if sizes else []), str(c.length), f"{100 * c.rate:.2f}", plots.error_bar(c, longest))
            for name, c in counts.items()]
    return _table([column, *(["utterances"] if sizes else []), "words", "WER %", ""], rows)


def _by_speaker(scored: Scored) -> str:
    speakers = {name: _sum(of) for name, of in scored.by_speaker().items()}
    if not speakers:
        return ""
    shown = dict(sorted(speakers.items(), key=lambda item: (-item[1].rate, item[0]))[:SHOWN])
    more = f'<p class="muted">The {SHOWN} worst of {len(speakers)}.</p>' if len(speakers) > SHOWN else ""
    return _rates("speaker", shown, {name: len(of) for name, of in scored.by_speaker().items()}) + more


def _by_length(scored: Scored, unit: str, length: Callable[[ScoredUtterance], float]) -> str:
    """Groups of utterances whose lengths lie between two powers of 2."""
    groups: dict[int, list[ScoredUtterance]] = {}
    for utterance in scored.utterances:
        groups.setdefault(int(length(utterance)).bit_length(), []).append(utterance)
    names = {power: f"{2 ** power // 2} to {2 ** power}" if unit == "seconds" else f"{2 ** power // 2} to {max(2 ** power - 1, 0)}"
             for power in groups}
    ordered = {names[power]: groups[power] for power in sorted(groups)}
    return _rates(unit, {name: _sum(of) for name, of in ordered.items()}, {name: len(of) for name, of in ordered.items()})


def _sum(utterances: Iterable[ScoredUtterance]) -> Counts:
    return sum((u.words for u in utterances), Counts())


def _words(scored: Scored) -> str:
    tables = [_table([kind, "times"], [(_bdi(what), str(times)) for what, times in found.most_common(SHOWN)])
              for kind, found in confusions(scored).items()]
    return f'<div class="beside">{"".join(tables)}</div>'


def _confidence(result: Result) -> str:
    confidence_N, right_N = calibration.judged_words(result.scored)
    if not len(confidence_N):
        return ""
    fitted = calibration_of(result)
    after_N = confidence_N if fitted is None else fitted(confidence_N)
    errors = [100 * (calibration.expected_error(values_N, right_N) or 0.0) for values_N in (confidence_N, after_N)]
    told = (f"{errors[1]:.1f} % after calibration on {_text(fitted.fitted_on)}" if fitted else
            "not calibrated: 'asr decode --splits dev --tune' fits a calibration")
    after = [] if fitted is None else calibration.reliability(after_N, right_N)
    return (f"<p>Expected calibration error {errors[0]:.1f} %; {told}. The share of right words over their confidence, before (rings) and "
            f"after (discs):</p>{plots.reliability_diagram(calibration.reliability(confidence_N, right_N), after)}")


def _findings(found: Sequence[detectors.Finding], unit: str) -> str:
    if not found:
        return "<p>None.</p>"
    more = f'<p class="muted">{SHOWN} of {len(found)}.</p>' if len(found) > SHOWN else ""
    rows = [(_text(f.utterance.utterance.id), str(f.times), f'<div dir="auto">{_text(f.text)}</div>') for f in found[:SHOWN]]
    return _table(["utterance", unit, ""], rows) + more


def _worst(utterances: Sequence[ScoredUtterance], clips: Mapping[str, plots.Clip]) -> str:
    room, parts = AUDIO_BYTES, []
    for scored in utterances:
        clip, player = clips.get(scored.utterance.id), ""
        if clip is not None:
            player = _player(scored, clip)
            room -= len(player)
            player = player if room >= 0 else '<p class="muted">No audio here: the page would become too large.</p>'
        parts.append(_utterance(scored, player))
    return "".join(parts) or "<p>None.</p>"


def _player(scored: ScoredUtterance, clip: plots.Clip) -> str:
    """A player, a spectrogram, and below it the recognised words where they start."""
    whole = len(clip.samples) / clip.rate
    clip = clip.first(plots.SECONDS_SHOWN)
    seconds = max(len(clip.samples) / clip.rate, 1e-9)
    marks = [f'<bdi style="left:{100 * word.start / seconds:.2f}%">{_text(word.text)}</bdi>'
             for word in scored.utterance.words if word.start is not None and word.start < seconds]
    cut = f'<p class="muted">The first {seconds:.0f} of {whole:.0f} seconds.</p>' if whole > seconds else ""
    return (f'<audio controls preload="none" src="{plots.sound(clip)}"></audio>'
            f'<img class="spectrogram" alt="spectrogram" src="{plots.spectrogram(clip)}"><div class="marks">{"".join(marks)}</div>{cut}')


def _utterance(scored: ScoredUtterance, player: str = "") -> str:
    """The words of the reference above those of the hypothesis, in the direction of their script."""
    utterance, counts = scored.utterance, scored.words
    pairs = []
    for ref, hyp in scored.alignment:
        kind = "" if ref == hyp else "I" if ref is None else "D" if hyp is None else "S"
        shown = [f"<span>{_text(word)}</span>" if word is not None else '<span class="muted">∅</span>' for word in (ref, hyp)]
        pairs.append(f'<div class="pair {kind}">{"".join(shown)}</div>')
    speaker = f", {_text(utterance.speaker)}" if utterance.speaker else ""
    return (f'<div class="utterance"><b>{_text(utterance.id)}</b><span class="muted">{speaker}, {utterance.duration:.1f} s, '
            f"{counts.errors} errors in {counts.length} words</span>"
            f'<div class="aligned" dir="auto">{"".join(pairs)}</div>{player}</div>\n')
