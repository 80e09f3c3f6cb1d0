"""What a run is on disk, without torch: its layout, name, lock, state, checkpoint folders, lineage, and the set of runs
of a folder.
"""
