"""Pictures of what mixing does, by matplotlib; `mixlayers.view` is its face."""

import mixlayers_matplotlib._needs  # noqa: F401, I001  # first: it says the way out where matplotlib is missing

from mixlayers_matplotlib._audit import audit as audit
from mixlayers_matplotlib._batch import batch as batch
from mixlayers_matplotlib._history import history as history
from mixlayers_matplotlib._masks import masks as masks

__all__ = ["audit", "batch", "history", "masks"]
