"""Fine-tunes the embedded model in one of several processes, in copies or in pieces: for test_sharded_finetune.

Arguments: folder of the run, file of conversations, `lora` or `all`, `pieces` or `copies`.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch

from fastvlm.recipes.finetune import FinetuneRecipe, run
from fastvlm.training import precision
from fastvlm.training.lora import LoraSettings
from fastvlm.training.parallel import processes

if __name__ == "__main__":
    # peft imports a torchvision whose compiled operators are not there and not needed.
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    folder, data, kind, how = sys.argv[1:]
    torch.set_num_threads(1)
    precision.has_fast_bfloat16 = lambda _: False
    with processes():
        run(
            FinetuneRecipe(
                model=None,
                data=(data,),
                parts="language" if kind == "lora" else "all",
                lora=LoraSettings(rank=4) if kind == "lora" else None,
                num_epochs=2,
                batch_size=2,
                num_accumulated=2,
                learning_rate=1e-3 if kind == "lora" else 1e-4,
                validation_share=0.2,
                recomputes=how == "pieces",
                is_sharded=how == "pieces",
                num_workers=0,
                save_every=2,
            ),
            Path(folder),
            tell=print,
        )
