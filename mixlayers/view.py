"""Pictures of what mixing does, as matplotlib Figures: a mixed batch, the masks, the audit, the history.

Nothing is shown or saved: call `figure.savefig(path)`, or leave the figure as a notebook cell's last line.
"""

from mixlayers_matplotlib import __all__ as __all__
from mixlayers_matplotlib import audit as audit
from mixlayers_matplotlib import batch as batch
from mixlayers_matplotlib import history as history
from mixlayers_matplotlib import masks as masks
