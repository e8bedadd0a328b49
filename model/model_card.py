"""README.md of a trained model: what it is, what it was made of, how well it does, how to load it."""

from __future__ import annotations

from typing import Any

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
language: code
tags: [gpt2, python, code]
---

# {name}

A GPT-2 of {parameters:,} parameters, trained {origin} on Python source code. It continues Python; it does
not follow instructions, and at this size what it writes has the form of code more often than a meaning.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
prompt = tokenizer("def main(", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=64, do_sample=True, top_p=0.95)[0]))
```

## Figures

| | |
|---|---|
| held-out bits per byte | {held_out} |
| trained on | {tokens:,} tokens, {epochs:.2f} epochs, {seconds:.0f} s on {machine} |
| layers, heads, width, context | {n_layer}, {n_head}, {n_embd}, {block_size} tokens |
| vocabulary | {vocab_size:,} (byte-level BPE) |

Bits per byte: each held-out file scored from its beginning as one sequence, windows of the context with half
overlap, the bits of all its tokens and of the closing `<|endoftext|>` divided by its UTF-8 bytes.
{sample}

## Data

{documents:,} files ({megabytes:.1f} MB) of {repositories:,} repositories; {held_out_documents:,} more files
were held out, by whole repository where there are three or more. Comments were removed, docstrings stay. The
data names the licence of each file: what the model writes can repeat what it has read, so check them before
you publish either.{sources}

`provenance.json` has the hashes of data and tokenizer, all options and versions; `training_log.jsonl` and
`loss.png` show the run.
"""


def model_card(
    name: str, plan: dict[str, Any], figures: dict[str, Any], corpus: dict[str, Any], *, finished: bool
) -> str:
    """The text of README.md from the records of provenance.json."""
    held_out = "no file was held out" if finished else "not measured: the run was interrupted"
    sample = ""
    if figures.get("held_out_bits_per_byte") is not None:
        held_out = f"**{figures['held_out_bits_per_byte']:.3f}**"
        sample = (
            f"Measured on a fixed random sample of {figures['held_out_files']:,} whole files,"
            f" {figures['held_out_bytes'] / 1e3:,.0f} kB."
        )
    further = "further, from the weights that provenance.json names (init_from),"
    return CARD.format(
        name=name,
        origin="from scratch" if plan["rate"] == 1 else further,
        held_out=held_out,
        sample=sample,
        tokens=figures["tokens"],
        epochs=figures["epochs"],
        seconds=figures["seconds"],
        **{key: plan[key] for key in ("parameters", "machine", "n_layer", "n_head", "n_embd", "block_size")},
        vocab_size=plan["vocab_size"],
        **corpus,
    )
