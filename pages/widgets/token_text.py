"""A generation as HTML: every token on a tint that grows with its surprise, and a line of facts on hover, tap or focus.

Pure functions of text; everything that a model or a person wrote is escaped, and shown in a container that keeps spaces
and line breaks. One hue, at most 45 % opaque over the page's background: the text keeps its contrast in both themes.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from qcore.base.words import number_words, percent_words

_FULL_SURPRISE = math.log(1000.0)
_BLANKS = str.maketrans({"␣": " ", "⏎": "\n", "⇥": "\t"})
_DEEPEST = 0.45
_LEGEND = (
    "Deeper tint: less expected. Point at a token, or tap it, for its probability, rank, entropy and alternatives."
)


def generation_html(prompt: str, tokens: Sequence[dict[str, Any]], *, text: str = "", running: bool = False) -> str:
    """The prompt, then the tokens; `tokens` as the store keeps them.

    Args:
        text: shown where there are no tokens. All is escaped.
    """
    parts = ['<div class="gen">', f'<span class="prompt">{_escape(prompt)}</span>']
    parts += [_token(token) for token in tokens] or [_escape(text)]
    parts.append("▍" if running else "")
    parts.append(f'<span class="tip">{_escape(_LEGEND)}</span></div>' if tokens or not text else "</div>")
    return "".join(parts)


def tint(probability: float) -> float:
    """Opacity of a token's background: 0 at probability 1, the deepest at 1/1000 and below, even steps in nats."""
    surprise = -math.log(max(probability, 1e-12))
    return round(_DEEPEST * min(1.0, max(0.0, surprise / _FULL_SURPRISE)), 3)


def token_facts(token: dict[str, Any]) -> str:
    """What is known of a token, in two lines."""
    identity = f" (id {token['id']})" if "id" in token else ""
    others = " · ".join(f"{name} {percent_words(probability, places=1)}" for name, probability in token["top"])
    return (
        f"{token['label']}{identity}: probability {percent_words(token['probability'], places=2)}, "
        f"rank {token['rank']}, entropy {number_words(token['entropy'], places=2)} nats\ntop 5: {others}"
    )


def _token(token: dict[str, Any]) -> str:
    tip = _escape(token_facts(token)).replace("\n", "&#10;")
    color = f"rgba(0,114,178,{tint(token['probability'])})"
    # The label tells a token's own blanks; decoding one token alone would drop its leading space.
    text = _escape(token["label"].translate(_BLANKS))
    style = f"background-color:{color}"
    return f'<span class="tok" tabindex="0" style="{style}" data-tip="{tip}">{text}</span>'


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
