"""Writes docs/command-line.md: every command with its help, and with what it says on data that comes with jaxcam.

    python docs/command_line.py          runs every example anew, in a directory that is thrown away: some minutes
    python docs/command_line.py help     writes the help texts anew, and keeps what the examples said

The help texts on the page are compared with those of the commands by tests/test_docs.py.
"""

import contextlib
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner

from jaxcam.cli.errors import MEANINGS
from jaxcam.cli.group import SECTIONS
from jaxcam.cli.main import cli

PAGE = Path(__file__).with_name("command-line.md")
WIDTH = 100

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "train": ("jaxcam train --data digits --model alexnet --epochs 3 --batch 64 --out runs/train --quiet",),
    "layers": ("jaxcam layers runs/train", "jaxcam layers runs/train --rules epsilon_plus"),
    "explain": (
        "jaxcam explain digits/3/ --model runs/train --method grad_cam --method lrp --out runs/threes --quiet",
    ),
    "compare": (
        "jaxcam compare digits/3/ --model runs/train --method grad_cam --method saliency --steps 8"
        " --out runs/which --quiet",
    ),
    "averages": ("jaxcam averages --model runs/train --kind most --out runs/averages --quiet",),
    "neurons": ("jaxcam neurons --averages runs/averages --layer features.conv1 --out runs/neurons --quiet",),
    "prune": ("jaxcam prune --neurons runs/neurons --layer features.conv1 --seeds 3 --out runs/prune --quiet",),
    "redundancy": (
        "jaxcam redundancy digits/3/ --model runs/train --method grad_cam --permutations 199"
        " --out runs/redundancy --quiet",
    ),
    "distributions": (
        "jaxcam distributions digits/3/ --model runs/train --limit 4 --draws 999 --out runs/laws --quiet",
    ),
    "linear-piece": ("jaxcam linear-piece digits/3/ --model runs/train --out runs/pieces --quiet",),
    "leak-check": (
        "jaxcam leak-check --model runs/train --region 0,0,6,12 --explained 10 --samples 100"
        " --out runs/suspect --quiet",
    ),
    "clusters": ("jaxcam clusters --model runs/train --target 3 --out runs/strategies --quiet",),
    "concepts": (
        "jaxcam concepts --model runs/train --target 1 --concept stripes --concept dots --layer features.conv1"
        " --images 20 --counterparts 3 --random-concepts 40 --out runs/concepts --quiet",
    ),
    "maximize": ("jaxcam maximize --model runs/train --target 3 --steps 16 --out runs/maximum --quiet",),
    "landscape": (
        "jaxcam landscape --model runs/train --dimensions 1 --points 5 --limit 100 --out runs/landscape --quiet",
    ),
    "report": ("jaxcam report runs",),
}
"""What is run for each command, in this order: one reads what another wrote. `digits/3/` are pictures of threes."""

HEAD = """# The command line

Every command writes a directory, its *run*, which the next one reads; `manifest.json` is written last and says what
was done, with what, and what was found. Stopped at any moment, the same command goes on or begins anew. What is below
was written by `python docs/command_line.py`, on the handwritten digits that come with scikit-learn; the numbers are
those of a network trained for three epochs, not of a good one.
"""

TAIL = """## For scripts

`--json` says what was found as JSON on standard output, and nothing else; errors stay one line on standard error.
`--quiet` leaves out progress bars and notes.

| exit code | meaning |
|---|---|
{codes}

```text
{refused}
```

## Words completed in a shell

| shell | in its start-up file |
|---|---|
| bash, `~/.bashrc` | `eval "$(_JAXCAM_COMPLETE=bash_source jaxcam)"` |
| zsh, `~/.zshrc` | `eval "$(_JAXCAM_COMPLETE=zsh_source jaxcam)"` |
| fish, `~/.config/fish/completions/jaxcam.fish` | `_JAXCAM_COMPLETE=fish_source jaxcam \\| source` |

Commands, options and the values of choices are completed after the next login.

## The environment

| variable | |
|---|---|
| `JAXCAM_DEBUG=1` | show where an error comes from |
| `JAXCAM_CACHE` | where compiled programs are kept; empty: nowhere |
| `JAX_PLATFORMS` | which devices to use: cpu, cuda, tpu |
"""


def said(words: str) -> str:
    """What a command line prints: standard output, then what went to standard error."""
    result = CliRunner().invoke(cli, shlex.split(words)[1:], prog_name="jaxcam", terminal_width=WIDTH)
    return "\n".join(line.rstrip() for line in (result.stdout + result.stderr).splitlines()).strip("\n")


def help_of(name: str) -> str:
    """The help of a command, or of all of them for ""."""
    return said(f"jaxcam {name} --help")


def recorded(page: str) -> dict[str, str]:
    """What the examples on a page said, by command line."""
    return dict(re.findall(r"^```console\n\$ (.*?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))


def shown(name: str, outputs: Mapping[str, str]) -> str:
    """The section of one command."""
    lines = [f"### jaxcam {name}", ""]
    for words in EXAMPLES.get(name, ()):
        lines += ["```console", f"$ {words}", outputs[words].strip("\n"), "```", ""]
    return "\n".join([*lines, "```text", help_of(name), "```", ""])


def page(outputs: Mapping[str, str]) -> str:
    """The whole page, from what the examples said."""
    parts = [HEAD, "```text", help_of(""), "```", ""]
    for title, names in SECTIONS.items():
        parts += [f"## {title}", "", *(shown(name, outputs) for name in names)]
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in MEANINGS.items())
    refused = "$ jaxcam explian cat.jpg\n" + said("jaxcam explian cat.jpg")
    return "\n".join(parts) + "\n" + TAIL.format(codes=codes, refused=refused)


def pictures(folder: Path) -> None:
    """Twelve threes as picture files."""
    import numpy as np
    from PIL import Image

    from jaxcam import data

    images, labels, _ = data.load("digits", "test")
    folder.mkdir(parents=True)
    for number, image in enumerate(images[labels == 3][:12]):
        Image.fromarray((255 * image[..., 0]).round().astype(np.uint8)).save(folder / f"{number:02}.png")


def run() -> dict[str, str]:
    """Runs every example in a directory of its own."""
    outputs: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        pictures(Path("digits/3"))
        for name, commands in EXAMPLES.items():
            for words in commands:
                outputs[words] = said(words)
                print(f"{name}: {outputs[words][:300]}", file=sys.stderr)
    return outputs


if __name__ == "__main__":
    PAGE.write_text(page(recorded(PAGE.read_text("utf-8")) if sys.argv[1:] == ["help"] else run()), "utf-8")
