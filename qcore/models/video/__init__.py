"""Video models: the backbone, the published adapter, the anchor and the codec."""
