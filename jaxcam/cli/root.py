"""`jaxcam`, the group of all commands."""

import click

from jaxcam.cli.averages import averages
from jaxcam.cli.clusters import clusters
from jaxcam.cli.compare import compare
from jaxcam.cli.concepts import concepts
from jaxcam.cli.demo import demo
from jaxcam.cli.distributions import distributions
from jaxcam.cli.errors import MEANINGS
from jaxcam.cli.explain import explain
from jaxcam.cli.group import Group
from jaxcam.cli.landscape import landscape
from jaxcam.cli.layers import layers
from jaxcam.cli.leak_check import leak_check
from jaxcam.cli.linear_piece import linear_piece
from jaxcam.cli.maximize import maximize
from jaxcam.cli.neurons import neurons
from jaxcam.cli.prune import prune
from jaxcam.cli.redundancy import redundancy
from jaxcam.cli.report import report
from jaxcam.cli.train import train
from jaxcam.version import __version__

EPILOG = "\n\n".join(
    [
        "\b\nOn photographs of yours, one folder for each class:\n"
        "  jaxcam train --data photos/ --model vgg11 --out runs/train\n"
        "  jaxcam averages --model runs/train --out runs/averages\n"
        "  jaxcam neurons --averages runs/averages --out runs/neurons\n"
        "  jaxcam prune --neurons runs/neurons --out runs/prune\n"
        "  jaxcam report runs",
        "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in MEANINGS.items()),
        "\b\nEnvironment:\n"
        "  JAXCAM_DEBUG=1  show where an error comes from\n"
        "  JAXCAM_CACHE    where compiled programs are kept; empty: nowhere\n"
        "  JAX_PLATFORMS   which devices to use: cpu, cuda, tpu",
    ]
)


@click.group(
    cls=Group, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="jaxcam", message="%(prog)s %(version)s")
def cli() -> None:
    """What did every unit of a convolutional network learn?

    Each command writes a directory, which the next one reads; COMMAND --help has an example.
    """


for command in (
    demo,
    train,
    layers,
    explain,
    compare,
    averages,
    neurons,
    prune,
    redundancy,
    distributions,
    linear_piece,
    maximize,
    landscape,
    report,
    leak_check,
    clusters,
    concepts,
):
    cli.add_command(command)
