"""kas demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_IMAGE = "busybox:1.37"


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the transcript; exit code 1 if a step failed.")
    ] = False,
    kube: Annotated[
        Path | None,
        typer.Option("--kube", metavar="KUBECONFIG", help="Play on this real cluster instead of the practice cluster."),
    ] = None,
    image: Annotated[
        str, typer.Option("--image", help="With --kube: an image with a shell and httpd; localhost/… is never pulled.")
    ] = DEFAULT_IMAGE,
) -> None:
    """Play the main job: a CI job deploys through a tunnel that the cluster opened, and another one is denied.

    Starts kas, agentk and a small practice cluster on free ports, in a temporary folder, and leaves nothing behind.
    With **--kube** it first installs agentk's identity in that cluster, says which rights, and removes it at the end.
    """
    from kas.demo.run import play

    raise typer.Exit(play(once=once, kube=kube, image=image))
