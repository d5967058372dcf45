"""Chooses a wheel from k2's project page of wheels, with nothing but Python's own library.

    python utils/k2_wheels.py PAGE --python 3.11,3.12                         # the newest torch that has a wheel for one of these
    python utils/k2_wheels.py PAGE --python 3.11 --torch 2.8.0 --cuda 12.8    # the newest wheel for what is installed

PAGE is a web address or a file:// one. Prints "python torch address" of one wheel on one line; where there is none,
or the page cannot be read, one line on stderr and exit status 1.
"""
from __future__ import annotations

import argparse
import platform
import re
import sys
import urllib.parse
import urllib.request
from typing import Iterable, NamedTuple, Sequence

TIMEOUT_SECONDS = 5
OLDEST_TORCH = (2, 4)

NAME = re.compile(
    r"k2-(?P<release>[\d.]+)(?:\.dev(?P<date>\d+))?\+(?P<device>cpu|cuda(?P<cuda>[\d.]+))\.torch(?P<torch>\d+(?:\.\d+)+)"
    r"-cp(?P<major>\d)(?P<minor>\d+)-cp\d+-(?P<platform>[^/]+)\.whl"
)


class Wheel(NamedTuple):
    release: tuple[int, ...]  # of k2; its date of build is the last number
    torch: str
    cuda: str  # empty where built for the CPU only
    python: str
    platform: str
    address: str


def parse_page(html: str, base: str) -> "list[Wheel]":
    """Every k2 wheel that ``html``, the page at address ``base``, links to; other links are passed over."""
    wheels = []
    for link in re.findall(r"""href\s*=\s*["']([^"']+)["']""", html):
        found = NAME.search(urllib.parse.unquote(link).rsplit("/", 1)[-1])
        if found is not None:
            release = (*map(int, found["release"].strip(".").split(".")), int(found["date"] or 0))
            python = f"{found['major']}.{found['minor']}"
            address = urllib.parse.urljoin(base, link)
            wheels.append(Wheel(release, found["torch"], found["cuda"] or "", python, found["platform"], address))
    return wheels


def choose(
    wheels: Iterable[Wheel], pythons: Sequence[str], system: tuple[str, str], torch: str | None = None, cuda: str | None = None
) -> Wheel | None:
    """The wheel with the newest torch, then the newest k2; among equals, for the Python named first.

    system: operating system and processor, as the platform module names them. torch, cuda: only wheels built for exactly these.
    """

    def fits(wheel: Wheel) -> bool:
        return (
            wheel.python in pythons
            and runs_on(wheel.platform, *system)
            and _numbers(wheel.torch) >= OLDEST_TORCH
            and (torch is None or wheel.torch == torch)
            and (cuda is None or wheel.cuda == cuda)
        )

    def newness(wheel: Wheel) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        return _numbers(wheel.torch), wheel.release, -list(pythons).index(wheel.python)

    return max(filter(fits, wheels), key=newness, default=None)


def runs_on(wheel_platform: str, system: str, processor: str) -> bool:
    """Whether a wheel's platform tag suits this machine (glibc's age is left to pip)."""
    name = {"Linux": "linux", "Darwin": "macosx", "Windows": "win"}[system]
    processors = {"x86_64": ("x86_64", "universal2"), "aarch64": ("aarch64",), "arm64": ("arm64", "universal2"), "AMD64": ("amd64",)}
    return name in wheel_platform and wheel_platform.endswith(processors.get(processor, (processor,)))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page")
    parser.add_argument("--python", required=True, help="comma-separated versions, the preferred one first")
    parser.add_argument("--torch", help="only wheels for this version of torch")
    parser.add_argument("--cuda", help="only wheels for this version of CUDA ('' for the CPU only)")
    args = parser.parse_args()
    try:
        with urllib.request.urlopen(args.page, timeout=TIMEOUT_SECONDS) as page:
            html = page.read().decode("utf-8", errors="replace")
    except (OSError, ValueError) as error:
        sys.exit(f"{args.page} cannot be reached ({getattr(error, 'reason', error)})")
    wheels = parse_page(html, args.page)
    wheel = choose(wheels, args.python.split(","), (platform.system(), platform.machine()), args.torch, args.cuda)
    if wheel is None:
        wanted = f"torch {args.torch} and CUDA {args.cuda or 'none'}" if args.torch else "torch >= " + ".".join(map(str, OLDEST_TORCH))
        sys.exit(f"none of the {len(wheels)} wheels of {args.page} is for Python {args.python}, {wanted} and this machine")
    print(wheel.python, wheel.torch, wheel.address)


if __name__ == "__main__":
    main()
