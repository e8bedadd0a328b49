"""From data.txt to the batches of a training step.

In: data.txt and a tokenizer's folder. Out: token ids on the device, (B, T) inputs and targets of each step.
corpus_tokens.py has the corpus encoded once, in parts (source_files.py reads one, encoding.py encodes it,
token_file.py is the format of token files); batches.py makes rows of the documents, chooses those of a step
and loads them. Read corpus_tokens.py first.
"""
