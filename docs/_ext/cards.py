"""The wide tables: on a narrow screen each row is a card, and its cells say what they are."""

from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

PAGES = ("errata", "ledger")


class Cards(SphinxPostTransform):
    """Write each column's heading into its cells, where only the cards show it."""

    default_priority = 950
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Label the cells, but for those of the first column and the empty ones."""
        tables = list(self.document.findall(nodes.table)) if self.env.docname in PAGES else []
        for table in tables:
            table["classes"].append("cards")
            head, *rows = table.findall(nodes.row)
            names = [entry.astext() for entry in head]
            for row in rows:
                for name, entry in list(zip(names, row, strict=True))[1:]:
                    if entry.astext():
                        entry[0].insert(0, nodes.inline("", f"{name}: ", classes=["label"]))


def setup(app: Any) -> dict[str, bool]:
    """Add the labels."""
    app.add_post_transform(Cards)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
