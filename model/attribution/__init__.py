"""Whose code does a completion repeat?

In: a model's training split when a run ends (index.py writes sources.index); later a completion as text.
Out: the parts of 30 tokens or more that appear in the training data, each with repository, path, commit and
licence. The training data itself is not needed. Training imports index.py alone.
Read copies.py first.
"""
