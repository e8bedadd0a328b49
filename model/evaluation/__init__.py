"""How good is a model?

In: a network and the held-out split of a corpus. Out: bits per byte, the figure that compares models with
different tokenizers, and for model/evaluate.py everything in scores.json: held_out_texts.py draws what is
measured, scoring.py reads it in one pass, writing.py lets the model write, intervals.py says how sure that
is, score_record.py keeps it, score_table.py and score_page.py show it. Read bits_per_byte.py first.
"""
