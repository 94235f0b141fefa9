"""To see inside: the record of a computation drawn, and its backward sweep as the chain rule.

Both read what the engine recorded and change nothing: no gradient is set.
"""

from tinygrad_rnn.inside.drawing import Drawing, draw
from tinygrad_rnn.inside.explanation import Explanation, Step, explain

__all__ = ["Drawing", "Explanation", "Step", "draw", "explain"]
