"""A model answers other programs over HTTP: an editor, a page, what speaks OpenAI's API or llama.cpp's.

In: a model, ready to compute, and requests. Out: completions, streamed as they are written. application.py
speaks HTTP, language_server.py with an editor that starts it, access.py says who may ask, question.py reads
requests and answers.py shapes what is sent back. worker.py owns the model and lets requests take turns.
completing.py begins a completion, prompt_cache.py keeps what was read, editor_window.py judges a part of a
file, stops.py ends a text. Read worker.py first.
"""
