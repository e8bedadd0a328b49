"""A trained model, written for other programs.

In: a model folder, read and checked by pretrained. Out: one GGUF file for llama.cpp, or a folder for
CTranslate2. gguf_file.py and ctranslate2_folder.py each know one format: what it can hold, how it is written
and recognised. What may be replaced is decided by export.py. Read gguf_file.py first.
"""
