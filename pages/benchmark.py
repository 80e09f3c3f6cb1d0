"""Benchmark: models side by side: size, operations, speed, memory and quality; and what each mechanism earns."""

import streamlit as st

from pages.session.lab import open_lab
from pages.views import ablation, model_comparison
from pages.widgets import run_heading

VIEWS = {"Models": model_comparison.show_models, "Ablation": ablation.show_ablation}

lab = open_lab()
run_heading.hand_over_to_app()
st.title("Benchmark", anchor=False)
view = st.segmented_control(
    "View",
    list(VIEWS),
    key="bench_view",
    default=next(iter(VIEWS)),
    required=True,
    bind="query-params",
    label_visibility="collapsed",
    help="Models: any models and sizes side by side · Ablation: each mechanism against plain cross-entropy.",
)
VIEWS[view](lab)
