"""GitHub's search: every repository of a range of dates, within GitHub's rate limits.

In go a query, a range of seconds and the user's token; out come pages of found repositories and the windows
of time that are finished.
Read date_windows.py first: how a range is cut into windows of at most 1,000 results. github_api.py sends one
request and waits out limits and faults, access_token.py finds the token.
"""
