"""
The saved form of the interest model: a folder of safetensors and JSON, and the name of the space that it makes.

Beside the model there may be the one that it was before it learned from its validation window.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline.errors import UnsafeModel
from pipeline.features.histories import FIRST_ITEM, Catalogue

CATALOGUE_FILE = "catalogue.json"
EARLIER_FILE = "before_validation.safetensors"


class SavedInterest:
    """The part of `InterestEvolutionModel` that is about its folder; builds on that of `PreTrainedModel`."""

    @property
    def before_validation(self) -> Self:
        """The model as it was before it learned from its validation window; itself where it never did.

        What is calibrated on that window, such as weights of a hybrid, is calibrated with this one.
        """
        return self._earlier[0] if self._earlier else self

    def keep_earlier(self, earlier: Self) -> None:
        """Remember it; in a tuple, because it is no part of this module's weights."""
        earlier.config, earlier._earlier = self.config, ()
        self._earlier = (earlier,)

    def name_space(self) -> str:
        """Give the vectors' space a name made from every weight that shapes them; kept in the config."""
        digest = hashlib.sha256(self.config.text_space_id.encode())
        for name, value in sorted(self.state_dict().items()):
            if name != "trend":
                digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        self.config.space_id = f"interest-{digest.hexdigest()[:12]}"
        return self.config.space_id

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:
        """Write `config.json`, `model.safetensors` (items' vectors and trend included) and `catalogue.json`; where
        there is an earlier model, its weights in `before_validation.safetensors`.
        """
        super().save_pretrained(save_directory, **kwargs)
        for earlier in self._earlier:
            weights = {name: value for name, value in earlier.state_dict().items() if not _is_given(name)}
            save_file({name: value.contiguous() for name, value in weights.items()},
                      Path(save_directory) / EARLIER_FILE)
        if self.catalogue is not None:
            rows = {
                "item_ids": self.catalogue.item_ids[FIRST_ITEM:],
                "titles": self.catalogue.titles[FIRST_ITEM:],
                "categories": self.catalogue.categories[FIRST_ITEM:],
            }
            (Path(save_directory) / CATALOGUE_FILE).write_text(json.dumps(rows), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args, **kwargs) -> Self:
        """Load what `save_pretrained` wrote; safetensors only.

        Raises:
            UnsafeModel: the folder lacks a file, or its parts do not fit each other.
        """
        kwargs = {"local_files_only": True, "use_safetensors": True, **kwargs}
        try:
            rows = json.loads((Path(folder) / CATALOGUE_FILE).read_text(encoding="utf-8"))
            catalogue = Catalogue.of(list(zip(rows["item_ids"], rows["titles"], rows["categories"], strict=True)))
            model = super().from_pretrained(folder, *args, **kwargs)
            if (Path(folder) / EARLIER_FILE).exists():
                earlier = cls(model.config)
                weights = load_file(Path(folder) / EARLIER_FILE)
                given = {name: value for name, value in model.state_dict().items() if _is_given(name)}
                earlier.load_state_dict({**weights, **given})
                model.keep_earlier(earlier.eval())
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise UnsafeModel(f"{folder} does not hold a complete interest model: {error}.") from error
        if catalogue.num_items != model.config.num_items:
            raise UnsafeModel(
                f"{folder}: the catalogue has {catalogue.num_items} rows, the weights {model.config.num_items}. "
                "The files are of different models; fetch the version again."
            )
        for each in (model, *model._earlier):
            each.catalogue = catalogue
        return model.eval()


def _is_given(name: str) -> bool:
    """Whether a tensor was given to the model and is not learned: it is the same before and after the final pass."""
    return name == "text_vectors" or (name.startswith("modalities.") and name.endswith(".vectors"))
