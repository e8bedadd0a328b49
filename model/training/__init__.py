"""Training: the options of train.py and a corpus in, a folder GPyT/ with a trained model out.

setup.py turns options into a plan (plan.py: shape, batch, steps, forecast) and a Run. run.py is the loop
around trainer.py's step; schedule.py has the learning rate, optimizers.py Muon and AdamW, sampled_softmax.py
what a loss compares of a large vocabulary, checkpoint.py what a resumed run starts from, monitor.py what is
measured on the way, report.py what is written at the end.
Read trainer.py first, then run.py and setup.py.
"""
