"""The files in which other teams say what must stay true of a space: `feature_repo/probes/*.yaml`."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipeline.errors import BadSetting

REGISTERED = Path(__file__).resolve().parents[2] / "feature_repo" / "probes"


def read_probes(folder: Path = REGISTERED) -> dict[str, object]:
    """What each file says, by its name without the ending. Raises BadSetting for a file that is not YAML."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            found[path.stem] = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            where = str(error).replace("\n", " ")
            raise BadSetting(
                f"{path} cannot be read as YAML: {where}. Mend or remove it; until then nothing is promoted."
            ) from None
    return found
