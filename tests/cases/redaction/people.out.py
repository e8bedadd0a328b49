"""Written by Ann Smith <<EMAIL>>, now kept by <EMAIL>.

Send reports to the list (see http://python.org/lists), not to <EMAIL>.
"""

AUTHORS = ['Ann <<EMAIL>>', r'ben\n@x', "first line\n<EMAIL>"]
CONTACT = b'<EMAIL>', f"{AUTHORS[0]} or <EMAIL>"
