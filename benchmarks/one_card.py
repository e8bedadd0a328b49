"""train.py as one of several processes that share one GPU, over gloo; for gpu_check.py.

    torchrun --standalone --nproc-per-node 2 benchmarks/one_card.py --device cuda --steps 100
    torchrun --standalone --nproc-per-node 2 benchmarks/one_card.py --ask-nccl

train.py wants a GPU for each process, because NCCL refuses two ranks on one card ("Duplicate GPU detected").
Here every process takes the first card, and gloo carries what NCCL would, through main memory. So the parts
of a batch, the sums and the checkpoints of several processes are tried on a GPU. NCCL is not, and speed says
nothing. With --ask-nccl it only asks NCCL for a sum on one card and prints the answer.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import Any

from journey import PROJECT

ANSWER_SECONDS = 30


def join_over_gloo() -> None:
    """Let all processes take the first GPU, and gloo exchange its tensors."""
    import torch

    os.environ["LOCAL_RANK"] = "0"
    join = torch.distributed.init_process_group

    def join_gloo(backend: str, **options: Any) -> None:
        join("gloo", **options)

    torch.distributed.init_process_group = join_gloo  # type: ignore[assignment]


def ask_nccl() -> str:
    """What NCCL says to a sum over ranks that share a card."""
    import torch

    torch.cuda.set_device(0)
    version = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    try:
        torch.distributed.init_process_group("nccl", timeout=timedelta(seconds=ANSWER_SECONDS))
        number = torch.ones(1, device="cuda")
        torch.distributed.all_reduce(number)
        total = number.item()
    except RuntimeError as error:
        return f"NCCL {version} refuses two ranks on one card: {str(error).strip().splitlines()[-1]}"
    return f"NCCL {version} takes two ranks on one card; 1 + 1 = {total:g}"


def main() -> int:
    if sys.argv[1:] == ["--ask-nccl"]:
        answer = ask_nccl()
        if os.environ["RANK"] == "0":
            print(answer, flush=True)
        os._exit(0)  # a refused communicator may wait for the other rank at the end
    sys.path.insert(0, str(PROJECT / "model"))
    import train
    from gpt2.device import limit_spinning

    limit_spinning()  # before torch is imported
    join_over_gloo()
    return train.main()


if __name__ == "__main__":
    raise SystemExit(main())
