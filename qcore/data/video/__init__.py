"""Clips: moving digits, videos and precomputed latents, and the batches drawn from them."""
