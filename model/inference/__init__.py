"""From a model and token ids to the next token.

In: a model's folder, read by pretrained/. Out: logits (cpu_engine.py with the kernel of cpu_kernel.py, or
torch_engine.py), and a token drawn from them (sampling.py, by the settings of decoding.py). language_model.py
says what an engine is, and has the cache of keys and values. Read language_model.py first.
"""
