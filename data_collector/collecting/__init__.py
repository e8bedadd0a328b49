"""Runs of the collector: from GitHub, a list, an index, a dataset or this machine, with progress and reports.

In go a collection and what the user asks for; out come folders below repos/, their record, and the lines
that a person reads.
Read github_run.py first: one search and several clones at the same time (fetching.py); network_run.py is how
it is called. package_run.py takes packages of an index, local_run.py datasets and the sources of this
machine; report.py is what is printed.
"""
