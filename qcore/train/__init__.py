"""Training: control board, one step, the loop, the worker thread, checkpoints. Import its modules by name.

Nothing is imported here, so that `qcore.runs.layout`, which needs no torch, stays cheap for pages of finished runs.
"""
