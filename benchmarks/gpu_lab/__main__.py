"""`python -m benchmarks.gpu_lab pack`, and there `./run`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from benchmarks.gpu_lab import pack, program


def main() -> None:
    """One archive made, or what is in it run."""
    parser = argparse.ArgumentParser(prog="gpu_lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="make the archive, of at most 60 MiB")
    packing.add_argument("packs", type=Path, help="a folder with ComfyUI and the node packs")
    packing.add_argument("--out", type=Path, default=Path("out/gpu_lab.tar.xz"))
    packing.add_argument("--python", default="3.12", help="the version on the machine")
    packing.add_argument("--have", type=Path, help="a file with the names of the packages there")
    running = commands.add_parser("run", help="measure, in the unpacked archive")
    running.add_argument("--lab", type=Path, default=Path(), help="the unpacked archive")
    running.add_argument("--out", type=Path, default=Path("out/gpu_lab"))
    running.add_argument("--tiny", action="store_true", help="try it on a CPU, with tiny shapes")
    running.add_argument("--dry-run", action="store_true", help="tell order and times, run nothing")
    running.add_argument("--only", nargs="+", metavar="WORDS", help="items that are called so")
    given = parser.parse_args()
    if given.command == "pack":
        have = given.have.read_text().split() if given.have else pack.USUAL
        size = pack.pack(given.packs, given.out, python=given.python, have=have)
        print(f"{given.out}: {size / 2**20:.1f} MiB. There: tar xf, then lab/run --out FOLDER")
    elif given.dry_run:
        print(program.told())
    else:
        from benchmarks.gpu_lab.run import Lab  # noqa: PLC0415 - torch is needed there alone

        logging.getLogger("talkinghead").setLevel(logging.CRITICAL)  # what fails is in the table
        lab = Lab(given.lab.absolute(), given.out.absolute(), tiny=given.tiny)
        only = given.only or [""]
        lab.run([each for each in program.ITEMS if any(text in each.name for text in only)])
        print((given.out / "lab.txt").read_text())


if __name__ == "__main__":
    main()
