"""How often rules spoke in healthy runs: the words of the table, from one run of `qcore exam --zoo`."""

from __future__ import annotations

ZOO = "0 of 120 healthy runs of the zoo; no limit was fitted to 60 of them"
ZOO_CLIPS = "0 of 19 healthy runs of clips in the zoo; no limit was fitted to 9 of them"
