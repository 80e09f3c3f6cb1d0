"""Control room: start a run, watch it learn, turn its knobs, and choose among the runs."""

import streamlit as st

from pages.session import family_words, selection
from pages.session.lab import open_lab
from pages.views import external_run, live_run, new_run, run_table
from pages.widgets import message_list, run_heading, share_dialog

VIEWS = ("Watch", "New run", "All runs")

lab = open_lab()
info = selection.selected_run(lab)
if info is None:
    st.title("Control room", anchor=False)
    st.info("There is no run yet. Choose a preset and press **Start**: the first curves appear within a minute.")
    message_list.show_messages()
    share_dialog.show_share(lab, None)
    new_run.new_run(lab)
else:
    run_heading.heading("Control room", info)
    view = run_heading.view_picker(VIEWS)
    message_list.show_messages()
    if view == "Watch":
        run_heading.show_trouble(lab, info)
        (live_run if family_words.has_trainer(info) else external_run).watch(lab, info)
    elif view == "New run":
        new_run.new_run(lab)
    else:
        run_table.runs(lab, info)
