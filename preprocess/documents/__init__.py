"""The rules for one Python file: its bytes in, the pieces of text that are kept out, or the reason for none.

Nothing here knows of another file, so a file can be prepared on any machine. The bytes of all modules here
are part of the key under which prepared files are cached, so only rules for one file belong here, and they
import none of our modules from elsewhere. Read prepare.py first: it calls the rules in their order.
"""
