"""What a person types and sees: one prompt from the command line, or an interactive prompt.

Comes in: a Completer, settings, and a prompt or a terminal. Goes out: code on standard output while it is
written, remarks on standard error or as comments, and an exit code.
Read one_shot.py first, then prompt_session.py; screen.py is its line editor and its screen.
"""
