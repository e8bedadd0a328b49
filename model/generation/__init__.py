"""A prompt and a model -> completions, written token by token, whose lines all compile.

Comes in: a LanguageModel, its vocabulary, a prompt (and what follows a gap), the settings. Goes out: samples,
their text streamed as soon as it is certain. A token is rejected in rejection.py: GuardedText.refuse takes
one back that no program continues with, GuardedText.take_back the rest of a line that CPython objects to.
Read completer.py first, then prompt_ids.py (what is read), sample.py (what is written), rejection.py (how far
it is taken back), ending.py (how it ends) and inspection.py (what to say about a finished sample).
"""
