"""What is collected: the folder repos/ and its record, collection.db.

In go requests (which days, which qualifiers), found repositories and files; out come whole folders below
repos/ and answers about them: what waits, what was fetched, what is missing.
Read record.py first. request.py is what a user asks for, database.py the tables, status.py the counts,
repos_folder.py the files and their safe names, licenses.py the SPDX identifiers.
"""
