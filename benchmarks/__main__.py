"""`python -m benchmarks`: every measurement the documents quote. Needs the extra `parity`."""

import argparse
import sys
from pathlib import Path

from benchmarks import all_units, attribution, memory, quality


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    parser.add_argument("--seed", type=int, default=0)
    commands = parser.add_subparsers(dest="command", required=True)
    units = commands.add_parser("all-units", help="all units of VGG11 at 32×32 against Captum")
    units.add_argument("--weights", help="a trained checkpoint; random weights by default")
    units.add_argument("--repeats", type=int, default=5)
    peak = commands.add_parser("memory", help="peak memory of all units of VGG11 at 224×224")
    peak.add_argument("--layer", action="append", help="only these layers")
    methods = commands.add_parser("attribution", help="methods on ResNet50 against Captum and pytorch-grad-cam")
    methods.add_argument("--method", action="append", help="only those whose name contains this")
    methods.add_argument("--batch", type=int, default=8)
    methods.add_argument("--steps", type=int, default=32, help="of integrated gradients; samples of SmoothGrad")
    methods.add_argument("--score-cam-images", type=int, default=1, help="how many of the batch Score-CAM gets")
    methods.add_argument("--repeats", type=int, default=3)
    areas = commands.add_parser("quality", help="deletion and insertion on photographs, methods against random maps")
    areas.add_argument("--images", type=int, default=100)
    areas.add_argument("--skip", type=int, default=0, help="leave out so many photographs before")
    areas.add_argument("--masks", type=int, default=160, help="of RISE")
    areas.add_argument("--samples", type=int, default=96, help="of LIME")
    areas.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.command == "all-units":
        table = all_units.run(arguments.weights, arguments.repeats, arguments.seed)
    elif arguments.command == "attribution":
        a = arguments
        table = attribution.run(a.method, a.batch, a.score_cam_images, a.steps, a.repeats, a.seed)
    elif arguments.command == "quality":
        a = arguments
        table = quality.run(a.images, a.skip, a.masks, a.samples, a.steps, a.seed)
    else:
        table = memory.run(arguments.layer, arguments.seed)
    print(table)
    if arguments.out:
        arguments.out.write_text(table)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
