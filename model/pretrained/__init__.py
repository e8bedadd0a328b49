"""A model's folder on disk, GPyT/, in the format of transformers: read, checked and written.

In: a folder that transformers or train.py wrote, or the weights of a run. Out: a configuration, a vocabulary
and weights that belong together, or the folder. provenance.py tells which run made it; atomic_write.py writes
every file completely or not at all. Nothing here imports torch at the top. Read load.py first, then save.py.
"""
