"""One repository's address -> its Python files, within bounds and without running any of its code.

In go a URL and a folder; out come the Python files of the default branch, its commit and licence, or a
CloneError that says whether another try is worth it.
Read clone.py first. bounded_clone.py bounds time, bytes and files, git_environment.py makes git harmless,
failures.py tells what went wrong, orphan_reaper.py ends git after a killed collector.
"""
