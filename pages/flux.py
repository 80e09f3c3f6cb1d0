"""Flux: tokens of a Quantum Flux run on their discs, whom they resemble, and who is connected with whom."""

import streamlit as st

from pages.session import family_words
from pages.session.lab import open_lab
from pages.session.page_list import CONTROL_ROOM, INTERFERENCE
from pages.views import discs
from pages.widgets import run_heading

lab = open_lab()
info = run_heading.open_run(lab, "Flux")
if info is not None and ("discs" in info.capabilities or family_words.has_text(info, "tokens on discs")):
    if "discs" in info.capabilities:
        discs.page(lab, info)
    elif not family_words.has_trainer(info):
        family_words.elsewhere(info, "This run has recorded no tokens on discs.")
    else:
        st.info(
            "Only Quantum Flux models have tokens on discs. See which tokens attend to which in this "
            "run under *Interference*, or start one in the control room from a preset that begins with *Flux*."
        )
        INTERFERENCE.link()
        CONTROL_ROOM.link("Open the control room")
