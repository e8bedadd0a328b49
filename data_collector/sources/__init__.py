"""Python that lies elsewhere than in GitHub's search, as sources of the collection.

In go a list, names of packages, a dataset, the paths of --local, or none for the installed Python; out come
addresses to clone, or LocalSource records, of which `take` copies one into repos/. Nothing is run or linked.
Read local_source.py first. repository_list.py reads lists; package_index.py chooses packages and asks
pip_program.py for them; dataset_rows.py puts rows together that row_files.py reads; folders.py finds folders
and git repositories (bare too), archives.py reads .zip and .tar, installed_python.py what is installed.
"""
