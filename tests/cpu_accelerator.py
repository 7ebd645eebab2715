"""Let accelerate take the CPU for an accelerator, which is all that keeps FSDP2 and DeepSpeed from running on it (gloo).

Imported by distributed_worker.py; to try a whole `vr1kit train`, put `import cpu_accelerator` in a sitecustomize.py on PYTHONPATH.
"""

import os

import accelerate.state
import torch
from accelerate.utils import DistributedType


def pretend() -> None:
    """Call before anything else of accelerate's runs, in each of several processes."""
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    kind = DistributedType.DEEPSPEED if deepspeed else DistributedType.MULTI_GPU
    accelerate.state.PartialState._prepare_backend = lambda self, *_, **__: ("gloo", kind)
    accelerate.state.PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
    if torch.distributed.is_initialized():
        return
    if deepspeed:
        from deepspeed import comm

        comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)  # as accelerate does on a GPU
    else:
        torch.distributed.init_process_group("gloo")
