"""The network and the machine it computes on.

In: a GPT2Config (config.py, the one description of a model) and token ids. Out: losses and logits; weights
under the names of transformers' GPT2LMHeadModel. initial_weights.py has them before training, operations.py
what PyTorch computes too slowly, cpu_passes.py its loops over numbers, device.py the device, precision and
memory, distributed.py training by several processes. Read network.py first.
"""
