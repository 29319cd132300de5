"""What `jaxcam linear-piece` asks, and what it keeps of the answer."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam import studies
from jaxcam.cli import explanations
from jaxcam.cli.class_images import write_npz
from jaxcam.cli.classes import Answers, percent
from jaxcam.cli.figures_of_quality import write_csv
from jaxcam.cli.networks import Network
from jaxcam.cli.photographs import Photographs
from jaxcam.viewing import figures


@dataclasses.dataclass(frozen=True)
class Asked:
    """Everything that is known before the first piece is computed.

    Attributes:
        network: what is taken apart.
        photographs: around what.
        answers: what it says of them.
        explained: the class of each image (n,).
    """

    network: Network
    photographs: Photographs
    answers: Answers
    explained: np.ndarray


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        rows: for each image, what images.csv says.
        W: (n, h, w, c) of the class explained.
        b: (n,).
        shared: the polytopes.
    """

    rows: list[dict[str, Any]]
    W: np.ndarray
    b: np.ndarray
    shared: studies.Polytopes


def asked(given: Mapping[str, Any], *, quiet: bool) -> Asked:
    """Reads and checks what was typed, the cheap things first."""
    return Asked(*explanations.shown(given, given["limit"], quiet=quiet))


def measured(asked: Asked, directions: int, seed: int, batch: int) -> Found:
    """The pieces, their polytopes and the nearest facet in some directions."""
    model, x = asked.network.model, asked.photographs.images
    chosen = sorted(set(asked.explained.tolist()))
    own = np.searchsorted(chosen, asked.explained)
    each = np.arange(len(x))
    parts = [
        studies.linear_piece(model, x[i : i + batch], outputs=chosen, chunk=batch * len(chosen))
        for i in range(0, len(x), batch)
    ]
    W, b, values = (
        np.concatenate([np.asarray(getattr(part, name)) for part in parts])[each, own] for name in ("W", "b", "values")
    )
    names = np.concatenate([part.polytope for part in parts])
    errors = np.concatenate([part.error for part in parts])
    shared = studies.polytopes(model, x, chunk=batch)
    random = np.random.default_rng(seed).normal(size=(directions, *x.shape[1:]))
    ways = (random / np.sqrt((random**2).sum((1, 2, 3), keepdims=True))).astype(x.dtype)
    reaches = [studies.region_size(model, x, way, chunk=batch) for way in ways]
    distances = np.stack([reach.distance for reach in reaches])
    nearest = distances.argmin(0)
    rows = []
    for i, name in enumerate(asked.photographs.names):
        linear = float(np.sum(W[i].astype(np.float64) * x[i]) + b[i])
        rows.append(
            {
                "image": name,
                "class": asked.answers.name(asked.explained[i]),
                "probability": float(asked.answers.probabilities[i, asked.explained[i]]),
                "output": float(values[i]),
                "linear": linear,
                "error": float(errors[i]),
                "polytope": str(names[i]),
                "facet": float(distances[nearest[i], i]),
                "layer": str(reaches[nearest[i]].layer[i]),
            }
        )
    return Found(rows, W, b, shared)


def write(asked: Asked, found: Found, out: Path) -> None:
    """The files of the run."""
    arrays = {
        "W": found.W,
        "b": found.b,
        "images": asked.photographs.images,
        "target": asked.explained,
        "polytope": np.asarray([row["polytope"] for row in found.rows]),
    }
    write_npz(out / "pieces.npz", arrays)
    write_csv(out / "images.csv", list(found.rows[0]), [list(row.values()) for row in found.rows])
    table = [dataclasses.asdict(row) for row in found.shared.table()]
    write_csv(out / "sharing.csv", list(table[0]), [list(row.values()) for row in table])
    titles = [f"{row['class']}, {percent(row['probability'])}" for row in found.rows]
    figure = figures.linear_pieces(asked.photographs.images, found.W, found.shared, titles=titles)
    figures.save(figure, out / "linear_piece.png")


def results(found: Found) -> dict[str, Any]:
    """What the manifest says; a facet that is nowhere is null."""
    rows = [row | {"facet": row["facet"] if np.isfinite(row["facet"]) else None} for row in found.rows]
    return {"images": rows, "sharing": [dataclasses.asdict(row) for row in found.shared.table()]}


def said(found: Found) -> list[tuple[str, ...]]:
    """The images for a reader."""
    return [
        (
            row["image"],
            f"‘{row['class']}’",
            f"{row['output']:.4f}",
            f"{row['linear']:.4f}",
            f"{row['error']:.0e}",
            f"{row['facet']:.2g}",
            row["layer"],
        )
        for row in found.rows
    ]


def shared(found: Found) -> list[tuple[str, ...]]:
    """Who shares what, for a reader."""
    return [
        (row.layer, f"{row.switches:,}", str(row.groups), f"{row.sharing:.1%}", f"{row.sharing_above:.1%}")
        for row in found.shared.table()
    ]
