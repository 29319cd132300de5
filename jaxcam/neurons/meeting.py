"""Where processes meet: `python -m jaxcam.neurons.meeting '["host:port", 4, 2, 300]'` says who this one is.

A process of its own, because JAX's service ends a process, with a stack trace, when others do not come or are lost. It
runs on the CPU and is gone before the work begins, so the devices are the parent's alone.
"""

import json
import os
import secrets
import sys
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils


def meet(coordinator: str | None, processes: int | None, process: int | None, timeout: int) -> dict[str, object]:
    """This process among the others, and a name that all of them have and that was never used before."""
    jax.distributed.initialize(coordinator, processes, process, initialization_timeout=timeout)
    drawn = multihost_utils.broadcast_one_to_all(np.asarray(secrets.randbits(31), np.int32))
    return {"index": jax.process_index(), "count": jax.process_count(), "name": f"{int(drawn):08x}"}


def _end_with_the_parent() -> None:
    """The parent holds the other end of the input, and never writes."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        found = meet(*json.loads(sys.argv[1]))
    except (ValueError, RuntimeError) as error:
        found = {"error": str(error)}
    # The last line: what carries the number to the others on CPUs reports itself before.
    sys.stdout.write(f"\n{json.dumps(found)}\n")
