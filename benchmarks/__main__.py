"""`python -m benchmarks`: every measurement the documents quote. Needs the extra `parity`."""

import argparse
import os
import sys
from pathlib import Path

# Two libraries share an accelerator's memory, so JAX must not take most of it in advance. Before jax is imported.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("TQDM_DISABLE", "1")

from benchmarks import everything, memory, precision, quality, scaling
from benchmarks.cases import FULL, ON_A_GPU, QUICK


def main() -> None:
    arguments = parser().parse_args()
    a = arguments
    if a.command is None:
        sizes = QUICK if a.quick else ON_A_GPU if _on_a_gpu() else FULL
        command = " ".join(["python -m benchmarks", *sys.argv[1:]])
        report = everything.run(sizes, a.only, a.out, command, seed=a.seed, weights=a.weights)
        print(report.markdown())
        print(f"written to {a.out}: benchmarks.md, benchmarks.json", file=sys.stderr)
    elif a.command == "scaling":
        print(scaling.run(a.quick, a.figures, a.seed))
    elif a.command == "memory":
        _say(memory.run(a.network, a.layer, a.memory and int(a.memory * 2**30), a.seed), a.to)
    elif a.command == "precision":
        _say(precision.run(a.images, a.layer), a.to)
    else:
        _say(quality.run(a.images, a.skip, a.masks, a.samples, a.steps, a.seed), a.to)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Without a command: all sides in one process on the same weights, and a table of ratios.",
    )
    found.add_argument("--quick", action="store_true", help="small images, few units: whether it runs, not how fast")
    found.add_argument("--only", action="append", metavar="WORD", help="cases with this in their name; may be repeated")
    found.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for benchmarks.md and .json")
    found.add_argument("--weights", help="a trained VGG11 for 32×32, for its units; random weights by default")
    found.add_argument("--seed", type=int, default=0)
    commands = found.add_subparsers(dest="command")
    peak = commands.add_parser("memory", help="peak memory of all units at 224×224, jaxcam alone")
    peak.add_argument("--network", choices=["vgg11", "resnet50"], default="vgg11")
    peak.add_argument("--layer", action="append", help="only these layers")
    peak.add_argument("--memory", type=float, metavar="GiB", help="what the chunks may take")
    curves = commands.add_parser("scaling", help="how time and memory grow with units, image side, batch, devices")
    curves.add_argument(
        "--quick", action="store_true", default=argparse.SUPPRESS, help="two points a curve, small images"
    )
    curves.add_argument("--figures", type=Path, default=Path("docs/figures"), help="folder for scaling.svg and .json")
    areas = commands.add_parser("quality", help="deletion and insertion on photographs, methods against random maps")
    areas.add_argument("--images", type=int, default=100)
    areas.add_argument("--skip", type=int, default=0, help="leave out so many photographs before")
    areas.add_argument("--masks", type=int, default=160, help="of RISE")
    areas.add_argument("--samples", type=int, default=96, help="of LIME")
    areas.add_argument("--steps", type=int, default=10)
    bits = commands.add_parser("precision", help="what bfloat16 and TF32 change in the similarities of units")
    bits.add_argument("--images", type=int, default=3)
    bits.add_argument("--layer", action="append", help="only these layers")
    for command in (peak, areas, bits):
        command.add_argument("--to", type=Path, help="also write the table to this file")
    return found


def _on_a_gpu() -> bool:
    import jax

    return jax.default_backend() == "gpu"


def _say(table: str, to: Path | None) -> None:
    print(table)
    if to:
        to.write_text(table)


if __name__ == "__main__":
    main()
