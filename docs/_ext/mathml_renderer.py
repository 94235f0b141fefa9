"""Formulas as MathML, which browsers render by themselves: by the converter of verify's page."""

from typing import Any

from docutils import nodes

from tinygrad_rnn.proofs.mathml import html


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(html(f"${node.astext()}$"))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{html(f"$${node.astext().strip()}$$")}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Offer ``html_math_renderer = "mathml"``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
