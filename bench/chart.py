"""The chart of ``docs/benchmarks.svg``, drawn as text: no library, and no script in the picture."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.figures import FIGURES
from bench.ours.contestants import OURS
from bench.results import Line, Results

PANELS = ("noop_1", "workflows", "callers", "latency_p50", "finish_p50", "server_us")
_WIDTH = 920
_NAME_WIDTH = 130
_VALUE_WIDTH = 90
_BAR_HEIGHT = 15
_ROW_HEIGHT = 21
_HEAD_HEIGHT = 26
_LINE_HEIGHT = 15
_LINE_CHARACTERS = 120
_GAP = 18
_STYLE = """\
text{font:12px system-ui,sans-serif;fill:#24292f}
.head{font-weight:600;font-size:14px}
.small{font-size:10.5px;fill:#656d76}
.ours{fill:#0969da}.peer{fill:#8c959f}.back{fill:#fff}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.small{fill:#8d96a0}.ours{fill:#4493f8}.peer{fill:#6e7681}.back{fill:#0d1117}}"""


@dataclass(frozen=True)
class Bar:
    """One bar: whose, how long (0 to 1), and what stands behind it."""

    name: str
    share: float
    value: str
    ours: bool


def chart(results: Results) -> str:
    """An SVG with one panel a figure, a bar in it for everybody who was measured, and below them what each peer does
    not promise."""
    parts: list[str] = []
    top = _GAP
    for figure in PANELS:
        bars = bars_of(figure, results.lines)
        if len(bars) > 1:
            parts += _panel(figure, bars, top)
            top += _HEAD_HEIGHT + _ROW_HEIGHT * len(bars) + _GAP
    lacking = _lacking(results.lines, top)
    parts += lacking
    top += _LINE_HEIGHT * len(lacking) + (_GAP if lacking else 0)
    caption = f"{results.machine}; {results.server}; median of {results.repetitions}; {results.begun} UTC"
    parts.append(f'<text class="small" x="10" y="{top + 6}">{escape(caption)}</text>')
    height = top + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        f' role="img" aria-label="Benchmarks">\n<style>{_STYLE}</style>\n'
        f'<rect class="back" width="{_WIDTH}" height="{height}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def bars_of(figure: str, lines: Iterable[Line]) -> list[Bar]:
    """The bars of one panel, best first."""
    found = [(line, line.medians[figure]) for line in lines if figure in line.medians]
    longest = max((value for _, value in found), default=0.0) or 1.0
    found.sort(key=lambda pair: pair[1], reverse=FIGURES[figure].more_is_better)
    return [
        Bar(
            name=line.name,
            share=value / longest,
            value=FIGURES[figure].written(value),
            ours=line.name in OURS,
        )
        for line, value in found
    ]


def _panel(figure: str, bars: Sequence[Bar], top: int) -> list[str]:
    better = "more" if FIGURES[figure].more_is_better else "less"
    parts = [f'<text class="head" x="10" y="{top + 14}">{escape(FIGURES[figure].title)} ({better} is better)</text>']
    room = _WIDTH - _NAME_WIDTH - _VALUE_WIDTH
    for index, bar in enumerate(bars):
        y = top + _HEAD_HEIGHT + index * _ROW_HEIGHT
        width = max(1.0, bar.share * room)
        kind = "ours" if bar.ours else "peer"
        parts += [
            f'<text x="10" y="{y + 12}">{escape(bar.name)}</text>',
            f'<rect class="{kind}" x="{_NAME_WIDTH}" y="{y}" width="{width:.1f}" height="{_BAR_HEIGHT}" rx="2"/>',
            f'<text x="{_NAME_WIDTH + width + 6:.1f}" y="{y + 12}">{bar.value}</text>',
        ]
    return parts


def _lacking(lines: Iterable[Line], top: int) -> list[str]:
    """A list of what each measured peer does not promise, one text a line."""
    texts: list[tuple[str, str]] = []
    for line in lines:
        if line.runs and line.lacks:
            wrapped = textwrap.wrap("; ".join(line.lacks), _LINE_CHARACTERS)
            texts += zip((line.name, *[""] * len(wrapped)), wrapped, strict=False)
    if not texts:
        return []
    parts = [f'<text class="head" x="10" y="{top + 8}">What the peers do not promise and we do</text>']
    for number, (name, text) in enumerate(texts, start=1):
        y = top + 12 + number * _LINE_HEIGHT
        named = f'<tspan x="10">{escape(name)}</tspan>' if name else ""
        parts.append(f'<text class="small" y="{y}">{named}<tspan x="{_NAME_WIDTH}">{escape(text)}</tspan></text>')
    return parts
