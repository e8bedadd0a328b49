"""Written by Ann Smith <ann.smith@python.org>, now kept by ben+code@lists.kernel.org.

Send reports to the list (see http://python.org/lists), not to me@home.de.
"""

AUTHORS = ['Ann <ann.smith@python.org>', r'ben\n@x', "first line\ncarla@web.de"]
CONTACT = b'dora@python.org', f"{AUTHORS[0]} or emil@python.org"
