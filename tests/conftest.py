"""Shared test settings: one torch thread, so that every number is reproducible and two cores are not fought over."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
