"""Byte-level BPE: the train documents of data.txt in, the folder tokenizer/ out.

vocabulary_size.py chooses how many entries and which pre-tokenizer, learning.py learns the merges,
tokenizer_folder.py writes and reads the result, compression.py measures it on held-out documents,
token_view.py shows a text as its tokens. Read learning.py first.
"""
