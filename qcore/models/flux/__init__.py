"""Quantum Flux: discs that flow, connected by resemblance."""
